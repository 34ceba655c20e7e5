//! Walks a chain until somebody answers.
//!
//! Each link is asked at most once. Until something has been shown, any failure whose class allows it moves on to the next
//! link, and *slow* is a failure too, as is an answer to an agent that ends well and says nothing. After something has been
//! shown another model would say something else: so a break is told as one, unless the tier has it gone on with
//! (`continuation.rs`).
//!
//! Two things bound what an outage costs: a model that fails is left alone (`breaker.rs`), and attempts beyond the first
//! have one budget for all calls of a tier (`retries.rs`). A tier may have the next link asked beside the first when that
//! is silent for long (a hedge): who says the first text wins, and the other is dropped.

use chela_types::Usage;
use futures::future::{BoxFuture, select_all};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

use crate::account::Leave;
use crate::attempt::{Opened, Way, first};
use crate::plan::{Link, Plan};
use crate::provider::{Sent, Trouble};
use crate::relay::{Relay, Voice, answer};
use crate::retries::Retry;
use crate::tally::{Charge, Tally};
use crate::{Answer, Call, Chunk, Error, Kind, Model, Purse, Rate};

/// An attempt that was overtaken by the one started beside it.
const HEDGED: &str = "hedged";
/// An attempt that was started beside another and came second.
const LOST: &str = "lost";
/// An attempt that was ended because the call failed for good beside it.
const DROPPED: &str = "dropped";

/// A tier's chain.
pub(crate) struct Failover {
    pub(crate) plan: Arc<Plan>,
    pub(crate) cooldown_max: Duration,
}

impl Model for Failover {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(Walk::new(self, call).walk())
    }
}

/// One call on its way.
struct Walk {
    plan: Arc<Plan>,
    rest_max: Duration,
    call: Arc<Call>,
    tally: Tally,
    /// What is told if nobody answers.
    failed: Option<Error>,
    /// The first link that was not asked or passed over yet.
    next: usize,
    /// When the last of them must have begun.
    until: Instant,
    /// One, or two if the call is hedged.
    running: Vec<Running>,
    /// When the next is started beside the first.
    hedge_at: Option<Instant>,
}

/// An attempt that has shown nothing yet.
struct Running {
    link: Arc<Link>,
    rate: Rate,
    leave: Leave,
    retry: Option<Retry>,
    started: Instant,
    sent: Sent,
    is_hedge: bool,
    first: BoxFuture<'static, Result<(Opened, Vec<Chunk>), Trouble>>,
}

impl Walk {
    fn new(failover: &Failover, call: Arc<Call>) -> Self {
        let plan = Arc::clone(&failover.plan);
        let tally = Tally::new(&call);
        let patience = plan.links.iter().map(|link| link.limits.total).max().unwrap_or_default();
        let (until, rest_max) = (Instant::now() + patience, failover.cooldown_max);
        let hedge_at = plan.failover.hedge_after.map(|after| Instant::now() + after);
        Self { plan, rest_max, call, tally, failed: None, next: 0, until, running: Vec::new(), hedge_at }
    }

    async fn walk(mut self) -> Result<Answer, Error> {
        self.plan.retries.called();
        self.start(None, false);
        while !self.running.is_empty() {
            let Some((at, begun)) = self.moved().await else {
                self.hedge();
                continue;
            };
            let ended = self.running.swap_remove(at);
            let moves_on = match begun {
                Ok(begun) => return Ok(self.won(ended, begun)),
                Err(trouble) => self.failed(ended, trouble),
            };
            if !moves_on {
                break;
            }
            self.go_on().await;
        }
        Err(self.error())
    }

    /// Starts the next link that may be asked; those that may not are passed over and noted.
    fn start(&mut self, mut retry: Option<Retry>, is_hedge: bool) {
        while let Some(link) = self.plan.links.get(self.next).cloned() {
            let (rate, started) = (self.plan.rate(&link, &self.call), Instant::now());
            let share = share(self.until, self.plan.links.len() - self.next);
            self.next += 1;
            match link.admit(rate.tokens().0) {
                Ok(leave) => {
                    let is_probed = self.next < self.plan.links.len();
                    let may_be_silent = matches!(self.call.purse, Purse::Key(_));
                    let way = Way { rate, share, is_probed, may_be_silent };
                    let sent = Sent::default();
                    let first = asked(link.clone(), self.call.clone(), way, sent.clone());
                    let retry = retry.take();
                    self.running.push(Running { link, rate, leave, retry, started, sent, is_hedge, first });
                    return;
                }
                Err(trouble) => {
                    self.tally.failed(&link, rate, &trouble, started);
                    self.failed = Some(worse(self.failed.take(), trouble));
                }
            }
        }
        // Nobody is left who could use it.
        if let Some(retry) = retry {
            retry.give_back();
        }
    }

    /// Which attempt has come to its first text or has failed; none: it is time for the hedge.
    async fn moved(&mut self) -> Option<(usize, Result<(Opened, Vec<Chunk>), Trouble>)> {
        let hedge_at = self.hedge_at.filter(|_| self.next < self.plan.links.len());
        let (begun, at) = match hedge_at {
            None => self.ended().await,
            Some(hedge_at) => tokio::select! {
                biased;
                ended = self.ended() => ended,
                () = sleep_until(hedge_at) => return None,
            },
        };
        Some((at, begun))
    }

    async fn ended(&mut self) -> (Result<(Opened, Vec<Chunk>), Trouble>, usize) {
        let (begun, at, _) = select_all(self.running.iter_mut().map(|running| &mut running.first)).await;
        (begun, at)
    }

    /// Starts the next beside the first, if not too many calls are hedged already.
    fn hedge(&mut self) {
        self.hedge_at = None;
        if self.plan.retries.hedge() {
            metrics::counter!("gateway_hedges_total").increment(1);
            self.start(None, true);
        }
    }

    /// Starts the next after a failure, if the budget of further attempts allows it.
    async fn go_on(&mut self) {
        if !self.running.is_empty() || self.next >= self.plan.links.len() {
            return;
        }
        match self.plan.retries.take(self.until).await {
            Ok(retry) => self.start(Some(retry), false),
            Err(wait) => {
                metrics::counter!("gateway_retries_refused_total").increment(1);
                self.failed = self.failed.take().map(|error| later(error, wait));
            }
        }
    }

    /// Notes a failure. False: nobody else is to be asked.
    fn failed(&mut self, ended: Running, trouble: Trouble) -> bool {
        let Running { link, rate, mut leave, started, sent, .. } = ended;
        leave.failed(&trouble, self.rest_max);
        if !sent.is_begun() && !trouble.billed {
            leave.unsent();
        }
        self.tally.failed(&link, rate, &trouble, started);
        let moves_on = trouble.kind.elsewhere();
        self.failed = Some(worse(self.failed.take(), trouble));
        moves_on
    }

    /// What is not the winner is dropped, which cancels it. A first that a hedge overtook was slow: with few calls each
    /// is hedged, and nothing else would ever tell that it hangs.
    fn overtaken(&mut self, is_won: bool) {
        for lost in std::mem::take(&mut self.running) {
            let Running { link, rate, mut leave, started, sent, is_hedge, first, .. } = lost;
            drop(first);
            let (class, was_sent) = (class(is_won, is_hedge), sent.give_up());
            if !was_sent {
                leave.unsent();
            } else if class == HEDGED {
                leave.slow(started.elapsed());
            }
            self.tally.overtaken((&link, rate), class, (was_sent, started));
        }
    }

    fn won(mut self, winner: Running, (opened, said): (Opened, Vec<Chunk>)) -> Answer {
        self.overtaken(true);
        let Running { link, rate, leave, retry, .. } = winner;
        let Self { plan, rest_max, call, tally, next, .. } = self;
        let voice = Voice { opened, link, rate, leave, retry };
        answer(Relay { plan, rest_max, call, tally, next, voice, before: None }, said)
    }

    fn error(mut self) -> Error {
        self.overtaken(false);
        let error = self.failed.unwrap_or_else(|| Error::new(Kind::Config("chain is empty".into())));
        error.with_call(self.tally.record(None, Usage::default(), Charge::default()))
    }
}

fn asked(
    link: Arc<Link>,
    call: Arc<Call>,
    way: Way,
    sent: Sent,
) -> BoxFuture<'static, Result<(Opened, Vec<Chunk>), Trouble>> {
    Box::pin(async move { first(&link, &call, way, sent).await })
}

/// Of an attempt that is ended by another's.
const fn class(is_won: bool, is_hedge: bool) -> &'static str {
    match (is_won, is_hedge) {
        (true, false) => HEDGED,
        (true, true) => LOST,
        (false, _) => DROPPED,
    }
}

/// When a link must have said its first word, so that those after it have their time too: one that thinks and
/// thinks is slow as well.
fn share(until: Instant, links: usize) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now) / u32::try_from(links.max(1)).unwrap_or(u32::MAX)
}

/// Of two failures the one that tells best what to do: one that passes before one that stays, and of two that
/// pass the shorter wait.
pub(crate) fn worse(before: Option<Error>, trouble: Trouble) -> Error {
    let new = trouble.told();
    match before {
        None => new,
        Some(before) => match (&before.kind, &new.kind) {
            (old, kind) if kind.passes() && kind.retry_after() < old.retry_after() => new,
            (old, kind) if old.passes() && !matches!(kind, Kind::Refused | Kind::Invalid { .. }) => before,
            _ => new,
        },
    }
}

/// A failure after which somebody else would have been asked if not so many were: it says when that is so again.
pub(crate) fn later(error: Error, wait: Duration) -> Error {
    let retry_after = error.kind.retry_after().max(wait);
    let kind = match &error.kind {
        Kind::RateLimited { .. } => Kind::RateLimited { retry_after },
        Kind::Unavailable { code, .. } => Kind::Unavailable { code: code.clone(), retry_after },
        kind if kind.passes() => Kind::Unavailable { code: kind.class().to_owned(), retry_after },
        _ => return error,
    };
    Error::new(kind).because(error)
}

#[cfg(test)]
#[path = "failover_tests.rs"]
pub(crate) mod tests;

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tools_tests;

#[cfg(test)]
#[path = "hedge_tests.rs"]
mod hedge_tests;

#[cfg(test)]
#[path = "slow_tests.rs"]
mod slow_tests;
