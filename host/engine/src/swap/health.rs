//! How a version does: calls, failures, times, and where it sends messages; and whether that is so much worse than the
//! version before that it must go.
//!
//! Two versions are compared by what they did of late: what was usual weeks ago, with other agents, says nothing of today.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::config::SwapConfig;

/// Calls that are remembered one by one.
const RECENT_MAX: usize = 1_024;
/// Older ones count only where there are too few younger ones.
const PRESENT: Duration = Duration::from_secs(3_600);

/// What a version is asked: where a message goes, what the answer is, what a request holds, and to bring an answer.
pub(crate) const ROUTE: &str = "route";
pub(crate) const ANSWER: &str = "answer";
pub(crate) const RECEIVE: &str = "receive";
pub(crate) const DELIVER: &str = "deliver";

/// Where a call that ended well sent its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Went<'a> {
    /// What the version was asked; a drift is looked for in each question by itself.
    pub(crate) asked: &'static str,
    pub(crate) to: &'a str,
}

/// Counts of one version, since it was loaded or is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    recent: VecDeque<Call>,
}

#[derive(Debug, Clone)]
struct Call {
    at: Instant,
    took: Duration,
    ended: Ended,
}

#[derive(Debug, Clone)]
enum Ended {
    Well { asked: &'static str, to: Box<str>, is_slow: bool },
    Failed(&'static str),
}

impl Health {
    pub(crate) fn good(&mut self, took: Duration, went: Went<'_>, is_slow: bool) {
        self.took(took, Ended::Well { asked: went.asked, to: went.to.into(), is_slow });
    }

    pub(crate) fn bad(&mut self, took: Duration, kind: &'static str) {
        self.failures += 1;
        self.took(took, Ended::Failed(kind));
    }

    fn took(&mut self, took: Duration, ended: Ended) {
        self.calls += 1;
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Call { at: Instant::now(), took, ended });
    }

    /// What it did of late: within the last hour, or in its last calls of each question that say enough.
    pub(crate) fn lately(&self, bounds: &SwapConfig) -> Lately {
        let enough = u64::from(bounds.calls_min.max(bounds.drift_calls_min));
        let since = Instant::now().checked_sub(PRESENT);
        let mut lately = Lately { ever: self.calls, ..Lately::default() };
        let (mut known, mut times) = (BTreeMap::new(), Vec::new());
        for call in self.recent.iter().rev() {
            let known: &mut u64 = known.entry(call.ended.asked()).or_default();
            if since.is_some_and(|since| call.at < since) && *known >= enough {
                continue;
            }
            *known += 1;
            times.push(call.took);
            lately.count(&call.ended);
        }
        lately.p95 = p95(&mut times);
        lately
    }

    /// 95th percentile of what is remembered; `None` before the first call.
    pub(crate) fn p95(&self) -> Option<Duration> {
        p95(&mut self.recent.iter().map(|call| call.took).collect::<Vec<_>>())
    }
}

fn p95(times: &mut [Duration]) -> Option<Duration> {
    let at = (times.len() * 95).div_ceil(100).checked_sub(1)?;
    Some(*times.select_nth_unstable(at).1)
}

impl Ended {
    fn asked(&self) -> &'static str {
        match self {
            Self::Well { asked, .. } => asked,
            Self::Failed(_) => "",
        }
    }
}

/// What a version did of late.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lately {
    /// Calls since it was loaded or is watched: whether there were enough of them.
    ever: u64,
    calls: u64,
    failures: BTreeMap<&'static str, u64>,
    /// Calls that ended well, and took much longer than those of the version before.
    slow: u64,
    p95: Option<Duration>,
    /// By what was asked, and where the message went.
    went: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

impl Lately {
    fn count(&mut self, ended: &Ended) {
        self.calls += 1;
        match ended {
            Ended::Well { asked, to, is_slow } => {
                self.slow += u64::from(*is_slow);
                let went = self.went.entry(asked).or_default();
                match went.get_mut(&**to) {
                    Some(count) => *count += 1,
                    None => drop(went.insert(to.to_string(), 1)),
                }
            }
            Ended::Failed(kind) => *self.failures.entry(kind).or_default() += 1,
        }
    }

    /// Whether a call that takes so long is slow, as far as enough calls of this version tell.
    pub(crate) fn would_call_slow(&self, took: Duration, bounds: &SwapConfig) -> bool {
        self.tells_rates(bounds)
            && took > bounds.latency_floor
            && self.p95.is_some_and(|usual| took > usual.mul_f64(bounds.latency_factor))
    }

    /// Whether a version of which so many percent of the calls fail does no worse than this one, as far as is known.
    pub(crate) fn excuses(&self, failed_percent: f64, bounds: &SwapConfig) -> bool {
        self.tells_rates(bounds) && failed_percent <= self.allowed_percent(bounds)
    }

    /// Why this version must go, compared with the one before.
    pub(crate) fn verdict(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        self.failing(before, bounds)
            .or_else(|| self.slowness(before, bounds))
            .or_else(|| self.drift(before, bounds))
    }

    fn failing(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        let failures = self.failed();
        if failures < u64::from(bounds.failures_min) {
            return None;
        }
        // Half of all calls is more than chance, however few they are; but no worse where that is usual.
        let is_half = failures * 2 >= self.calls;
        let is_worse = self.failures_percent() > before.allowed_percent(bounds);
        let must_go =
            (is_worse && (is_half || self.tells_rates(bounds))) || (is_half && !before.tells_rates(bounds));
        let kinds: Vec<String> =
            self.failures.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        must_go.then(|| {
            format!(
                "{failures} of {} calls failed ({}); of the version before {:.1} %",
                self.calls,
                kinds.join(", "),
                before.failures_percent(),
            )
        })
    }

    fn tells_rates(&self, bounds: &SwapConfig) -> bool {
        self.ever >= u64::from(bounds.calls_min)
    }

    fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    fn failures_percent(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.failed() as f64 * 100.0 / self.calls as f64 }
    }

    /// What may fail of another version that is held against this one.
    fn allowed_percent(&self, bounds: &SwapConfig) -> f64 {
        self.failures_percent() + f64::from(bounds.failures_percent)
    }

    fn slowness(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        let few_and_slow = self.slow >= u64::from(bounds.failures_min) && self.slow * 2 >= self.calls;
        let (mine, usual) = (self.p95?, before.p95?);
        let is_slower = self.tells_rates(bounds) && before.would_call_slow(mine, bounds);
        (few_and_slow || is_slower).then(|| {
            format!("95 % of its calls took up to {}, of the version before {}", millis(mine), millis(usual))
        })
    }

    fn drift(&self, before: &Self, bounds: &SwapConfig) -> Option<String> {
        let least = u64::from(bounds.drift_calls_min);
        if self.ever.min(before.ever) < least {
            return None;
        }
        let both = self.went.iter().filter_map(|(asked, mine)| Some((mine, before.went.get(asked)?)));
        both.filter_map(|(mine, theirs)| drift(mine, theirs, bounds)).next()
    }
}

/// How differently messages are sent: half the sum of the differences of the shares, which is the share of messages
/// that go elsewhere at least.
fn drift(
    mine: &BTreeMap<String, u64>,
    theirs: &BTreeMap<String, u64>,
    bounds: &SwapConfig,
) -> Option<String> {
    let (total, of_theirs) = (mine.values().sum::<u64>(), theirs.values().sum::<u64>());
    if total.min(of_theirs) < u64::from(bounds.drift_calls_min).min(RECENT_MAX as u64) {
        return None;
    }
    let share = |went: &BTreeMap<String, u64>, to, total| {
        went.get(to).copied().unwrap_or_default() as f64 / total as f64
    };
    let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    let mut moved: Vec<(&String, f64)> =
        names.into_iter().map(|to| (to, share(mine, to, total) - share(theirs, to, of_theirs))).collect();
    let distance = moved.iter().map(|(_, by)| by.abs()).sum::<f64>() * 50.0;
    moved.sort_by(|one, other| other.1.abs().total_cmp(&one.1.abs()));
    let most = moved.first().map(|(to, by)| format!("`{to}` {:+.0} points", by * 100.0));
    (distance > f64::from(bounds.drift_percent)).then(|| {
        format!("{distance:.0} % of the messages go elsewhere than before ({})", most.unwrap_or_default())
    })
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: SwapConfig = SwapConfig::STANDARD;

    fn went(to: &str) -> Went<'_> {
        Went { asked: "route", to }
    }

    fn after(calls: u64, each_ms: u64, to: &[&str]) -> Health {
        let mut health = Health::default();
        for call in 0..calls {
            let to = to[usize::try_from(call).unwrap() % to.len()];
            health.good(Duration::from_millis(each_ms), went(to), false);
        }
        health
    }

    fn failing(mut health: Health, failures: u64) -> Health {
        (0..failures).for_each(|_| health.bad(Duration::ZERO, "trap"));
        health
    }

    fn verdict(health: &Health, before: &Health) -> Option<String> {
        health.lately(&BOUNDS).verdict(&before.lately(&BOUNDS), &BOUNDS)
    }

    #[test]
    fn the_same_is_no_worse() {
        assert_eq!(verdict(&after(100, 11, &["b", "a"]), &after(100, 10, &["a", "b"])), None);
    }

    #[test]
    fn three_traps_are_enough_and_two_are_not() {
        let before = after(100, 1, &["a"]);
        assert_eq!(verdict(&failing(Health::default(), 2), &before), None);
        let why = verdict(&failing(Health::default(), 3), &before).unwrap();
        assert!(why.contains("3 of 3") && why.contains("trap 3"), "{why}");
        assert!(
            verdict(&failing(Health::default(), 3), &Health::default()).is_some(),
            "with nothing to compare"
        );
    }

    #[test]
    fn a_rate_is_held_against_the_one_before() {
        let (before, health) = (after(90, 1, &["a"]), failing(after(94, 1, &["a"]), 6));
        assert!(verdict(&health, &before).is_some(), "6 % where there were none");
        assert_eq!(verdict(&health, &failing(before, 10)), None, "6 % where there were 10");
    }

    #[test]
    fn what_fails_less_than_the_one_before_is_no_worse_though_it_is_half_of_all() {
        let before = failing(after(20, 1, &["a"]), 80);
        assert_eq!(
            verdict(&failing(after(3, 1, &["a"]), 3), &before),
            None,
            "half where it was four of five"
        );
        assert_eq!(verdict(&failing(after(30, 1, &["a"]), 30), &before), None);
        assert!(verdict(&failing(after(2, 1, &["a"]), 18), &before).is_some(), "nine of ten");
    }

    #[test]
    fn slower_is_a_factor_above_a_floor() {
        let before = after(50, 20, &["a"]);
        assert_eq!(verdict(&after(19, 100, &["a"]), &before), None, "too few");
        assert!(verdict(&after(20, 100, &["a"]), &before).unwrap().contains("took up to"));
        assert_eq!(verdict(&after(20, 40, &["a"]), &after(50, 1, &["a"])), None, "below the floor");
        let lately = before.lately(&BOUNDS);
        assert!(lately.would_call_slow(Duration::from_millis(90), &BOUNDS));
        assert!(!lately.would_call_slow(Duration::from_millis(55), &BOUNDS));
    }

    #[test]
    fn a_drift_names_what_moved_most() {
        let before = after(100, 1, &["sales", "support"]);
        let why = verdict(&after(60, 1, &["sales"]), &before).unwrap();
        assert!(why.contains("50 %") && why.contains("points"), "{why}");
        assert_eq!(verdict(&after(40, 1, &["sales"]), &before), None, "too few");
    }

    #[test]
    fn a_version_that_ran_for_long_is_held_to_what_it_does_now() {
        let mut before = after(100_000, 1, &["sales"]);
        for call in 0..2_000 {
            before.good(Duration::ZERO, went(["sales", "hr"][call % 2]), false);
        }
        assert_eq!(verdict(&after(60, 1, &["sales", "hr"]), &before), None, "hr is new, and gets half today");
        assert!(verdict(&after(60, 1, &["sales"]), &before).is_some(), "none of them to hr is a drift today");
    }

    #[test]
    fn what_was_long_ago_counts_only_where_little_is_known_of_today() {
        let yesterday = Instant::now().checked_sub(24 * PRESENT).unwrap();
        let aged = |mut health: Health| {
            health.recent.iter_mut().for_each(|call| call.at = yesterday);
            health
        };
        let mut before = aged(after(500, 1, &["sales"]));
        assert!(verdict(&after(60, 1, &["hr"]), &before).is_some(), "nothing else is known");
        (0..60).for_each(|_| before.good(Duration::ZERO, went("hr"), false));
        assert_eq!(verdict(&after(60, 1, &["hr"]), &before), None);
    }

    #[test]
    fn a_drift_is_looked_for_in_each_question() {
        let told = |heard: u64, ignored: u64, delivered: u64| {
            let mut health = Health::default();
            let mut count = |times: u64, asked, to| {
                (0..times).for_each(|_| health.good(Duration::ZERO, Went { asked, to }, false));
            };
            count(heard, "receive", "message");
            count(ignored, "receive", "ignored");
            count(delivered, "deliver", "delivered");
            health
        };
        let before = told(100, 0, 100);
        assert_eq!(verdict(&told(60, 0, 0), &before), None, "nothing was to be delivered yet");
        let why = verdict(&told(0, 60, 0), &before).unwrap();
        assert!(why.contains("100 %"), "{why}");
    }
}
