//! How a provider's key stands: what it was asked to wait, whether its quota is used up, and the host's own pace.
//!
//! Shared by all models and tiers that name the provider: what it says of one call holds for the others, too.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Kind;
use crate::breaker::{Breaker, Trial};
use crate::config::ProviderLimits;
use crate::pace::{Pace, Paced};
use crate::plan::Link;
use crate::provider::Trouble;

/// How long a provider is left alone that limits the rate and does not say for how long: first, and at most. Twice as
/// long each time, until it answers.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Of one provider.
#[derive(Debug)]
pub(crate) struct Account {
    rest: Mutex<Rest>,
    quota: Arc<Breaker>,
    pace: Arc<Pace>,
}

/// Until when it is left alone. Not by the wall clock, which may be set back.
#[derive(Debug)]
struct Rest {
    until: Instant,
    /// When the last back-off was begun, and how long it was.
    backed_off: Option<(Instant, Duration)>,
}

impl Account {
    pub(crate) fn new(name: &str, limits: &ProviderLimits) -> Self {
        Self {
            rest: Mutex::new(Rest { until: Instant::now(), backed_off: None }),
            quota: Arc::new(Breaker::quota(name.to_owned())),
            pace: Pace::new(limits.requests_per_minute, limits.tokens_per_minute),
        }
    }

    fn remaining(&self) -> Duration {
        self.rest.lock().until.saturating_duration_since(Instant::now())
    }

    /// A call that began then was refused by this.
    fn refused(&self, kind: &Kind, started: Instant, rest_max: Duration) {
        let mut rest = self.rest.lock();
        let asked = kind.retry_after();
        let time = match kind {
            Kind::RateLimited { .. } if asked.is_zero() => rest.back_off(started),
            Kind::RateLimited { .. } | Kind::Unavailable { .. } => asked,
            _ => return,
        };
        rest.until = rest.until.max(Instant::now() + time.min(rest_max));
    }

    fn answered(&self) {
        self.rest.lock().backed_off = None;
    }
}

impl Rest {
    /// Calls that were under way together say the same once.
    fn back_off(&mut self, started: Instant) -> Duration {
        let time = match self.backed_off {
            Some((then, time)) if started < then => time,
            Some((_, time)) => self.begin((time * 2).min(BACKOFF_MAX)),
            None => self.begin(BACKOFF),
        };
        let then = self.backed_off.map_or(started, |(then, _)| then);
        (then + time).saturating_duration_since(Instant::now())
    }

    fn begin(&mut self, time: Duration) -> Duration {
        self.backed_off = Some((Instant::now(), time));
        time
    }
}

/// Leave to ask a model. What became of it is told to everything that gave it.
#[derive(Debug)]
pub(crate) struct Leave {
    account: Arc<Account>,
    model: Trial,
    quota: Trial,
    paced: Paced,
    started: Instant,
}

impl Link {
    /// Leave to ask for an answer that takes at most so many tokens. A provider that asked for rest is not asked before
    /// it is over, nor a model that fails before it is tried again, nor anybody faster than its key allows.
    pub(crate) fn admit(&self, tokens: u64) -> Result<Leave, Trouble> {
        let limited = |retry_after| Trouble::new(Kind::RateLimited { retry_after }, false);
        let left_alone = || "left alone".to_owned();
        let rest = self.account.remaining();
        if !rest.is_zero() {
            return Err(limited(rest));
        }
        let quota =
            self.account.quota.admit().map_err(|retry_after| {
                Trouble::new(Kind::Quota { code: left_alone(), retry_after }, false)
            })?;
        let model = self.breaker.admit().map_err(|retry_after| {
            Trouble::new(Kind::Unavailable { code: left_alone(), retry_after }, false)
        })?;
        let paced = self.account.pace.take(tokens).map_err(limited)?;
        let account = Arc::clone(&self.account);
        Ok(Leave { account, model, quota, paced, started: Instant::now() })
    }
}

impl Leave {
    /// The model has begun to answer.
    pub(crate) fn began(&mut self) {
        self.model.began();
        self.quota.began();
        self.account.answered();
    }

    /// It has answered, and that took so many tokens.
    pub(crate) fn answered(&mut self, tokens: u64) {
        self.model.answered();
        self.quota.answered();
        self.paced.took(tokens);
    }

    /// It has not. What a status refused took no tokens, and what waited here in vain says nothing.
    pub(crate) fn failed(&mut self, trouble: &Trouble, rest_max: Duration) {
        if trouble.is_ours {
            return;
        }
        self.model.failed(&trouble.kind);
        self.quota.failed(&trouble.kind);
        self.account.refused(&trouble.kind, self.started, rest_max);
        if !trouble.billed {
            self.paced.took(0);
        }
    }

    /// Another that was asked later was faster.
    pub(crate) fn slow(&mut self, after: Duration) {
        self.model.failed(&Kind::TooSlow { after });
    }

    /// It broke off.
    pub(crate) fn broke_off(&mut self) {
        self.model.failed(&Kind::Interrupted);
    }

    /// Nothing was sent.
    pub(crate) fn unsent(&mut self) {
        self.paced.unsent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::{Act, chain, whole};
    use tokio::time::advance;

    const LIMITED: Kind = Kind::RateLimited { retry_after: Duration::ZERO };
    const MAX: Duration = Duration::from_secs(600);

    fn link() -> Arc<Link> {
        chain(vec![whole("one")]).0.plan.links[0].clone()
    }

    fn refuse(link: &Link, kind: Kind) -> Option<Duration> {
        link.admit(1).ok()?.failed(&Trouble::new(kind, false), MAX);
        Some(link.admit(1).err()?.kind.retry_after())
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_without_a_time_backs_off_until_an_answer() {
        let link = link();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(refuse(&link, LIMITED), Some(wait));
            advance(wait).await;
        }
        link.admit(1).unwrap().began();
        assert_eq!(refuse(&link, LIMITED), Some(BACKOFF));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_under_way_together_back_off_once() {
        let link = link();
        let mut together: Vec<Leave> = (0..50).map(|_| link.admit(1).unwrap()).collect();
        advance(Duration::from_millis(10)).await;
        together.iter_mut().for_each(|leave| leave.failed(&Trouble::new(LIMITED, false), MAX));
        assert_eq!(link.admit(1).unwrap_err().kind.retry_after(), BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_is_used_up_has_a_long_rest_and_is_tried_by_one() {
        let link = link();
        let quota = || Kind::Quota { code: "x".into(), retry_after: Duration::ZERO };
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(minutes * 60);
            assert_eq!(refuse(&link, quota()), Some(wait));
            advance(wait).await;
        }
        let mut probe = link.admit(1).unwrap();
        assert_eq!(link.admit(1).unwrap_err().kind.class(), "quota", "one finds out");
        probe.began();
        assert!(link.admit(1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_says_when_it_is_there_again_is_left_alone_until_then() {
        let quota = |seconds| Kind::Quota { code: "x".into(), retry_after: Duration::from_secs(seconds) };
        for (asked, waits) in [(30, 60), (1_800, 1_800), (7_200, 3_600)] {
            let link = link();
            assert_eq!(refuse(&link, quota(asked)), Some(Duration::from_secs(waits)), "first");
            assert_eq!(link.admit(1).unwrap_err().kind.class(), "quota");
        }
        let link = link();
        refuse(&link, quota(0));
        advance(Duration::from_secs(60)).await;
        assert_eq!(refuse(&link, quota(900)), Some(Duration::from_secs(900)), "by who finds out");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_over_its_pace_is_passed_over_and_nothing_is_sent() {
        use crate::Model as _;
        use std::sync::atomic::Ordering;
        let (mut failover, asked) = chain(vec![whole("one"), Act::Fail(LIMITED, false)]);
        let plan = Arc::get_mut(&mut failover.plan).unwrap();
        let limits = ProviderLimits { requests_per_minute: Some(12), ..ProviderLimits::standard() };
        Arc::get_mut(&mut plan.links[0]).unwrap().account = Arc::new(Account::new("p", &limits));
        let call = || Arc::new(crate::failover::tests::call("hello"));
        failover.complete(call()).await.unwrap().whole().await.unwrap();
        let error = failover.complete(call()).await.unwrap_err();
        let record = error.call.as_ref().unwrap();
        assert_eq!((record.attempts.len(), record.attempts[0].class.as_str()), (2, "rate_limited"));
        assert_eq!(record.cost, chela_types::Money::ZERO);
        assert_eq!((asked[0].load(Ordering::SeqCst), asked[1].load(Ordering::SeqCst)), (1, 1));
    }
}
