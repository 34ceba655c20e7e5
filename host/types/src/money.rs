//! Money in integer nano-dollars: a cached token can cost 10⁻⁸ dollars, and floats do not add up.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::{Tokens, Usage};

/// An amount in nano-dollars (10⁻⁹ US dollars). Arithmetic saturates: a sum never wraps into credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// More than anyone has.
    pub const MAX: Self = Self(i64::MAX);

    /// From nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// As nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// From a decimal amount of dollars such as `12.50`; at most nine decimals, not negative.
    pub fn parse_dollars(text: &str) -> Option<Self> {
        let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let part: i64 = format!("{part:0<9}").parse().ok()?;
        whole.checked_mul(1_000_000_000)?.checked_add(part).map(Self)
    }

    /// The sum, at most [`Money::MAX`].
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        let difference = self.0.saturating_sub(other.0);
        Self(if difference < 0 { 0 } else { difference })
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Money {
    /// Dollars with as many decimals as it takes, two at least: `$0.00`, `$0.000135`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let decimals = format!("{:09}", nanos % 1_000_000_000);
        let trimmed = decimals.trim_end_matches('0');
        let shown = decimals.get(..trimmed.len().max(2)).unwrap_or(trimmed);
        write!(f, "{sign}${}.{shown}", nanos / 1_000_000_000)
    }
}

/// Nano-dollars for a million tokens of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Input tokens that were neither read from the provider's cache nor written to it.
    pub input: Money,
    /// Input tokens that were read from it.
    pub cached: Money,
    /// Input tokens that were written to it.
    pub written: Money,
    /// Output tokens.
    pub output: Money,
}

impl Rates {
    fn cost(&self, usage: &Usage) -> Money {
        class(self.input, usage.fresh())
            .plus(class(self.cached, usage.cached))
            .plus(class(self.written, usage.written))
            .plus(class(self.output, usage.output))
    }

    /// Every input token of the dearest class. A token's part of a nano-dollar is counted as a whole one: the classes
    /// of a real call are rounded up one by one.
    fn worst_case(&self, input: Tokens, output: Tokens) -> Money {
        let dearest = self.input.max(self.cached).max(self.written);
        let for_each = class(dearest, Tokens(1)).0;
        let all = i128::from(for_each) * i128::from(input.0);
        Money(i64::try_from(all).unwrap_or(i64::MAX)).plus(class(self.output, output))
    }
}

/// Cards for long prompts that one price may have.
pub const LONG_CARDS_MAX: usize = 3;

/// A card for long prompts; it holds for every token of such a call, the output's too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongCard {
    /// For calls with more input tokens than this, cached ones counted.
    pub above: Tokens,
    /// What they cost.
    pub rates: Rates,
}

/// What a model costs. Some vendors have further cards for long prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The usual card.
    pub rates: Rates,
    /// Those for long prompts, the shortest first, without a gap.
    long: [Option<LongCard>; LONG_CARDS_MAX],
}

impl Price {
    /// A model that costs nothing (one's own machine, the scripted provider).
    pub const FREE: Self = Self::flat(Rates {
        input: Money::ZERO,
        cached: Money::ZERO,
        written: Money::ZERO,
        output: Money::ZERO,
    });

    /// One card, however long the prompt is.
    pub const fn flat(rates: Rates) -> Self {
        Self { rates, long: [None; LONG_CARDS_MAX] }
    }

    /// With one more card for prompts that are longer still. Nothing if it is for shorter ones than the card before
    /// it, or if there are [`LONG_CARDS_MAX`] already.
    #[must_use]
    pub fn with_long(mut self, card: LongCard) -> Option<Self> {
        if self.long().last().is_some_and(|last| card.above <= last.above) {
            return None;
        }
        *self.long.iter_mut().find(|place| place.is_none())? = Some(card);
        Some(self)
    }

    /// The cards for long prompts, the shortest first.
    pub fn long(&self) -> impl Iterator<Item = LongCard> {
        self.long.into_iter().flatten()
    }

    /// The cost of `usage`, rounded up to the next nano-dollar for each class.
    pub fn cost(&self, usage: &Usage) -> Money {
        self.cards(usage.input).last().unwrap_or(self.rates).cost(usage)
    }

    /// The most that a call can cost: every input token of the dearest class, every allowed output token used, on
    /// the dearest card that so much input can come to.
    pub fn worst_case(&self, input: Tokens, output: Tokens) -> Money {
        self.cards(input).map(|rates| rates.worst_case(input, output)).max().unwrap_or(Money::ZERO)
    }

    /// The cards that a call of at most so much input can come to; the last one, if it is so much.
    fn cards(&self, input: Tokens) -> impl Iterator<Item = Rates> {
        let long = self.long().filter(move |card| input > card.above).map(|card| card.rates);
        std::iter::once(self.rates).chain(long)
    }
}

fn class(per_million: Money, tokens: Tokens) -> Money {
    let nanos = i128::from(per_million.0) * i128::from(tokens.0);
    let rounded_up = nanos.div_euclid(1_000_000) + i128::from(nanos.rem_euclid(1_000_000) > 0);
    Money(i64::try_from(rounded_up).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dollars_are_read_exactly() {
        assert_eq!(Money::parse_dollars("0.15"), Some(Money(150_000_000)));
        assert_eq!(Money::parse_dollars("3"), Some(Money(3_000_000_000)));
        assert_eq!(Money::parse_dollars("0.000000001"), Some(Money(1)));
        for bad in ["", "-1", "1e3", ".5", "1.0000000001", "NaN", "99999999999999999999"] {
            assert_eq!(Money::parse_dollars(bad), None, "{bad}");
        }
    }

    #[test]
    fn money_is_shown_as_a_person_reads_it() {
        assert_eq!(Money(0).to_string(), "$0.00");
        assert_eq!(Money(1_500_000_000).to_string(), "$1.50");
        assert_eq!(Money(135_000).to_string(), "$0.000135");
    }

    const fn rates(input: i64, cached: i64, written: i64, output: i64) -> Rates {
        Rates { input: Money(input), cached: Money(cached), written: Money(written), output: Money(output) }
    }

    fn usage(input: u64, cached: u64, written: u64, output: u64) -> Usage {
        let (cached, written) = (Tokens(cached), Tokens(written));
        Usage { input: Tokens(input), cached, written, output: Tokens(output) }
    }

    #[test]
    fn each_token_is_counted_in_one_class_and_each_class_rounded_up() {
        let price = Price::flat(rates(150_000_000, 75_000_000, 187_500_000, 600_000_000));
        let cost = 50 * 150 + 40 * 75 + 1_875 + 10 * 600;
        assert_eq!(price.cost(&usage(100, 40, 10, 10)), Money(cost));
        let tiny = Price::flat(rates(1, 1, 1, 1));
        for (used, nanos) in [((1, 0, 0, 0), 1), ((3, 1, 1, 1), 4), ((0, 0, 0, 0), 0)] {
            assert_eq!(tiny.cost(&usage(used.0, used.1, used.2, used.3)), Money(nanos), "{used:?}");
        }
    }

    #[test]
    fn the_worst_case_takes_the_dearest_class_of_input() {
        for dearest in [rates(9_000_000, 1, 1, 0), rates(1, 9_000_000, 1, 0), rates(1, 1, 9_000_000, 0)] {
            assert_eq!(Price::flat(dearest).worst_case(Tokens(10), Tokens(5)), Money(90));
        }
    }

    /// A price with one card more for each threshold, which is so many times as dear.
    fn tiered(long: &[(u64, i64)]) -> Option<Price> {
        let card =
            |scale: i64| rates(10_000_000 * scale, 1_000_000 * scale, 12_000_000 * scale, 50_000_000 * scale);
        long.iter().try_fold(Price::flat(card(1)), |price, (above, scale)| {
            price.with_long(LongCard { above: Tokens(*above), rates: card(*scale) })
        })
    }

    #[test]
    fn a_long_prompt_has_a_card_of_its_own() {
        let price = tiered(&[(100, 5), (200, 7)]).unwrap();
        for (input, scale) in [(100, 1), (101, 5), (200, 5), (201, 7), (10_000, 7)] {
            let tokens = i64::try_from(input).unwrap();
            let cost = scale * ((tokens - 40) * 10 + 40 + 2 * 50);
            assert_eq!(price.cost(&usage(input, 40, 0, 2)), Money(cost), "{input}: the output too");
            let worst = scale * (tokens * 12 + 2 * 50);
            assert_eq!(price.worst_case(Tokens(input), Tokens(2)), Money(worst), "{input}");
        }
        let odd = tiered(&[(100, 5), (200, 2)]).unwrap();
        assert_eq!(odd.worst_case(Tokens(201), Tokens(0)), Money(5 * 201 * 12), "it may be less");
    }

    #[test]
    fn cards_for_long_prompts_stand_in_order() {
        for bad in
            [&[(100, 5), (100, 6)][..], &[(200, 5), (100, 6)], &[(1, 2), (2, 2), (3, 2), (4, 2), (5, 2)]]
        {
            assert_eq!(tiered(bad), None, "{bad:?}");
        }
        let thresholds: Vec<u64> =
            tiered(&[(1, 2), (5, 3)]).unwrap().long().map(|card| card.above.0).collect();
        assert_eq!(thresholds, [1, 5]);
    }

    fn any_rates() -> impl Strategy<Value = Rates> {
        // From a part of a nano-dollar to a thousand dollars for a million tokens.
        let rate = || prop_oneof![0..2_000_000i64, 0..1_000_000_000_000i64];
        (rate(), rate(), rate(), rate())
            .prop_map(|(input, cached, written, output)| rates(input, cached, written, output))
    }

    fn any_price() -> impl Strategy<Value = Price> {
        let cards = proptest::collection::btree_map(0..400_000u64, any_rates(), 0..=LONG_CARDS_MAX);
        (any_rates(), cards).prop_map(|(rates, cards)| {
            let card = |(above, rates)| LongCard { above: Tokens(above), rates };
            cards.into_iter().map(card).fold(Price::flat(rates), |price, card| price.with_long(card).unwrap())
        })
    }

    proptest! {
        #[test]
        fn no_call_costs_more_than_its_worst_case(
            price in any_price(),
            bound in (1..1_000_000u64, 0..200_000u64),
            shares in (0.0..=1.0f64, 0.0..=1.0f64, 0.0..=1.0f64, 0.0..=1.0f64),
        ) {
            let of = |all: u64, share: f64| (all as f64 * share) as u64;
            let input = of(bound.0, shares.0);
            let cached = of(input, shares.1);
            let used = usage(input, cached, of(input - cached, shares.2), of(bound.1, shares.3));
            prop_assert!(used.is_consistent());
            let (cost, worst) = (price.cost(&used), price.worst_case(Tokens(bound.0), Tokens(bound.1)));
            prop_assert!(Money::ZERO <= cost && cost <= worst, "{cost:?} of {worst:?}");
        }

        #[test]
        fn a_cost_is_never_a_credit(price in any_price(), used in any::<(u64, u64, u64, u64)>()) {
            let used = usage(used.0, used.1, used.2, used.3);
            prop_assert!(price.cost(&used) >= Money::ZERO);
            prop_assert!(price.worst_case(used.input, used.output) >= Money::ZERO);
        }
    }
}
