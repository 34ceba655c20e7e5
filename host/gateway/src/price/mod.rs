//! What models cost, and whence that is known.
//!
//! The table that comes with the program (`prices.toml`) is data with dates and sources; an operator's file is laid over
//! it, and the configuration over both. Each step says what it changes and leaves the rest. Of every price its version
//! is kept with the call that was charged by it. The tokens are the truth: a call can be priced anew.

mod card;
mod reprice;
mod table;

use chela_types::{Digest, Price};
use std::sync::Arc;

pub use card::{Card, Incomplete};
pub use reprice::{Repriced, reprice};
pub use table::{Known, PriceTable, TableError, Vendor};

/// A price, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff {
    /// What is charged.
    pub price: Price,
    /// Such as `builtin 2026-11-30 0123456789ab` or `configured 0123456789ab`: whence it is, its date if it has one, and
    /// a digest of what is said there.
    pub version: Arc<str>,
}

impl Tariff {
    /// Costs nothing: the scripted provider.
    pub fn free() -> Self {
        Self { price: Price::FREE, version: "free".into() }
    }

    /// A price that nobody wrote down for this model.
    pub(crate) fn assumed(price: Price) -> Self {
        Self { price, version: format!("assumed {}", digest(&price)).into() }
    }
}

impl From<Price> for Tariff {
    /// A price that the operator decided.
    fn from(price: Price) -> Self {
        Self { price, version: format!("configured {}", digest(&price)).into() }
    }
}

/// Of every number of a price.
fn digest(price: &Price) -> String {
    let cards = std::iter::once((0, price.rates)).chain(price.long().map(|card| (card.above.0, card.rates)));
    let numbers: Vec<u8> = cards
        .flat_map(|(above, rates)| {
            let amounts = [rates.input, rates.cached, rates.written, rates.output];
            let amounts = amounts.map(|amount| amount.nanos().to_le_bytes());
            [above.to_le_bytes()].into_iter().chain(amounts)
        })
        .flatten()
        .collect();
    Digest::of("chela price", &[&numbers]).short()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{LongCard, Money, Rates, Tokens};

    #[test]
    fn another_price_is_another_version() {
        let rates = |input| Rates { input: Money::from_nanos(input), ..Price::FREE.rates };
        let long = |above| {
            Price::flat(rates(1)).with_long(LongCard { above: Tokens(above), rates: rates(2) }).unwrap()
        };
        let prices = [Price::FREE, Price::flat(rates(1)), Price::flat(rates(2)), long(1), long(2)];
        let versions: std::collections::BTreeSet<_> =
            prices.iter().map(|price| Tariff::from(*price).version).collect();
        assert_eq!(versions.len(), prices.len());
        assert_eq!(Tariff::from(long(1)), Tariff::from(long(1)));
    }
}
