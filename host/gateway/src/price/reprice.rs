//! Recorded calls at other prices.
//!
//! What a call used is kept beside what it was charged. So a price that was wrong is put right in the configuration, and
//! what the calls should have cost is counted from their tokens; the amounts that were charged stay as they are, because
//! budgets were kept by them.

use chela_types::{ModelCall, Money, Price, Usage};
use std::collections::BTreeSet;

/// What recorded calls cost by other prices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repriced {
    /// Calls whose tokens are known and whose model has a price.
    pub calls: u64,
    /// What these were charged, with what failed before they were answered.
    pub charged: Money,
    /// What the answers cost now.
    pub now: Money,
    /// Of these calls, those that were tried more than once: a part of their charge may be a failed attempt's, which
    /// no price can tell again.
    pub tried_again: u64,
    /// What was charged for calls whose tokens nobody told; it stays.
    pub by_bound: Money,
    /// `provider/model` of calls that are in no price list.
    pub unpriced: BTreeSet<String>,
}

/// Counts what `calls` cost by `price`, which is asked for `provider/model`.
pub fn reprice<'c>(
    calls: impl IntoIterator<Item = &'c ModelCall>,
    price: impl Fn(&str) -> Option<Price>,
) -> Repriced {
    calls.into_iter().fold(Repriced::default(), |mut sum, call| {
        let Some(model) = call.model.as_deref().filter(|_| call.usage != Usage::default()) else {
            sum.by_bound = sum.by_bound.plus(call.cost);
            return sum;
        };
        match price(model) {
            Some(price) => {
                sum.calls += 1;
                sum.charged = sum.charged.plus(call.cost);
                sum.now = sum.now.plus(price.cost(&call.usage));
                sum.tried_again += u64::from(call.attempts.len() > 1);
            }
            None => {
                sum.unpriced.insert(model.to_owned());
            }
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{Attempt, Rates, TierId, Tokens};

    fn call(model: Option<&str>, tokens: u64, cost: i64, attempts: usize) -> ModelCall {
        let attempt = Attempt {
            model: "p/m".into(),
            class: "ok".into(),
            blame: None,
            millis: 1,
            first_token_millis: None,
        };
        ModelCall {
            model: model.map(str::to_owned),
            attempts: vec![attempt; attempts],
            usage: Usage { input: Tokens(tokens), output: Tokens(tokens), ..Usage::default() },
            reserved: Money::MAX,
            cost: Money::from_nanos(cost),
            ..ModelCall::new(TierId::new("fast").unwrap())
        }
    }

    #[test]
    fn tokens_are_priced_anew_and_bounds_are_not() {
        let per_token = |nanos: i64| Money::from_nanos(nanos * 1_000_000);
        let price = Price::flat(Rates { input: per_token(2), output: per_token(3), ..Price::FREE.rates });
        let calls = [
            call(Some("p/m"), 10, 700, 1),
            call(Some("p/m"), 1, 9, 2),
            call(Some("p/m"), 0, 40, 1),
            call(None, 0, 2, 1),
            call(Some("p/old"), 5, 5, 1),
        ];
        let sum = reprice(&calls, |model| (model == "p/m").then_some(price));
        let expected = Repriced {
            calls: 2,
            charged: Money::from_nanos(709),
            now: Money::from_nanos(55),
            tried_again: 1,
            by_bound: Money::from_nanos(42),
            unpriced: ["p/old".to_owned()].into(),
        };
        assert_eq!(sum, expected);
    }
}
