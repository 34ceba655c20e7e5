//! A breaker for each model of a provider: one that fails is left alone for a while, and then tried by one call.
//!
//! Without it every call of an outage would wait for the one that is down, and pay for what it may have done. The three
//! states are those of Nygard's *Release It!*: closed (asked), open (not asked), half open (one call is the probe, and
//! what becomes of it decides). *Slow* is a failure as well; that a provider limits its rate, refuses a content or cannot
//! read so much is none: it works.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Kind;

/// It opens if so many calls failed lately …
const FAILED: usize = 5;
/// … and they are at least half of these, which are the newest …
const LATELY: usize = 20;
/// … and no older than this.
const MEMORY: Duration = Duration::from_secs(60);
/// How long it is left alone first. Twice as long after each probe that fails, at most two minutes.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// The same for a provider whose quota is used up: nobody fills an account within seconds.
const QUOTA_PAUSE: Duration = Duration::from_secs(60);
const QUOTA_PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Of one model at one provider, or of a provider's quota; shared by all tiers.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// `provider/model`, or the provider; for the metrics.
    name: String,
    measure: Measure,
    state: Mutex<State>,
}

/// What opens a breaker, and for how long.
#[derive(Debug, Clone, Copy)]
struct Measure {
    failed: usize,
    lately: usize,
    pause: Duration,
    pause_max: Duration,
    /// Whether a failure says that it is down; `None`: it says nothing.
    is_failure: fn(&Kind) -> Option<bool>,
    /// The gauge that shows it.
    gauge: &'static str,
}

const MODEL: Measure = Measure {
    failed: FAILED,
    lately: LATELY,
    pause: PAUSE,
    pause_max: PAUSE_MAX,
    is_failure,
    gauge: "gateway_breaker_open",
};

/// One call says enough: a quota is used up for all of them.
const QUOTA: Measure = Measure {
    failed: 1,
    lately: 1,
    pause: QUOTA_PAUSE,
    pause_max: QUOTA_PAUSE_MAX,
    is_failure: is_quota,
    gauge: "gateway_quota_open",
};

#[derive(Debug)]
enum State {
    /// How the newest calls ended: when, and whether they failed.
    Closed(VecDeque<(Instant, bool)>),
    Open {
        until: Instant,
        pause: Duration,
        is_probed: bool,
    },
}

/// Leave to ask. What became of it is told, or nothing can be said of the model: a probe whose caller has gone leaves the
/// place to another.
#[derive(Debug)]
pub(crate) struct Trial {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

impl Breaker {
    /// Of a model.
    pub(crate) fn new(name: String) -> Self {
        Self::with(MODEL, name)
    }

    /// Of a provider's quota.
    pub(crate) fn quota(name: String) -> Self {
        Self::with(QUOTA, name)
    }

    fn with(measure: Measure, name: String) -> Self {
        let breaker = Self { name, measure, state: Mutex::new(State::Closed(VecDeque::new())) };
        breaker.show(0.0);
        breaker
    }

    /// Whether the model may be asked; if not, how long it is to be left alone.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Trial, Duration> {
        let is_probe = match &mut *self.state.lock() {
            State::Closed(_) => false,
            State::Open { until, pause, is_probed } => {
                let rest = until.saturating_duration_since(Instant::now());
                if !rest.is_zero() {
                    return Err(rest);
                }
                if std::mem::replace(is_probed, true) {
                    // Somebody is finding out.
                    return Err(*pause);
                }
                true
            }
        };
        Ok(Trial { breaker: Arc::clone(self), is_probe })
    }

    /// A call ended that was let pass while it was closed. If it opens by that, for so long at least.
    fn note(&self, failed: bool, least: Duration) {
        let now = Instant::now();
        let mut state = self.state.lock();
        // What ends after others have opened it was begun before, and says nothing new.
        let State::Closed(calls) = &mut *state else { return };
        calls.push_back((now, failed));
        while calls.len() > self.measure.lately || calls.front().is_some_and(|(then, _)| now - *then > MEMORY)
        {
            calls.pop_front();
        }
        let failures = calls.iter().filter(|(_, failed)| *failed).count();
        if failures >= self.measure.failed && failures * 2 >= calls.len() {
            self.open(&mut state, self.measure.pause.max(least));
            self.tell();
        }
    }

    fn probed(&self, failed: bool, least: Duration) {
        let mut state = self.state.lock();
        let State::Open { pause, .. } = &*state else { return };
        if failed {
            let pause = (*pause * 2).max(least);
            self.open(&mut state, pause);
        } else {
            *state = State::Closed(VecDeque::new());
            self.show(0.0);
            tracing::info!(name = self.name, gauge = self.measure.gauge, "it answers again");
        }
    }

    fn open(&self, state: &mut State, pause: Duration) {
        let pause = pause.min(self.measure.pause_max);
        *state = State::Open { until: Instant::now() + pause, pause, is_probed: false };
        self.show(1.0);
        if self.measure.gauge == MODEL.gauge {
            metrics::counter!("gateway_breaker_opened_total", "model" => self.name.clone()).increment(1);
            tracing::warn!(model = self.name, ?pause, "the model fails, and is left alone");
        }
    }

    /// Of a quota once, not at each probe.
    fn tell(&self) {
        if self.measure.gauge == QUOTA.gauge {
            tracing::warn!(
                provider = self.name,
                "the account is empty or its quota is used up; it is left alone"
            );
        }
    }

    fn show(&self, open: f64) {
        metrics::gauge!(self.measure.gauge, "model" => self.name.clone()).set(open);
    }
}

impl Trial {
    /// The model has begun to answer, which is what a probe finds out.
    pub(crate) fn began(&mut self) {
        if std::mem::take(&mut self.is_probe) {
            self.breaker.probed(false, Duration::ZERO);
        }
    }

    /// It has answered.
    pub(crate) fn answered(&mut self) {
        self.ended(false, Duration::ZERO);
    }

    /// It has not, or broke off. Who says when a used up quota is there again is not asked before.
    pub(crate) fn failed(&mut self, kind: &Kind) {
        let least = match kind {
            Kind::Quota { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        };
        if let Some(failed) = (self.breaker.measure.is_failure)(kind) {
            self.ended(failed, least);
        }
    }

    fn ended(&mut self, failed: bool, least: Duration) {
        match std::mem::take(&mut self.is_probe) {
            true => self.breaker.probed(failed, least),
            false => self.breaker.note(failed, least),
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.is_probe
            && let State::Open { is_probed, .. } = &mut *self.breaker.state.lock()
        {
            *is_probed = false;
        }
    }
}

/// Whether it says that the model is down; `None`: it says nothing.
fn is_failure(kind: &Kind) -> Option<bool> {
    match kind {
        Kind::Unavailable { .. }
        | Kind::TooSlow { .. }
        | Kind::BadResponse { .. }
        | Kind::Interrupted
        | Kind::Auth { .. } => Some(true),
        Kind::Invalid { .. } | Kind::TooLong { .. } | Kind::NoRoom | Kind::Refused => Some(false),
        _ => None,
    }
}

/// Whether it says that the quota is used up.
fn is_quota(kind: &Kind) -> Option<bool> {
    matches!(kind, Kind::Quota { .. }).then_some(true)
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
