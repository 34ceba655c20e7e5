//! The ledger's calls, summed as a bill is: by UTC day and model.

use chela_types::{CacheVerdict, Millis, ModelCall, Money, Price, Usage};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::price::reprice;

/// What the ledger says of one model and one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// In UTC, by when the money was set aside.
    pub day: Date,
    /// As `provider/model`.
    pub model: String,
    /// Calls that went to the provider and may have been billed.
    pub calls: u64,
    /// Of these, those that were charged without knowing what they cost.
    pub unknown: u64,
    /// Tokens, of the calls that told them.
    pub usage: Usage,
    /// What was charged, the unknown calls' bounds included.
    pub cost: Money,
    /// What the tokens cost by the prices of today, as far as their models have one.
    pub now: Money,
}

/// Sums of calls.
#[derive(Debug, Default)]
pub struct Books(BTreeMap<(Date, String), Booked>);

impl Books {
    /// Enters a call that was charged, with the price of today for `provider/model`. What came from the cache is nothing
    /// that a provider knows of.
    pub fn enter(
        &mut self,
        (at, is_known): (Millis, bool),
        call: &ModelCall,
        price: impl Fn(&str) -> Option<Price>,
    ) {
        let asked = call.model.as_ref().or(call.attempts.last().map(|attempt| &attempt.model));
        let (Some(model), CacheVerdict::Miss | CacheVerdict::Off) = (asked, call.cache) else { return };
        let Some(day) = day(at) else { return };
        let mut rest = call.cost;
        // Who broke off sends a bill of his own, of which nobody knows more than its bound.
        for (model, lost) in &call.lost {
            let sum = self.of(day, model);
            sum.calls += 1;
            sum.unknown += 1;
            sum.cost = sum.cost.plus(*lost);
            rest = rest.minus(*lost);
        }
        if call.model.is_none() && !call.lost.is_empty() && rest == Money::ZERO {
            return;
        }
        let sum = self.of(day, model);
        sum.calls += 1;
        sum.unknown += u64::from(!is_known);
        sum.usage = sum.usage.plus(&call.usage);
        sum.cost = sum.cost.plus(rest);
        sum.now = sum.now.plus(reprice([call], price).now);
    }

    fn of(&mut self, day: Date, model: &str) -> &mut Booked {
        self.0.entry((day, model.to_owned())).or_insert_with(|| Booked {
            day,
            model: model.to_owned(),
            calls: 0,
            unknown: 0,
            usage: Usage::default(),
            cost: Money::ZERO,
            now: Money::ZERO,
        })
    }

    /// The sums, by day and model.
    pub fn sums(self) -> Vec<Booked> {
        self.0.into_values().collect()
    }
}

fn day(at: Millis) -> Option<Date> {
    let moment = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(moment.to_zoned(TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{Attempt, Rates, TierId, Tokens};

    fn call(model: Option<&str>, cache: CacheVerdict, tokens: u64) -> ModelCall {
        let attempt = Attempt {
            model: "p/tried".into(),
            class: "cut".into(),
            blame: None,
            millis: 1,
            first_token_millis: None,
        };
        ModelCall {
            model: model.map(str::to_owned),
            cache,
            attempts: vec![attempt],
            usage: Usage { input: Tokens(tokens), ..Usage::default() },
            cost: Money::from_nanos(100),
            ..ModelCall::new(TierId::new("fast").unwrap())
        }
    }

    /// One model broke off, another answered: each is booked what it may be billed, and nobody the other's.
    #[test]
    fn what_failed_is_booked_to_who_failed() {
        let lost = [("p/first".to_owned(), Money::from_nanos(90))].into();
        let answered = ModelCall { lost, ..call(Some("p/m"), CacheVerdict::Miss, 3) };
        let lost =
            [("p/first", 60), ("p/tried", 40)].map(|(of, nanos)| (of.to_owned(), Money::from_nanos(nanos)));
        let failed = ModelCall { lost: lost.into(), ..call(None, CacheVerdict::Miss, 0) };
        let mut books = Books::default();
        books.enter((Millis(0), true), &answered, |_| None);
        books.enter((Millis(0), false), &failed, |_| None);
        let told = |sum: &Booked| (sum.model.clone(), sum.calls, sum.unknown, sum.cost.nanos());
        let expected = [("p/first", 2, 2, 150), ("p/m", 1, 0, 10), ("p/tried", 1, 1, 40)];
        let expected = expected.map(|(model, calls, unknown, cost)| (model.to_owned(), calls, unknown, cost));
        assert_eq!(books.sums().iter().map(told).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn calls_are_summed_by_utc_day_and_model() {
        const MIDNIGHT: i64 = 1_795_824_000_000;
        let token = Money::from_nanos(2_000_000);
        let price = |_: &str| Some(Price::flat(Rates { input: token, ..Price::FREE.rates }));
        let mut books = Books::default();
        for (at, is_known, call) in [
            (MIDNIGHT - 1, true, call(Some("p/m"), CacheVerdict::Miss, 3)),
            (MIDNIGHT, true, call(Some("p/m"), CacheVerdict::Miss, 5)),
            (MIDNIGHT + 1, false, call(Some("p/m"), CacheVerdict::Off, 0)),
            (MIDNIGHT + 2, true, call(Some("p/m"), CacheVerdict::Hit, 5)),
            (MIDNIGHT + 3, true, call(Some("p/m"), CacheVerdict::Joined, 5)),
            (MIDNIGHT + 4, false, call(None, CacheVerdict::Miss, 0)),
        ] {
            books.enter((Millis(at), is_known), &call, price);
        }
        let sums = books.sums();
        let told = |sum: &Booked| {
            let numbers = (sum.calls, sum.unknown, sum.usage.input.0, sum.cost.nanos(), sum.now.nanos());
            (sum.day.to_string(), sum.model.clone(), numbers)
        };
        let expected = [
            ("2026-11-27", "p/m", (1, 0, 3, 100, 6)),
            ("2026-11-28", "p/m", (2, 1, 5, 200, 10)),
            ("2026-11-28", "p/tried", (1, 1, 0, 100, 0)),
        ];
        let expected = expected.map(|(day, model, numbers)| (day.to_owned(), model.to_owned(), numbers));
        assert_eq!(sums.iter().map(told).collect::<Vec<_>>(), expected);
    }
}
