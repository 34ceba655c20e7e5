//! How a version does: calls, failures, times, and where it sends messages; and whether that is so much worse than the
//! version before that it must go.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::SwapConfig;

/// Longest time that is told apart from longer ones, in microseconds.
const MICROS_MAX: u64 = 3_600_000_000;
/// Destinations that are counted by name; further ones together.
const DESTINATIONS_MAX: usize = 64;
/// The name of those.
const ELSEWHERE: &str = "elsewhere";

/// Counts of one version, since it was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    /// Calls that ended well, and took much longer than those of the version before.
    slow: u64,
    by_kind: BTreeMap<&'static str, u64>,
    /// Made with the first call; absent, too, if the crate took not these bounds.
    micros: Option<Histogram<u32>>,
    to: BTreeMap<String, u64>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { calls: 0, failures: 0, slow: 0, by_kind: BTreeMap::new(), micros: None, to: BTreeMap::new() }
    }

    pub(crate) fn good(&mut self, took: Duration, to: &str) {
        self.timed(took);
        match self.to.get_mut(to) {
            Some(count) => *count += 1,
            None => {
                let name = if self.to.len() < DESTINATIONS_MAX { to } else { ELSEWHERE };
                *self.to.entry(name.to_owned()).or_default() += 1;
            }
        }
    }

    pub(crate) fn bad(&mut self, took: Duration, kind: &'static str) {
        self.timed(took);
        self.failures += 1;
        *self.by_kind.entry(kind).or_default() += 1;
    }

    pub(crate) fn is_slow(&mut self) {
        self.slow += 1;
    }

    fn timed(&mut self, took: Duration) {
        self.calls += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(MICROS_MAX);
        if self.micros.is_none() {
            self.micros = Histogram::new_with_bounds(1, MICROS_MAX, 2).ok();
        }
        if let Some(times) = &mut self.micros {
            times.saturating_record(micros.max(1));
        }
    }

    /// 95th percentile; `None` before the first call.
    pub(crate) fn p95(&self) -> Option<Duration> {
        self.micros.as_ref().map(|times| Duration::from_micros(times.value_at_quantile(0.95)))
    }

    /// Whether a call that took so long is slow, as far as enough calls of this version tell.
    pub(crate) fn would_call_slow(&self, took: Duration, bounds: &SwapConfig) -> bool {
        self.calls >= u64::from(bounds.calls_min)
            && took > bounds.latency_floor
            && self.p95().is_some_and(|usual| took > usual.mul_f64(bounds.latency_factor))
    }

    /// Why this version must go, compared with the one before.
    pub(crate) fn verdict(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        self.failing(before, bounds)
            .or_else(|| self.slowness(before, bounds))
            .or_else(|| self.drift(before, bounds))
    }

    fn failing(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        if self.failures < u64::from(bounds.failures_min) {
            return None;
        }
        // Half of all calls is more than chance, however few they are.
        let is_plain = self.failures * 2 >= self.calls;
        let allowed = before.failures_percent() + f64::from(bounds.failures_percent);
        let is_rate = self.calls >= u64::from(bounds.calls_min) && self.failures_percent() > allowed;
        let kinds: Vec<String> = self.by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        (is_plain || is_rate).then(|| {
            format!(
                "{} of {} calls failed ({}); of the version before {:.1} %",
                self.failures,
                self.calls,
                kinds.join(", "),
                before.failures_percent(),
            )
        })
    }

    fn failures_percent(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.failures as f64 * 100.0 / self.calls as f64 }
    }

    fn slowness(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        let few_and_slow = self.slow >= u64::from(bounds.failures_min) && self.slow * 2 >= self.calls;
        let (mine, usual) = (self.p95()?, before.p95()?);
        let enough = u64::from(bounds.calls_min);
        let is_slower = before.calls >= enough
            && self.calls >= enough
            && mine > bounds.latency_floor
            && mine > usual.mul_f64(bounds.latency_factor);
        (few_and_slow || is_slower).then(|| {
            format!("95 % of its calls took up to {}, of the version before {}", millis(mine), millis(usual))
        })
    }

    /// How differently messages are sent: half the sum of the differences of the shares, which is the share of messages
    /// that go elsewhere at least.
    fn drift(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        let total = |health: &Self| health.to.values().sum::<u64>();
        let (mine, theirs) = (total(self), total(before));
        if mine.min(theirs) < u64::from(bounds.drift_calls_min) {
            return None;
        }
        let share = |health: &Self, to: &str, total: u64| {
            health.to.get(to).copied().unwrap_or_default() as f64 / total as f64
        };
        let mut moved: Vec<(&str, f64)> = self
            .to
            .keys()
            .chain(before.to.keys().filter(|to| !self.to.contains_key(*to)))
            .map(|to| (to.as_str(), share(self, to, mine) - share(before, to, theirs)))
            .collect();
        let distance = moved.iter().map(|(_, by)| by.abs()).sum::<f64>() * 50.0;
        moved.sort_by(|one, other| other.1.abs().total_cmp(&one.1.abs()));
        let most = moved.first().map(|(to, by)| format!("`{to}` {:+.0} points", by * 100.0));
        (distance > f64::from(bounds.drift_percent)).then(|| {
            format!("{distance:.0} % of the messages go elsewhere than before ({})", most.unwrap_or_default())
        })
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(calls: u64, each_ms: u64, to: &[&str]) -> Health {
        let mut health = Health::new();
        for call in 0..calls {
            let to = to[usize::try_from(call).unwrap() % to.len()];
            health.good(Duration::from_millis(each_ms), to);
        }
        health
    }

    const BOUNDS: SwapConfig = SwapConfig::STANDARD;

    #[test]
    fn the_same_is_no_worse() {
        let (before, after) = (after(100, 10, &["a", "b"]), after(100, 11, &["b", "a"]));
        assert_eq!(after.verdict(&before, &BOUNDS), None);
    }

    #[test]
    fn three_traps_are_enough_and_two_are_not() {
        let before = after(100, 1, &["a"]);
        let mut health = Health::new();
        health.bad(Duration::ZERO, "trap");
        health.bad(Duration::ZERO, "trap");
        assert_eq!(health.verdict(&before, &BOUNDS), None);
        health.bad(Duration::ZERO, "trap");
        let why = health.verdict(&before, &BOUNDS).unwrap();
        assert!(why.contains("3 of 3") && why.contains("trap 3"), "{why}");
    }

    #[test]
    fn a_rate_is_held_against_the_one_before() {
        let (mut before, mut health) = (after(90, 1, &["a"]), after(94, 1, &["a"]));
        (0..6).for_each(|_| health.bad(Duration::ZERO, "timeout"));
        assert!(health.verdict(&before, &BOUNDS).is_some(), "6 % where there were none");
        (0..10).for_each(|_| before.bad(Duration::ZERO, "timeout"));
        assert_eq!(health.verdict(&before, &BOUNDS), None, "6 % where there were 10");
    }

    #[test]
    fn slower_is_a_factor_above_a_floor() {
        let before = after(50, 20, &["a"]);
        assert_eq!(after(19, 100, &["a"]).verdict(&before, &BOUNDS), None, "too few");
        assert!(after(20, 100, &["a"]).verdict(&before, &BOUNDS).unwrap().contains("took up to"));
        let quick = after(50, 1, &["a"]);
        assert_eq!(after(20, 40, &["a"]).verdict(&quick, &BOUNDS), None, "below the floor");
        assert!(before.would_call_slow(Duration::from_millis(90), &BOUNDS));
        assert!(!before.would_call_slow(Duration::from_millis(55), &BOUNDS));
    }

    #[test]
    fn a_drift_names_what_moved_most() {
        let before = after(100, 1, &["sales", "support"]);
        let drifted = after(60, 1, &["sales"]);
        let why = drifted.verdict(&before, &BOUNDS).unwrap();
        assert!(why.contains("50 %") && why.contains("points"), "{why}");
        assert_eq!(after(40, 1, &["sales"]).verdict(&before, &BOUNDS), None, "too few");
    }
}
