//! `prices` and `provider.NAME.price`: the table that comes with the program, and what is laid over it.

use chela_gateway::price::{Card, Incomplete, PriceTable, TableError, Tariff, Vendor};
use chela_types::{LongCard, Money, Rates, Tokens};
use std::collections::BTreeMap;

use super::{At, Resolver, dotted};
use crate::config::problem::{Code, Note};
use crate::config::raw::{self, Raw};

const HELP: &str = "nothing is known of this model at this address: it needs `input` and `output`";

impl Resolver<'_> {
    /// What is known of models, with the file of `[prices]` over it. A file that cannot be read is a mistake, with which
    /// nothing starts; what it was to replace is looked at only to find others.
    pub(super) fn known_prices(&mut self, raw: &Raw) -> PriceTable {
        let at: At<'_> = &["prices", "file"];
        let mut table = PriceTable::default();
        match PriceTable::builtin() {
            Ok(builtin) => table = builtin,
            Err(error) => self.no_table(at, "what comes with the program", &error),
        }
        let Some(file) = &raw.prices.file else { return table };
        let Some((path, text)) = self.text_file(at, file) else { return table };
        match table.overlaid(&text) {
            Ok(overlaid) => overlaid,
            Err(error) => {
                let name = self.shown(&path);
                self.no_table(at, &name, &error);
                table
            }
        }
    }

    fn no_table(&mut self, at: At<'_>, name: &str, error: &TableError) {
        let note = Note::new(Code::WrongValue, format!("{name} is no table of prices: {error}"), "this file");
        let help = "it has the form of the table that comes with Chela: `[VENDOR.\"MODEL\"]` with `as_of`, `source`, \
                    and amounts as texts";
        self.fail(at, note.help(help));
    }

    /// The prices that a provider's table gives, and those known of other models that chains use.
    pub(super) fn prices(
        &mut self,
        raw: &Raw,
        (name, provider): (&str, &raw::Provider),
        known: &PriceTable,
    ) -> BTreeMap<String, Tariff> {
        let mut prices = BTreeMap::new();
        for (model, price) in &provider.price {
            let at: At<'_> = &["provider", name, "price", model];
            let below = vendor(provider).and_then(|vendor| known.known(vendor, model));
            let Some(card) = self.card(at, price) else { continue };
            match card.over(below.map(|known| &known.tariff.price)) {
                Ok(price) => {
                    prices.insert(model.clone(), Tariff::from(price));
                }
                Err(Incomplete::Input) => self.missing(at, "input", HELP),
                Err(Incomplete::Output) => self.missing(at, "output", HELP),
                Err(Incomplete::Long(index)) => {
                    self.disorder(&[at, &["long", &index.to_string(), "above"]].concat())
                }
            }
        }
        let answers = raw.tier.values().flat_map(|tier| &tier.chain).map(|entry| (entry, false));
        let vectors = raw.embedding.chain.iter().map(|entry| (entry, true));
        for (entry, embeds) in answers.chain(vectors) {
            let Some((owner, model)) = entry.split_once('/') else { continue };
            if owner == name && !provider.price.contains_key(model) {
                let price = vendor_price(provider, (model, embeds), known);
                prices.extend(price.map(|price| (model.to_owned(), price)));
            }
        }
        prices
    }

    fn card(&mut self, at: At<'_>, price: &raw::Price) -> Option<Card> {
        let long = price.long.as_ref().map(|cards| {
            let each = |(index, card): (usize, &raw::LongPrice)| {
                self.long_card(&[at, &["long", &index.to_string()]].concat(), card)
            };
            cards.iter().enumerate().map(each).collect::<Vec<_>>()
        });
        let mut amount = |key, text: &Option<String>| match text {
            Some(text) => self.dollars(&[at, &[key]].concat(), text).map(Some),
            None => Some(None),
        };
        let (input, cached) = (amount("input", &price.input), amount("cached", &price.cached));
        let (written, output) = (amount("written", &price.written), amount("output", &price.output));
        let long = match long {
            Some(cards) => Some(cards.into_iter().collect::<Option<Vec<_>>>()?),
            None => None,
        };
        Some(Card { input: input?, cached: cached?, written: written?, output: output?, long })
    }

    fn long_card(&mut self, at: At<'_>, card: &raw::LongPrice) -> Option<LongCard> {
        let mut amount = |key, text: &str| -> Option<Money> { self.dollars(&[at, &[key]].concat(), text) };
        let (input, output) = (amount("input", &card.input), amount("output", &card.output));
        let mut or_input = |key, text: &Option<String>| text.as_ref().map_or(input, |text| amount(key, text));
        let (cached, written) = (or_input("cached", &card.cached), or_input("written", &card.written));
        let rates = Rates { input: input?, cached: cached?, written: written?, output: output? };
        Some(LongCard { above: Tokens(card.above), rates })
    }

    fn disorder(&mut self, at: At<'_>) {
        let message = format!("`{}` is not above that of the card before", dotted(at));
        let note = Note::new(Code::WrongValue, message, "not above");
        self.fail(
            at,
            note.help("the cards for long prompts stand in the order of their length, the shortest first"),
        );
    }
}

/// Whose own address a provider has; another address has its own prices.
pub(super) fn vendor(provider: &raw::Provider) -> Option<Vendor> {
    match provider.kind {
        raw::ProviderKind::Openai if provider.url.is_none() => Some(Vendor::Openai),
        raw::ProviderKind::Anthropic if provider.url.is_none() => Some(Vendor::Anthropic),
        _ => None,
    }
}

/// What is known of a model that answers, or of one that makes vectors, at its vendor's own address.
pub(super) fn vendor_price(
    provider: &raw::Provider,
    (model, embeds): (&str, bool),
    known: &PriceTable,
) -> Option<Tariff> {
    if provider.kind == raw::ProviderKind::Scripted {
        return Some(Tariff::free());
    }
    let known = known.known(vendor(provider)?, model)?;
    (known.is_embedding == embeds).then(|| known.tariff.clone())
}
