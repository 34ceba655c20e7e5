//! A provider's bill held against what the store keeps.

use chela_gateway::reconcile::{Billed, Books, Bound, Report, compare};
use chela_store::{SettledAs, Store};
use chela_types::{Millis, Price};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Calls that are read at once.
const PAGE: usize = 1_000;

/// What is to be held against the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bill {
    /// The provider, as the configuration calls it.
    pub provider: String,
    /// What it says.
    pub billed: Vec<Billed>,
    /// By how much both may differ.
    pub bound: Bound,
}

/// Reads the ledger's calls of the bill's days and compares; tells the log and the metrics of each drift.
///
/// # Errors
/// Those of the store.
pub async fn reconcile(
    store: &Store,
    bill: &Bill,
    price: impl Fn(&str) -> Option<Price>,
) -> Result<Report, chela_store::Error> {
    let days = || bill.billed.iter().map(|billed| billed.day);
    let (Some(first), Some(last)) = (days().min(), days().max()) else {
        return Ok(compare(&bill.provider, (&[], &[]), bill.bound));
    };
    let times = (begin(first), last.checked_add(1.day()).map_or(Millis(i64::MAX), begin));
    let books = books(store, times, (PAGE, price)).await?;
    let report = compare(&bill.provider, (&books.sums(), &bill.billed), bill.bound);
    report.raise();
    Ok(report)
}

/// The ledger's calls of a time, read so many at once.
async fn books(
    store: &Store,
    times: (Millis, Millis),
    (page_max, price): (usize, impl Fn(&str) -> Option<Price>),
) -> Result<Books, chela_store::Error> {
    let mut books = Books::default();
    let mut after = 0;
    loop {
        let page = store.charged(times, after, page_max).await?;
        for charged in &page {
            books.enter((charged.at, charged.state == SettledAs::Settled), &charged.call, &price);
        }
        match page.last() {
            Some(last) if page.len() == page_max => after = last.seq,
            _ => return Ok(books),
        }
    }
}

/// Midnight in UTC; a day that no clock reaches begins at the end of time.
fn begin(day: Date) -> Millis {
    let midnight = day.to_zoned(TimeZone::UTC);
    Millis(midnight.map_or(i64::MAX, |midnight| midnight.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_store::{Reserve, Settlement, Used};
    use chela_types::{ManualClock, ModelCall, Money, Rates, TenantId, TierId, Tokens, Usage};
    use std::sync::Arc;
    use std::time::Duration;

    const MIDNIGHT: Millis = Millis(1_795_824_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(begin(Date::new(2026, 11, 28).unwrap()), MIDNIGHT);
        assert!(begin(Date::MAX) <= Millis(i64::MAX));
    }

    async fn charge(store: &Store, tokens: u64) {
        let reserve = Reserve {
            lease: None,
            tenant: TenantId::default_tenant(),
            turn: None,
            scopes: Vec::new(),
            amount: Money::from_nanos(1_000),
            model: "fast".to_owned(),
        };
        let cost = Money::from_nanos(i64::try_from(tokens).unwrap());
        let call = ModelCall {
            model: Some("openai/m".to_owned()),
            usage: Usage { input: Tokens(tokens), ..Usage::default() },
            reserved: reserve.amount,
            cost,
            ..ModelCall::new(TierId::new("fast").unwrap())
        };
        let id = store.reserve(reserve).await.unwrap();
        let settlement = Settlement {
            used: Used { cost, ..Used::default() },
            call: Some(call),
            state: SettledAs::Settled,
        };
        store.settle(id, settlement).await.unwrap();
    }

    #[tokio::test]
    async fn the_days_of_a_bill_are_held_against_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Millis(MIDNIGHT.0 - 1));
        let config = chela_store::Config::new(folder.path());
        let store = Store::open(config, Arc::new(clock.clone())).await.unwrap();
        charge(&store, 100).await;
        clock.advance(Duration::from_millis(1));
        for _ in 0..4 {
            charge(&store, 1).await;
        }
        clock.advance(DAY);
        charge(&store, 100).await;
        let bill = |tokens| Bill {
            provider: "openai".to_owned(),
            billed: vec![Billed {
                day: Date::new(2026, 11, 28).unwrap(),
                model: Some("m-2026-01-01".to_owned()),
                usage: Some(Usage { input: Tokens(tokens), ..Usage::default() }),
                cost: None,
                requests: None,
            }],
            bound: Bound::USUAL,
        };
        let input = Money::from_nanos(2_000_000);
        let price = |_: &str| Some(Price::flat(Rates { input, ..Price::FREE.rates }));
        let report = reconcile(&store, &bill(4), price).await.unwrap();
        assert_eq!(report.drifts().count(), 0, "{report:?}");
        let day = report.days.first().unwrap();
        assert_eq!((day.calls, day.now.nanos()), (4, 8), "{report:?}");
        let report = reconcile(&store, &bill(5), price).await.unwrap();
        assert_eq!(report.drifts().count(), 1, "{report:?}");
        for page_max in 1..6 {
            let books = books(&store, (MIDNIGHT, Millis(i64::MAX)), (page_max, price)).await.unwrap();
            let calls: u64 = books.sums().iter().map(|sum| sum.calls).sum();
            assert_eq!(calls, 5, "{page_max} at once");
        }
    }
}
