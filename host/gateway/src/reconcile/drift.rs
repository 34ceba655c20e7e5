//! How far ledger and bill are apart.

use chela_types::{Money, Usage};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Billed, Booked};

/// The share by which both may differ, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bound(u32);

impl Bound {
    /// One in a hundred.
    pub const USUAL: Self = Self(10_000);

    fn allows(self, ledger: u64, billed: u64) -> bool {
        u128::from(ledger.abs_diff(billed)) * 1_000_000 <= u128::from(billed) * u128::from(self.0)
    }
}

impl FromStr for Bound {
    type Err = &'static str;

    /// From `1%` or `0.25%`: at most four decimals, at most 100 %.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a share such as `1%` or `0.25%`, at most `100%`";
        let number = text.strip_suffix('%').ok_or(EXPECTED)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 4 || !digits(whole) || !digits(part) {
            return Err(EXPECTED);
        }
        let parts: u32 = format!("{whole}{part:0<4}").parse().map_err(|_| EXPECTED)?;
        if parts > 1_000_000 { Err(EXPECTED) } else { Ok(Self(parts)) }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:04}", self.0 % 10_000);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}%", self.0 / 10_000),
            decimals => write!(f, "{}.{decimals}%", self.0 / 10_000),
        }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Input tokens.
    Input,
    /// Of these, those read from the provider's cache.
    Cached,
    /// Of these, those written to it.
    Written,
    /// Output tokens.
    Output,
    /// Nano-dollars.
    Cost,
}

/// Two numbers that are further apart than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Off {
    /// Of what.
    pub what: What,
    /// The ledger's.
    pub ledger: u64,
    /// The provider's.
    pub billed: u64,
}

impl Off {
    /// How many hundredths of the provider's number the ledger's is above it, or below: a whole hundred where the
    /// provider has none.
    pub fn percent(&self) -> f64 {
        let (ledger, billed) = (self.ledger as f64, self.billed as f64);
        if self.billed == 0 { 100.0 } else { (ledger - billed) / billed * 100.0 }
    }
}

/// One model and day, from both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// In UTC.
    pub day: Date,
    /// As the ledger calls it, or the provider if the ledger does not know it; absent: all of the day together, because
    /// the file does not tell them apart.
    pub model: Option<String>,
    /// Other names of the provider's that were counted as this model: dated snapshots of it.
    pub called: BTreeSet<String>,
    /// The ledger's calls.
    pub calls: u64,
    /// Of these, those that were charged without knowing what they cost: such a charge may be above the bill.
    pub unknown: u64,
    /// The provider's calls, if it tells.
    pub requests: Option<u64>,
    /// The ledger's tokens.
    pub usage: Usage,
    /// The provider's, if it tells.
    pub billed_usage: Option<Usage>,
    /// What the ledger was charged.
    pub cost: Money,
    /// What the ledger's tokens cost by the prices of today.
    pub now: Money,
    /// What the provider asks, if it tells.
    pub billed_cost: Option<Money>,
    /// What is above the bound.
    pub off: Vec<Off>,
}

/// A bill against the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The provider, as the configuration calls it.
    pub provider: String,
    /// By how much both may differ.
    pub bound: Bound,
    /// Every day and model of both.
    pub days: Vec<Drift>,
}

impl Report {
    /// Those that are further apart than the bound.
    pub fn drifts(&self) -> impl Iterator<Item = &Drift> {
        self.days.iter().filter(|day| !day.off.is_empty())
    }

    /// Tells the log and the metrics of each drift.
    pub fn raise(&self) {
        for drift in self.drifts() {
            let model = drift.model.as_deref().unwrap_or("all");
            metrics::counter!("ledger_drift_total", "provider" => self.provider.clone()).increment(1);
            tracing::warn!(
                provider = self.provider,
                model,
                day = %drift.day,
                bound = %self.bound,
                off = ?drift.off,
                "ledger_drift: the provider's bill and the ledger are further apart than they may be"
            );
        }
    }
}

/// Holds a bill against the sums of the ledger's calls. Only days from the file's first to its last are looked at, and
/// of the ledger only this provider's calls.
pub fn compare(provider: &str, (booked, billed): (&[Booked], &[Billed]), bound: Bound) -> Report {
    let of_provider = |sum: &Booked| {
        let (owner, model) = sum.model.split_once('/')?;
        (owner == provider).then(|| (model.to_owned(), sum.clone()))
    };
    let own: Vec<(String, Booked)> = booked.iter().filter_map(of_provider).collect();
    let names: BTreeSet<&str> = own.iter().map(|(model, _)| model.as_str()).collect();
    let mut days: BTreeMap<(Date, Option<String>), Drift> = BTreeMap::new();
    for bill in billed {
        let model = bill.model.as_deref().map(|name| named(name, &names));
        let drift = days.entry((bill.day, model.clone())).or_insert_with(|| empty(bill.day, model.clone()));
        drift.called.extend(bill.model.clone().filter(|_| bill.model != model));
        drift.requests = both(drift.requests, bill.requests, u64::saturating_add);
        drift.billed_usage = both(drift.billed_usage, bill.usage, |one, other| one.plus(&other));
        drift.billed_cost = both(drift.billed_cost, bill.cost, Money::plus);
    }
    let (first, last) = (billed.iter().map(|bill| bill.day).min(), billed.iter().map(|bill| bill.day).max());
    let has_models = billed.iter().any(|bill| bill.model.is_some());
    let kinds =
        (billed.iter().any(|bill| bill.usage.is_some()), billed.iter().any(|bill| bill.cost.is_some()));
    for (model, sum) in own.into_iter().filter(|(_, sum)| Some(sum.day) >= first && Some(sum.day) <= last) {
        let model = has_models.then_some(model);
        let drift = days.entry((sum.day, model.clone())).or_insert_with(|| empty(sum.day, model));
        drift.calls = drift.calls.saturating_add(sum.calls);
        drift.unknown = drift.unknown.saturating_add(sum.unknown);
        drift.usage = drift.usage.plus(&sum.usage);
        drift.cost = drift.cost.plus(sum.cost);
        drift.now = drift.now.plus(sum.now);
    }
    let days = days.into_values().map(|drift| judged(drift, kinds, bound)).collect();
    Report { provider: provider.to_owned(), bound, days }
}

fn empty(day: Date, model: Option<String>) -> Drift {
    Drift {
        day,
        model,
        called: BTreeSet::new(),
        calls: 0,
        unknown: 0,
        requests: None,
        usage: Usage::default(),
        billed_usage: None,
        cost: Money::ZERO,
        now: Money::ZERO,
        billed_cost: None,
        off: Vec::new(),
    }
}

fn both<T>(one: Option<T>, other: Option<T>, sum: impl Fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(sum(one, other)),
        (one, other) => one.or(other),
    }
}

/// With what is above the bound. A file that has tokens, or dollars, says with a row that it lacks that there were none.
fn judged(mut drift: Drift, (has_usage, has_cost): (bool, bool), bound: Bound) -> Drift {
    let mut pairs = Vec::new();
    if has_usage {
        let (own, theirs) = (drift.usage, drift.billed_usage.unwrap_or_default());
        pairs.extend([
            (What::Input, own.input.0, theirs.input.0),
            (What::Cached, own.cached.0, theirs.cached.0),
            (What::Written, own.written.0, theirs.written.0),
            (What::Output, own.output.0, theirs.output.0),
        ]);
    }
    if has_cost {
        let nanos = |amount: Money| u64::try_from(amount.nanos()).unwrap_or(0);
        pairs.push((What::Cost, nanos(drift.cost), nanos(drift.billed_cost.unwrap_or(Money::ZERO))));
    }
    let off = pairs.into_iter().filter(|(_, ledger, billed)| !bound.allows(*ledger, *billed));
    drift.off = off.map(|(what, ledger, billed)| Off { what, ledger, billed }).collect();
    drift
}

/// The ledger's name for what a provider calls so. A snapshot with its date belongs to the model without one, whichever
/// of the two names them so, unless the other has the same name.
fn named(billed: &str, names: &BTreeSet<&str>) -> String {
    let undated = without_date(billed);
    let same = names.get(billed).or_else(|| names.get(undated));
    let dated = || names.iter().find(|name| without_date(name) == billed);
    same.or_else(dated).copied().unwrap_or(billed).to_owned()
}

/// Without `-2024-07-18` or `-20251001` at its end.
fn without_date(name: &str) -> &str {
    let is_date = |text: &str, form: &str| {
        let fits = |(byte, sign): (u8, u8)| if sign == b'0' { byte.is_ascii_digit() } else { byte == sign };
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
    };
    let cut = |form: &str| {
        let (name, end) = name.split_at_checked(name.len().checked_sub(form.len())?)?;
        (!name.is_empty() && is_date(end, form)).then_some(name)
    };
    cut("-0000-00-00").or_else(|| cut("-00000000")).unwrap_or(name)
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
