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
    let mut books = Books::default();
    let mut after = 0;
    loop {
        let page = store.charged(times, after, PAGE).await?;
        for charged in &page {
            books.enter((charged.at, charged.state == SettledAs::Settled), &charged.call, &price);
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.seq,
            _ => break,
        }
    }
    let report = compare(&bill.provider, (&books.sums(), &bill.billed), bill.bound);
    report.raise();
    Ok(report)
}

/// Midnight in UTC; a day that no clock reaches begins at the end of time.
fn begin(day: Date) -> Millis {
    let midnight = day.to_zoned(TimeZone::UTC);
    Millis(midnight.map_or(i64::MAX, |midnight| midnight.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        assert_eq!(begin(Date::new(2026, 11, 28).unwrap()), Millis(1_795_824_000_000));
        assert!(begin(Date::MAX) <= Millis(i64::MAX));
    }
}
