//! What budgets count: dollars, tokens, requests.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::{Money, Tokens};

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nano-dollars.
    Dollars,
    /// Tokens, of input and output together.
    Tokens,
    /// Calls that a provider was asked for.
    Requests,
}

impl Unit {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Dollars, Self::Tokens, Self::Requests];

    /// As it is written in the ledger and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dollars => "dollars",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }
}

/// So much of something that budgets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Quantity {
    /// Of what.
    pub unit: Unit,
    /// How much: nano-dollars, tokens or requests.
    pub amount: i64,
}

impl From<Money> for Quantity {
    fn from(money: Money) -> Self {
        Self { unit: Unit::Dollars, amount: money.nanos() }
    }
}

impl From<Tokens> for Quantity {
    fn from(tokens: Tokens) -> Self {
        Self { unit: Unit::Tokens, amount: i64::try_from(tokens.0).unwrap_or(i64::MAX) }
    }
}

impl Quantity {
    /// So many requests.
    pub const fn requests(amount: i64) -> Self {
        Self { unit: Unit::Requests, amount }
    }
}

impl fmt::Display for Quantity {
    /// `$1.50`, `2000 tokens`, `1 request`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.unit, self.amount) {
            (Unit::Dollars, nanos) => Money::from_nanos(nanos).fmt(f),
            (Unit::Tokens, 1) => f.write_str("1 token"),
            (Unit::Requests, 1) => f.write_str("1 request"),
            (unit, amount) => write!(f, "{amount} {}", unit.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_shown_with_its_unit() {
        assert_eq!(Quantity::from(Money::from_nanos(1_500_000_000)).to_string(), "$1.50");
        assert_eq!(Quantity::from(Tokens(2_000)).to_string(), "2000 tokens");
        assert_eq!(Quantity::from(Tokens(1)).to_string(), "1 token");
        assert_eq!(Quantity::requests(1).to_string(), "1 request");
        assert_eq!(Quantity::from(Tokens(u64::MAX)).amount, i64::MAX, "no count becomes a credit");
    }
}
