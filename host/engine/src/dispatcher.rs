//! The loop around the journey: claim what is due, keep the leases, and decide what becomes of a turn that
//! did not reach its end.

use backon::{BackoffBuilder, ExponentialBuilder};
use chela_store::{Claimed, CountsAs, DeadLetter, Lease, Stage, Trouble, Turn};
use chela_types::{Blame, Fault, Millis, Reply, Retry, TurnId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DeliveryConfig;
use crate::error::Error;
use crate::journey::{Advanced, Journey};

/// Conversations claimed in one go.
const CLAIM_MAX: usize = 64;
/// Polling is the truth, waking up only makes it quicker.
const POLL: Duration = Duration::from_millis(500);
/// How soon a turn whose agent was busy is due again.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Runs turns until it is told to stop.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    journey: Arc<Journey>,
    active: Arc<Mutex<HashMap<TurnId, (Lease, AbortHandle)>>>,
    slots: Arc<Semaphore>,
    freed: Arc<Notify>,
    tasks: TaskTracker,
    /// Names this run of the process in the store's leases.
    owner: String,
}

impl Dispatcher {
    pub(crate) fn new(journey: Arc<Journey>) -> Self {
        let slots = Arc::new(Semaphore::new(journey.config.turns_max.max(1)));
        Self {
            journey,
            active: Arc::default(),
            slots,
            freed: Arc::default(),
            tasks: TaskTracker::new(),
            owner: format!("{}-{}", std::process::id(), TurnId::new()),
        }
    }

    /// Claims and runs until `stop`, then lets what runs come to its end, at most `drain` long.
    pub(crate) async fn run(&self, stop: CancellationToken, drain: Duration) {
        let heartbeat = tokio::spawn(heartbeat(Arc::clone(&self.journey), Arc::clone(&self.active)));
        let work = self.journey.store.work();
        while !stop.is_cancelled() {
            if self.claim().await == CLAIM_MAX {
                continue;
            }
            let pause = self.pause().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = work.notified() => {}
                () = self.freed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.tasks.close();
        let drained = tokio::time::timeout(drain, self.tasks.wait()).await.is_ok();
        heartbeat.abort();
        if !drained {
            self.hand_back().await;
        }
    }

    /// Claims as many conversations as there are free slots; returns how many it got.
    async fn claim(&self) -> usize {
        let free = self.slots.available_permits().min(CLAIM_MAX);
        if free == 0 {
            return 0;
        }
        match self.journey.store.claim(&self.owner, free).await {
            Ok(claimed) => {
                let count = claimed.len();
                claimed.into_iter().for_each(|turn| self.spawn(turn));
                count
            }
            Err(error) => {
                tracing::error!(%error, "cannot claim work");
                tokio::time::sleep(POLL).await;
                0
            }
        }
    }

    fn spawn(&self, claimed: Claimed) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        let (journey, active) = (Arc::clone(&self.journey), Arc::clone(&self.active));
        let (slots, freed) = (Arc::clone(&self.slots), Arc::clone(&self.freed));
        let (turn, lease) = (claimed.turn.message.id, claimed.lease.clone());
        // Held while the task is entered into the table, so that it cannot leave it before it is in.
        let mut table = self.active.lock();
        let task = self.tasks.spawn(async move {
            journey.run_turn(claimed).await;
            active.lock().remove(&turn);
            let were_full = slots.available_permits() == 0;
            drop(slot);
            if were_full {
                freed.notify_one();
            }
        });
        table.insert(turn, (lease, task.abort_handle()));
    }

    async fn pause(&self) -> Duration {
        match self.journey.store.next_due().await {
            Ok(Some(due)) if self.slots.available_permits() > 0 => {
                due.since(self.journey.clock.now()).clamp(Duration::from_millis(1), POLL)
            }
            _ => POLL,
        }
    }

    /// What has not ended in time goes back as it is; whoever comes next goes on with it.
    async fn hand_back(&self) {
        let left: Vec<_> = self.active.lock().drain().map(|(_, entry)| entry).collect();
        tracing::warn!(turns = left.len(), "stopped before these turns came to their end");
        for (lease, task) in left {
            task.abort();
            if let Err(error) = self.journey.store.release(&lease).await {
                tracing::warn!(%error, "cannot give a conversation back; its lease will run out");
            }
        }
    }
}

/// Renews the leases of all running turns, and stops those whose lease somebody else has.
async fn heartbeat(journey: Arc<Journey>, active: Arc<Mutex<HashMap<TurnId, (Lease, AbortHandle)>>>) {
    let mut tick = tokio::time::interval(journey.config.lease / 3);
    loop {
        tick.tick().await;
        let leases: Vec<Lease> = active.lock().values().map(|(lease, _)| lease.clone()).collect();
        if leases.is_empty() {
            continue;
        }
        for (lease, renewed) in leases.iter().zip(journey.store.renew(&leases).await) {
            let Err(error) = renewed else { continue };
            tracing::error!(turn = %lease.turn(), %error, "lease not renewed");
            if matches!(error, chela_store::Error::Fenced { .. })
                && let Some((_, task)) = active.lock().remove(&lease.turn())
            {
                task.abort();
            }
        }
    }
}

impl Journey {
    /// Advances a turn, and if it does not come to its end, decides what becomes of it.
    pub(crate) async fn run_turn(&self, claimed: Claimed) {
        let outcome = match self.poisoned(&claimed.turn) {
            Some(error) => Err(error),
            None => self.advance(&claimed).await,
        };
        let error = match outcome {
            Ok(Advanced::Closed | Advanced::Later) => return,
            Err(error) => error,
        };
        if let Err(error) = self.settle_trouble(&claimed, error).await {
            // The lease runs out, and the turn is claimed again.
            tracing::error!(turn = %claimed.turn.message.id, %error, "cannot write what became of a turn");
        }
    }

    fn poisoned(&self, turn: &Turn) -> Option<Error> {
        let answered = matches!(turn.stage, Stage::Answered(_));
        (!answered && turn.crashes >= self.config.delivery.crashes_max)
            .then(|| Error::Configuration(format!("the host stopped {} times in this turn", turn.crashes)))
    }

    async fn settle_trouble(&self, claimed: &Claimed, error: Error) -> Result<(), Error> {
        let Claimed { lease, turn } = claimed;
        let blame = error.blame();
        let text = error.to_string();
        let ambiguous = matches!(error, Error::Unknown { .. });
        match verdict(&self.config.delivery, turn, &error, self.clock.now()) {
            Verdict::Nothing => {
                tracing::warn!(turn = %turn.message.id, error = text, "turn belongs to somebody else now");
            }
            Verdict::Again { after, counts_as } => {
                tracing::warn!(turn = %turn.message.id, error = text, %blame, ?after, "turn is tried again");
                metrics::counter!("turn_retries_total", "blame" => blame.to_string()).increment(1);
                let until = self.clock.now().plus(after);
                self.store.defer(lease, until, Trouble { blame, error: text, counts_as, ambiguous }).await?;
            }
            Verdict::GiveUpDelivery => {
                let Stage::Answered(outgoing) = &turn.stage else { return Ok(()) };
                tracing::error!(turn = %turn.message.id, error = text, %blame, "answer is given up");
                metrics::counter!("undelivered_total", "channel" => turn.message.channel.to_string())
                    .increment(1);
                self.store.give_up_delivery(lease, outgoing.id, &text).await?;
            }
            Verdict::Dead => {
                tracing::error!(turn = %turn.message.id, error = text, %blame, "turn is a dead letter");
                metrics::counter!("dead_letters_total", "blame" => blame.to_string()).increment(1);
                let notice = Reply::text(self.config.delivery.notice.clone());
                self.bury(claimed, &text, blame, notice).await?;
            }
        }
        Ok(())
    }

    /// Closes a turn with a notice to the person, which is delivered like any answer.
    async fn bury(&self, claimed: &Claimed, reason: &str, blame: Blame, notice: Reply) -> Result<(), Error> {
        let Claimed { lease, turn } = claimed;
        let agent = match &turn.stage {
            Stage::Decided(decision) => decision.agent.clone(),
            _ => self.channel(turn.message.channel.as_str())?.config.default_agent.clone(),
        };
        let letter = DeadLetter { reason: reason.to_owned(), blame, notice: Some((agent, notice)) };
        let Some(outgoing) = self.store.dead(lease, letter).await? else { return Ok(()) };
        if let Err(error) = self.deliver(lease, turn, &outgoing).await {
            let turn = Turn { stage: Stage::Answered(outgoing), tries: 0, ..turn.clone() };
            let claimed = Claimed { lease: lease.clone(), turn };
            return Box::pin(self.settle_trouble(&claimed, error)).await;
        }
        Ok(())
    }
}

/// What becomes of a turn.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Again { after: Duration, counts_as: CountsAs },
    GiveUpDelivery,
    Dead,
}

/// Decides by blame and retry alone, never by an error's text.
fn verdict(config: &DeliveryConfig, turn: &Turn, error: &Error, now: Millis) -> Verdict {
    let answered = matches!(turn.stage, Stage::Answered(_));
    let over = if answered { Verdict::GiveUpDelivery } else { Verdict::Dead };
    match error {
        Error::Store(chela_store::Error::Fenced { .. }) => return Verdict::Nothing,
        Error::Busy(_) => return Verdict::Again { after: BUSY_PAUSE, counts_as: CountsAs::Nothing },
        _ => {}
    }
    let asked = match error.retry() {
        Retry::Never if matches!(error.blame(), Blame::Operator | Blame::Sender) => return over,
        Retry::Later(after) => after,
        Retry::Never | Retry::Elsewhere => Duration::ZERO,
    };
    match error.blame() {
        Blame::Plugin | Blame::Operator | Blame::Sender => {
            if turn.tries + 1 >= config.tries_max {
                return over;
            }
            Verdict::Again { after: asked.max(backoff(config, turn.tries)), counts_as: CountsAs::Try }
        }
        Blame::Provider | Blame::Host => {
            let waited = turn.first_wait.map_or(Duration::ZERO, |first| now.since(first));
            if waited >= config.wait_max {
                return over;
            }
            Verdict::Again { after: asked.max(backoff(config, turn.waits)), counts_as: CountsAs::Wait }
        }
    }
}

/// The pause before try number `tries + 1`, with jitter.
fn backoff(config: &DeliveryConfig, tries: u32) -> Duration {
    ExponentialBuilder::default()
        .with_min_delay(config.backoff_min)
        .with_max_delay(config.backoff_max)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
        .nth(tries.min(32) as usize)
        .unwrap_or(config.backoff_max)
}
