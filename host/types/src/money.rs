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

/// What a model costs: nano-dollars for a million tokens of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Input tokens that were not read from the provider's cache.
    pub input: Money,
    /// Input tokens that were.
    pub cached: Money,
    /// Output tokens.
    pub output: Money,
}

impl Price {
    /// A model that costs nothing (one's own machine, the scripted provider).
    pub const FREE: Self = Self { input: Money::ZERO, cached: Money::ZERO, output: Money::ZERO };

    /// The cost of `usage`, rounded up to the next nano-dollar for each class.
    pub fn cost(&self, usage: &Usage) -> Money {
        let fresh = Tokens(usage.input.0.saturating_sub(usage.cached.0));
        class(self.input, fresh).plus(class(self.cached, usage.cached)).plus(class(self.output, usage.output))
    }

    /// The most that a call can cost: every input token fresh, every allowed output token used.
    pub fn worst_case(&self, input: Tokens, output: Tokens) -> Money {
        let dearest = Money(self.input.0.max(self.cached.0));
        class(dearest, input).plus(class(self.output, output))
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
        let price = Price {
            input: Money::from_nanos(150_000_000),
            cached: Money::from_nanos(75_000_000),
            output: Money::from_nanos(600_000_000),
        };
        let usage = Usage { input: Tokens(100), cached: Tokens(40), output: Tokens(10) };
        assert_eq!(price.cost(&usage), Money(60 * 150 + 40 * 75 + 10 * 600));
        let one = Price { input: Money(1), ..Price::FREE };
        assert_eq!(one.cost(&Usage { input: Tokens(1), ..Usage::default() }), Money(1));
    }
}
