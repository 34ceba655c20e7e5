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
    /// Input tokens that were not read from the provider's cache.
    pub input: Money,
    /// Input tokens that were.
    pub cached: Money,
    /// Output tokens.
    pub output: Money,
}

impl Rates {
    fn cost(&self, usage: &Usage) -> Money {
        let fresh = Tokens(usage.input.0.saturating_sub(usage.cached.0));
        class(self.input, fresh).plus(class(self.cached, usage.cached)).plus(class(self.output, usage.output))
    }

    fn worst_case(&self, input: Tokens, output: Tokens) -> Money {
        let dearest = Money(self.input.0.max(self.cached.0));
        class(dearest, input).plus(class(self.output, output))
    }
}

/// What a model costs. Some vendors have a second card for long prompts; it holds for every token of such a call,
/// the output's too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The usual card.
    pub rates: Rates,
    /// The card of calls with more input tokens than this, cached ones counted.
    pub long: Option<(Tokens, Rates)>,
}

impl Price {
    /// A model that costs nothing (one's own machine, the scripted provider).
    pub const FREE: Self = Self::flat(Rates { input: Money::ZERO, cached: Money::ZERO, output: Money::ZERO });

    /// One card, however long the prompt is.
    pub const fn flat(rates: Rates) -> Self {
        Self { rates, long: None }
    }

    /// The cost of `usage`, rounded up to the next nano-dollar for each class.
    pub fn cost(&self, usage: &Usage) -> Money {
        self.long_card(usage.input).unwrap_or(self.rates).cost(usage)
    }

    /// The most that a call can cost: every input token fresh, every allowed output token used, on the dearest
    /// card that so much input can come to.
    pub fn worst_case(&self, input: Tokens, output: Tokens) -> Money {
        let long = self.long_card(input).map_or(Money::ZERO, |rates| rates.worst_case(input, output));
        self.rates.worst_case(input, output).max(long)
    }

    fn long_card(&self, input: Tokens) -> Option<Rates> {
        self.long.filter(|(above, _)| input > *above).map(|(_, rates)| rates)
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

    #[test]
    fn a_cached_token_is_counted_once_and_cost_is_rounded_up() {
        let price = Price::flat(Rates {
            input: Money::from_nanos(150_000_000),
            cached: Money::from_nanos(75_000_000),
            output: Money::from_nanos(600_000_000),
        });
        let usage = Usage { input: Tokens(100), cached: Tokens(40), output: Tokens(10) };
        assert_eq!(price.cost(&usage), Money(60 * 150 + 40 * 75 + 10 * 600));
        let one = Price::flat(Rates { input: Money(1), ..Price::FREE.rates });
        assert_eq!(one.cost(&Usage { input: Tokens(1), ..Usage::default() }), Money(1));
    }

    #[test]
    fn a_long_prompt_has_a_card_of_its_own() {
        let per_token = |nanos: i64| Money(nanos * 1_000_000);
        let card = |scale| Rates {
            input: per_token(10 * scale),
            cached: per_token(scale),
            output: per_token(50 * scale),
        };
        let price = Price { rates: card(1), long: Some((Tokens(100), card(5))) };
        let usage = |input, cached| Usage { input: Tokens(input), cached: Tokens(cached), output: Tokens(2) };
        assert_eq!(price.cost(&usage(100, 40)), Money(60 * 10 + 40 + 2 * 50));
        assert_eq!(price.cost(&usage(101, 40)), Money(5 * (61 * 10 + 40 + 2 * 50)), "the output too");
        assert_eq!(price.worst_case(Tokens(100), Tokens(2)), Money(100 * 10 + 2 * 50));
        assert_eq!(price.worst_case(Tokens(101), Tokens(2)), Money(5 * (101 * 10 + 2 * 50)));
        let odd = Price { rates: card(5), long: Some((Tokens(100), card(1))) };
        assert_eq!(odd.worst_case(Tokens(101), Tokens(2)), Money(5 * (101 * 10 + 2 * 50)), "it may be less");
    }
}
