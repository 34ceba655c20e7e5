//! An answer that can be watched while it is made, on platforms that edit: tokens become a post, and the post is edited
//! until the kept answer takes its place (`delivery.rs`).
//!
//! Drafts are worth little: one that fails, or for which the platform has no allowance left, is left out, and nothing
//! waits for it but the end. There the last one is awaited, because a draft that arrives behind the answer would
//! stay. Only the first draft can do harm, as it posts: it is written down beforehand, and where its outcome is
//! unknown, it is left alone.

use chela_egress::{Heard, Response};
use chela_store::{Lease, Progress, Store};
use chela_types::{AgentId, Millis, OutboxId, Reply, Target};
use governor::DefaultDirectRateLimiter;
use http::StatusCode;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::component;
use super::manifest::ProgressTable;
use super::request::{Allowed, Bounds};
use super::station::ChannelStation;
use crate::contract::{self, translating};
use crate::error::Error;

/// A draft's exchange takes no longer, so that the answer does not wait long for the last one.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Requests that one draft may take.
const STEPS_MAX: usize = 4;

/// How often drafts may leave an account.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    rate: DefaultDirectRateLimiter,
}

impl Pace {
    pub(crate) fn new(table: &ProgressTable) -> Self {
        // Spread over the minute: a burst of drafts would use up what answers need.
        let quota = governor::Quota::per_minute(table.per_minute).allow_burst(NonZeroU32::MIN);
        Self {
            interval: Duration::from_millis(table.interval_ms),
            rate: governor::RateLimiter::direct(quota),
        }
    }
}

/// What is to be seen of an answer that is being made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Look {
    /// Which agent's call of the turn; a later one begins anew.
    call: u32,
    agent: Option<AgentId>,
    text: String,
}

/// Whose drafts these are, and where they go.
pub(crate) struct Showing {
    pub(crate) channel: Arc<ChannelStation>,
    pub(crate) store: Store,
    pub(crate) lease: Lease,
    pub(crate) target: Target,
    pub(crate) received: Millis,
    pub(crate) progress: Option<Progress>,
}

/// Shows what is put into its sinks until it is ended.
#[derive(Debug)]
pub(crate) struct Shown {
    looks: watch::Sender<Look>,
    calls: AtomicU32,
    end: CancellationToken,
    task: AbortOnDropHandle<Option<Progress>>,
}

/// Where one agent's call puts its drafts.
#[derive(Debug, Clone)]
pub(crate) struct Drawer {
    looks: watch::Sender<Look>,
    call: u32,
    agent: AgentId,
}

impl Drawer {
    /// Adds tokens.
    pub(crate) fn push(&self, text: &str) {
        self.looks.send_modify(|look| {
            if look.call != self.call {
                *look = Look { call: self.call, agent: Some(self.agent.clone()), text: String::new() };
            }
            look.text.push_str(text);
        });
    }
}

impl Shown {
    /// A sink for one agent's call: what it says takes the place of what an earlier one said.
    pub(crate) fn drawer(&self, agent: AgentId) -> Drawer {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        Drawer { looks: self.looks.clone(), call, agent }
    }

    /// Shows nothing more; how the post stands once the last draft has its outcome.
    pub(crate) async fn end(self) -> Option<Progress> {
        self.end.cancel();
        self.task.await.unwrap_or(Some(Progress::Lost))
    }
}

impl Showing {
    /// Begins, if the channel shows answers while they are made.
    pub(crate) fn begin(self) -> Option<Shown> {
        let pace = Arc::clone(self.channel.pace.as_ref()?);
        let (looks, seen) = watch::channel(Look::default());
        let end = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(self.run(pace, seen, end.clone())));
        Some(Shown { looks, calls: AtomicU32::new(0), end, task })
    }

    async fn run(
        mut self,
        pace: Arc<Pace>,
        mut looks: watch::Receiver<Look>,
        end: CancellationToken,
    ) -> Option<Progress> {
        let mut rest = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return self.progress,
                changed = looks.changed() => if changed.is_err() { return self.progress },
            }
            tokio::select! {
                biased;
                () = end.cancelled() => return self.progress,
                () = tokio::time::sleep(pace.interval.max(rest)) => {}
            }
            rest = Duration::ZERO;
            let look = looks.borrow_and_update().clone();
            if look.text.trim().is_empty() || pace.rate.check().is_err() {
                continue;
            }
            match self.show(look).await {
                Ok(Next::On) => {}
                Ok(Next::Later(after)) => rest = after,
                Ok(Next::Never) => break,
                Err(error) => {
                    // Whoever has the conversation now shows it.
                    tracing::debug!(turn = %self.lease.turn(), %error, "drafts are not shown any more");
                    break;
                }
            }
        }
        self.progress
    }

    async fn show(&mut self, look: Look) -> Result<Next, Error> {
        match self.progress.clone() {
            None => self.post(look).await,
            Some(Progress::Posted { platform_id, seq }) => self.edit(look, platform_id, seq).await,
            Some(Progress::Lost | Progress::Settled { .. }) => Ok(Next::Never),
        }
    }

    async fn post(&mut self, look: Look) -> Result<Next, Error> {
        if !self.store.progress_begins(&self.lease).await? {
            self.progress = Some(Progress::Lost);
            return Ok(Next::Never);
        }
        // Until its outcome is written down, nobody knows.
        self.progress = Some(Progress::Lost);
        let (progress, next) = match self.exchange(look, None, 1).await {
            Outcome::There(Some(platform_id)) => (Some(Progress::Posted { platform_id, seq: 1 }), Next::On),
            Outcome::Refused => (None, Next::Never),
            Outcome::Later(after) => (None, Next::Later(after)),
            Outcome::There(None) | Outcome::Unknown => {
                self.channel.lost_post();
                (Some(Progress::Lost), Next::Never)
            }
        };
        self.store.progress(&self.lease, progress.clone()).await?;
        self.progress = progress;
        Ok(next)
    }

    async fn edit(&mut self, look: Look, platform_id: String, seq: u32) -> Result<Next, Error> {
        let seq = seq.saturating_add(1);
        // Its number is used up whatever becomes of it.
        let posted = Progress::Posted { platform_id: platform_id.clone(), seq };
        self.store.progress_behind(&self.lease, posted.clone()).await?;
        self.progress = Some(posted);
        Ok(match self.exchange(look, Some(platform_id), seq).await {
            Outcome::There(_) | Outcome::Unknown => Next::On,
            Outcome::Later(after) => Next::Later(after),
            // The answer finds out whether that is so for good.
            Outcome::Refused => Next::Never,
        })
    }

    /// One draft, with as many requests as it takes.
    async fn exchange(&self, look: Look, platform_id: Option<String>, seq: u32) -> Outcome {
        let id = OutboxId::new();
        let outgoing = translating::Outgoing {
            id: id.to_string(),
            agent: look.agent.map(|agent| agent.to_string()).unwrap_or_default(),
            reply: contract::reply_out(&Reply::text(look.text)),
        };
        let bounds = Bounds { target: &self.target, post: platform_id.as_deref(), id };
        let revision = translating::Revision { platform_id: platform_id.clone(), seq, final_: false };
        let target = component::target(&self.target, false);
        let mut step = self.channel.update(outgoing, target, revision, self.received).await;
        // Whether the platform has taken a request: what fails then may have left a post.
        let mut has_it = false;
        for _ in 0..STEPS_MAX {
            let failed = match has_it {
                true => Outcome::Unknown,
                false => Outcome::Refused,
            };
            let outbound = match step {
                Ok(translating::Step::Done(id)) => {
                    return Outcome::There(id.filter(|id| self.channel.is_sound_id(id)));
                }
                Ok(translating::Step::Retry(millis)) if !has_it => {
                    return Outcome::Later(Duration::from_millis(millis));
                }
                Ok(translating::Step::Permanent(_) | translating::Step::Retry(_)) => return failed,
                Err(error) => {
                    tracing::debug!(channel = %self.channel.name, error = error.outline(), "a draft failed");
                    return failed;
                }
                Ok(translating::Step::Next(outbound)) => outbound,
            };
            let Ok(Allowed::Http { mut request, .. }) = self.channel.allow(&outbound, bounds) else {
                return failed;
            };
            request.timeouts.total = Some(EXCHANGE_MAX);
            let Heard { status, headers, body } = match self.channel.egress.ask(*request).await {
                Ok(heard) => heard,
                Err(error) if !error.reached() && !has_it => return Outcome::Later(Duration::ZERO),
                Err(_) => return Outcome::Unknown,
            };
            // A server that failed may have worked before it did; one that says 503 has not begun.
            let is_unsure =
                body.is_err() || (status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE);
            let response = Response { status, headers, body: body.unwrap_or_default() };
            step = self.channel.sent(outbound.state, &response, self.received).await;
            if is_unsure && !matches!(step, Ok(translating::Step::Done(_))) {
                return Outcome::Unknown;
            }
            // Of a 2xx, the adapter knows whether it says yes.
            has_it |= status.is_success() && matches!(step, Ok(translating::Step::Next(_)) | Err(_));
        }
        Outcome::Unknown
    }
}

/// What became of a draft.
enum Outcome {
    /// It is there, under this name.
    There(Option<String>),
    /// It is not, and will not be.
    Refused,
    /// It is not, now.
    Later(Duration),
    /// It may be.
    Unknown,
}

/// Whether to go on.
enum Next {
    On,
    Later(Duration),
    Never,
}
