//! What known models cost at their vendors' own addresses, in US dollars for a million tokens.
//!
//! As listed in November 2026 in `model_prices_and_context_window_backup.json` of litellm 1.109.1 (MIT); the card
//! for long prompts, which that list leaves out, as in the vendor's own overview of the model. The others have one
//! card as this host asks them (Claude Sonnet 4.5 has a second one behind a beta header that is never sent).
//! A model that is not here has to be priced in the configuration: a guess would let a budget be overspent.
//! Exact names only, because dated snapshots of one model have had different prices.

use chela_types::{Money, Price, Rates, Tokens};

use super::raw::ProviderKind;

/// Kind, model, input, input from the provider's cache, output.
const KNOWN: &[(ProviderKind, &str, &str, &str, &str)] = &[
    (ProviderKind::Anthropic, "claude-haiku-4-5", "1.00", "0.10", "5.00"),
    (ProviderKind::Anthropic, "claude-haiku-5-5", "0.10", "0.01", "0.50"),
    (ProviderKind::Anthropic, "claude-sonnet-4-5", "3.00", "0.30", "15.00"),
    (ProviderKind::Anthropic, "claude-sonnet-4-6", "3.00", "0.30", "15.00"),
    (ProviderKind::Anthropic, "claude-sonnet-5", "2.00", "0.20", "10.00"),
    (ProviderKind::Anthropic, "claude-sonnet-5-5", "2.00", "0.10", "10.00"),
    (ProviderKind::Openai, "gpt-4o", "2.50", "1.25", "10.00"),
    (ProviderKind::Openai, "gpt-4o-mini", "0.15", "0.075", "0.60"),
];

/// Model, and its card for prompts of more than so many tokens: input, input from the cache, output.
const LONG: &[(&str, u64, &str, &str, &str)] = &[("claude-haiku-5-5", 100_000, "0.50", "0.05", "2.50")];

/// The price of `model` at the vendor of `kind`.
pub(super) fn known(kind: ProviderKind, model: &str) -> Option<Price> {
    let (.., input, cached, output) = KNOWN.iter().find(|(k, m, ..)| *k == kind && *m == model)?;
    let long = match LONG.iter().find(|(m, ..)| *m == model) {
        Some((_, above, input, cached, output)) => Some((Tokens(*above), rates(input, cached, output)?)),
        None => None,
    };
    Some(Price { rates: rates(input, cached, output)?, long })
}

fn rates(input: &str, cached: &str, output: &str) -> Option<Rates> {
    Some(Rates {
        input: Money::parse_dollars(input)?,
        cached: Money::parse_dollars(cached)?,
        output: Money::parse_dollars(output)?,
    })
}

/// The models with a known price.
pub(super) fn models(kind: ProviderKind) -> impl Iterator<Item = &'static str> + Clone {
    KNOWN.iter().filter(move |(k, ..)| *k == kind).map(|(_, model, ..)| *model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_can_be_read() {
        for (kind, model, ..) in KNOWN {
            let price = known(*kind, model).unwrap();
            for card in [Some(price.rates), price.long.map(|(_, card)| card)].into_iter().flatten() {
                assert!(card.cached <= card.input && card.input <= card.output, "{model}");
            }
        }
        assert!(LONG.iter().all(|(long, ..)| KNOWN.iter().any(|(_, model, ..)| model == long)));
    }

    #[test]
    fn a_long_prompt_is_paid_by_the_card_for_long_prompts() {
        let price = known(ProviderKind::Anthropic, "claude-haiku-5-5").unwrap();
        let cost = |tokens| price.worst_case(Tokens(tokens), Tokens(1_000));
        assert_eq!(cost(100_000).to_string(), "$0.0105");
        assert_eq!(cost(100_001).to_string(), "$0.0525005");
    }
}
