//! A price as somebody writes it: what is left out is as it was.

use chela_types::{LongCard, Money, Price, Rates};

/// Amounts for a million tokens; absent ones are not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Input tokens.
    pub input: Option<Money>,
    /// Input read from the provider's cache; without a card below as much as the others.
    pub cached: Option<Money>,
    /// Input written to it; without a card below as much as the others.
    pub written: Option<Money>,
    /// Output tokens.
    pub output: Option<Money>,
    /// Cards for long prompts, all of them: an empty list takes away those below.
    pub long: Option<Vec<LongCard>>,
}

/// What a card lacks to be a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// Nobody says what input costs.
    #[error("`input` is missing")]
    Input,
    /// Nobody says what output costs.
    #[error("`output` is missing")]
    Output,
    /// The card of this number, from zero, is not for longer prompts than the one before it, or is one too many.
    #[error(
        "card {0} of `long`: each is `above` more tokens than the one before, and there are {max} at most",
        max = chela_types::LONG_CARDS_MAX
    )]
    Long(usize),
}

impl Card {
    /// The price that comes of it, field by field over the one below if there is one.
    ///
    /// # Errors
    /// [`Incomplete`] with the field that neither has.
    pub fn over(&self, below: Option<&Price>) -> Result<Price, Incomplete> {
        let under = |rate: fn(&Rates) -> Money| below.map(|price| rate(&price.rates));
        let input = self.input.or(under(|rates| rates.input)).ok_or(Incomplete::Input)?;
        let rates = Rates {
            input,
            cached: self.cached.or(under(|rates| rates.cached)).unwrap_or(input),
            written: self.written.or(under(|rates| rates.written)).unwrap_or(input),
            output: self.output.or(under(|rates| rates.output)).ok_or(Incomplete::Output)?,
        };
        let long = match (&self.long, below) {
            (Some(long), _) => long.clone(),
            (None, Some(price)) => price.long().collect(),
            (None, None) => Vec::new(),
        };
        long.into_iter().enumerate().try_fold(Price::flat(rates), |price, (index, card)| {
            price.with_long(card).ok_or(Incomplete::Long(index))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::Tokens;

    const fn money(nanos: i64) -> Option<Money> {
        Some(Money::from_nanos(nanos))
    }

    fn long(above: u64) -> LongCard {
        LongCard { above: Tokens(above), rates: Price::FREE.rates }
    }

    #[test]
    fn what_is_left_out_is_as_it_was() {
        let whole = Card { input: money(10), cached: money(1), output: money(50), ..Card::default() };
        let below = Card { long: Some(vec![long(5)]), ..whole }.over(None).unwrap();
        assert_eq!(below.rates.written, Money::from_nanos(10), "as much as the others");
        let over = Card { input: money(20), ..Card::default() }.over(Some(&below)).unwrap();
        assert_eq!(over.rates, Rates { input: Money::from_nanos(20), ..below.rates });
        assert!(over.long().eq(below.long()));
        let none = Card { long: Some(Vec::new()), ..Card::default() }.over(Some(&below)).unwrap();
        assert_eq!(none, Price::flat(below.rates));
    }

    #[test]
    fn a_card_alone_has_to_say_enough() {
        let card = |input, output, long: &[LongCard]| {
            Card { input, output, long: Some(long.to_vec()), ..Card::default() }.over(None)
        };
        assert_eq!(card(None, money(1), &[]), Err(Incomplete::Input));
        assert_eq!(card(money(1), None, &[]), Err(Incomplete::Output));
        assert_eq!(card(money(1), money(1), &[long(2), long(2)]), Err(Incomplete::Long(1)));
        assert!(card(money(1), money(1), &[long(2), long(3)]).is_ok());
    }
}
