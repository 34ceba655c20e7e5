//! The loop around the journey: claim what is due, keep the leases, and decide what becomes of a turn that
//! did not reach its end.

use backon::{BackoffBuilder, ExponentialBuilder};
use chela_store::{Claimed, Claims, CountsAs, DeadLetter, Lease, Outgoing, Shares, Stage, Trouble, Turn};
use chela_types::{Blame, Fault, Millis, Reply, Retry, TurnId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DeliveryConfig;
use crate::error::Error;
use crate::journey::Journey;

/// Conversations claimed in one go.
const CLAIM_MAX: usize = 64;
/// Of all places, the share that no department's flood takes, as a divisor.
const OTHERS_SHARE: usize = 8;
/// Polling is the truth, waking up only makes it quicker.
const POLL: Duration = Duration::from_millis(500);
/// Stops of the host in one turn before it may be the turn that stops it.
const SUSPECT_CRASHES_MIN: u32 = 2;
/// Sends of unknown outcome that are repeated as soon as any other failure.
const SOON_REPEATED: u32 = 2;

/// The turns that run, each under its lease: a turn whose lease has lapsed may be claimed again while its first
/// run is still on its way, and the two must not be taken for each other.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<Table>>);

type Key = (TurnId, u64);

#[derive(Debug, Default)]
struct Table(HashMap<Key, Run>);

/// A turn that runs.
#[derive(Debug)]
struct Run {
    lease: Lease,
    task: AbortHandle,
    lane: String,
}

impl Running {
    fn key(lease: &Lease) -> Key {
        (lease.turn(), lease.token())
    }
}

impl Table {
    /// Enters a run, and ends earlier ones of the same turn: their leases are lost.
    fn enter(&mut self, run: Run) {
        let key = Running::key(&run.lease);
        for (_, earlier) in self.0.extract_if(|(turn, _), _| *turn == key.0) {
            earlier.task.abort();
        }
        self.0.insert(key, run);
    }

    fn leave(&mut self, key: Key) -> Option<AbortHandle> {
        self.0.remove(&key).map(|run| run.task)
    }

    fn leases(&self) -> Vec<Lease> {
        self.0.values().map(|run| run.lease.clone()).collect()
    }

    /// How many run in each lane.
    fn lanes(&self) -> BTreeMap<String, usize> {
        let mut lanes = BTreeMap::new();
        for run in self.0.values() {
            match lanes.get_mut(&run.lane) {
                Some(count) => *count += 1,
                None => _ = lanes.insert(run.lane.clone(), 1),
            }
        }
        lanes
    }

    fn take_all(&mut self) -> Vec<Run> {
        self.0.drain().map(|(_, run)| run).collect()
    }
}

/// A run's place among those that run. It is left however the run ends: after a panic nobody renews the lease any
/// more, and the turn is claimed again.
struct Place {
    running: Running,
    key: Key,
    slots: Arc<Semaphore>,
    slot: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
    held_back: Arc<AtomicBool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            metrics::counter!("turn_panics_total").increment(1);
            tracing::error!(turn = %self.key.0, "a turn panicked; it is run again when its lease has run out");
        }
        self.running.0.lock().leave(self.key);
        let were_full = self.slots.available_permits() == 0;
        drop(self.slot.take());
        if were_full || self.held_back.swap(false, Ordering::Relaxed) {
            self.freed.notify_one();
        }
    }
}

/// Runs turns until it is told to stop.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    journey: Arc<Journey>,
    running: Running,
    slots: Arc<Semaphore>,
    freed: Arc<Notify>,
    /// Something is due that waits for turns of its own lane to end.
    held_back: Arc<AtomicBool>,
    tasks: TaskTracker,
    /// Names this run of the process in the store's leases.
    owner: String,
}

impl Dispatcher {
    pub(crate) fn new(journey: Arc<Journey>) -> Self {
        let slots = Arc::new(Semaphore::new(journey.fleet.house().config.turns_max.max(1)));
        Self {
            journey,
            running: Running::default(),
            slots,
            freed: Arc::default(),
            held_back: Arc::default(),
            tasks: TaskTracker::new(),
            owner: format!("{}-{}", std::process::id(), TurnId::new()),
        }
    }

    /// Claims and runs until `stop`, then lets what runs come to its end, at most `drain` long.
    pub(crate) async fn run(&self, stop: CancellationToken, drain: Duration) {
        let heartbeat = tokio::spawn(heartbeat(Arc::clone(&self.journey), self.running.clone()));
        while !stop.is_cancelled() {
            if self.claim().await < CLAIM_MAX {
                while self.is_served(&stop).await {}
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
        if self.slots.available_permits() == 0 {
            return 0;
        }
        self.take(self.journey.store.claim_fairly(&self.owner, self.free()).await).await
    }

    /// Waits until there may be something to claim. True if it was claimed in the very commit that brought it, and all
    /// else that was due.
    async fn is_served(&self, stop: &CancellationToken) -> bool {
        let Journey { store, .. } = &*self.journey;
        let (work, pause) = (store.work(), self.pause().await);
        let is_full = self.slots.available_permits() == 0;
        let mut claiming = (!is_full).then(|| store.claim_when_due(&self.owner, self.free()));
        let brought = async {
            match &mut claiming {
                Some(claiming) => claiming.claimed().await,
                None => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            claims = brought => Some(claims),
            () = work.notified() => None,
            () = self.freed.notified() => None,
            () = tokio::time::sleep(pause) => None,
        };
        match (woken, claiming) {
            (Some(claims), _) => self.take(claims).await < CLAIM_MAX,
            (None, Some(claiming)) => {
                self.take(claiming.withdraw().await).await;
                false
            }
            (None, None) => false,
        }
    }

    /// Runs what was claimed; returns how many these are.
    async fn take(&self, claims: chela_store::Result<Claims>) -> usize {
        match claims {
            Ok(claims) => {
                let count = claims.claimed.len();
                self.held_back.store(claims.held_back, Ordering::Relaxed);
                claims.claimed.into_iter().for_each(|turn| self.spawn(turn));
                count
            }
            Err(error) => {
                tracing::error!(%error, "cannot claim work");
                tokio::time::sleep(POLL).await;
                0
            }
        }
    }

    /// How many can be claimed, and what each department has and may have, whenever it is asked.
    fn free(&self) -> impl Fn() -> (usize, Shares) + Send + Sync + 'static {
        let (journey, running) = (Arc::clone(&self.journey), self.running.clone());
        let slots = Arc::clone(&self.slots);
        move || {
            let free = slots.available_permits().min(CLAIM_MAX);
            let config = Arc::clone(&journey.fleet.house().config);
            let weights = config.lanes();
            if weights.is_empty() {
                return (free, Shares::default());
            }
            let turns_max = config.turns_max.max(1);
            let others = (turns_max / OTHERS_SHARE).max(1);
            let lane_max = Some(turns_max.saturating_sub(others).max(1));
            (free, Shares { running: running.0.lock().lanes(), weights, lane_max })
        }
    }

    fn spawn(&self, claimed: Claimed) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        let journey = Arc::clone(&self.journey);
        let lease = claimed.lease.clone();
        let (running, slots) = (self.running.clone(), Arc::clone(&self.slots));
        let (key, freed) = (Running::key(&lease), Arc::clone(&self.freed));
        let (held_back, lane) = (Arc::clone(&self.held_back), claimed.turn.lane.clone());
        // Held while the task is entered into the table, so that it cannot leave it before it is in.
        let mut table = self.running.0.lock();
        let task = self.tasks.spawn(async move {
            // Made here: a task that is dropped unpolled, in a runtime that ends, must not touch the table, which is
            // locked around its birth.
            let _place = Place { running, key, slots, slot: Some(slot), freed, held_back };
            journey.run_turn(claimed).await;
        });
        table.enter(Run { lease, task: task.abort_handle(), lane });
    }

    async fn pause(&self) -> Duration {
        match self.journey.store.next_due().await {
            _ if self.held_back.load(Ordering::Relaxed) => POLL,
            Ok(Some(due)) if self.slots.available_permits() > 0 => {
                due.since(self.journey.clock.now()).clamp(Duration::from_millis(1), POLL)
            }
            _ => POLL,
        }
    }

    /// What has not ended in time goes back as it is; whoever comes next goes on with it.
    async fn hand_back(&self) {
        let left = self.running.0.lock().take_all();
        tracing::warn!(turns = left.len(), "stopped before these turns came to their end");
        for Run { lease, task, .. } in left {
            task.abort();
            if let Err(error) = self.journey.store.release(&lease).await {
                tracing::warn!(%error, "cannot give a conversation back; its lease will run out");
            }
        }
    }
}

/// Renews the leases of all running turns, and stops those whose lease somebody else has.
async fn heartbeat(journey: Arc<Journey>, running: Running) {
    let mut tick = tokio::time::interval(journey.fleet.house().config.lease / 3);
    loop {
        tick.tick().await;
        let leases = running.0.lock().leases();
        if leases.is_empty() {
            continue;
        }
        for (lease, renewed) in leases.iter().zip(journey.store.renew(&leases).await) {
            let Err(error) = renewed else { continue };
            tracing::error!(turn = %lease.turn(), %error, "lease not renewed");
            if matches!(error, chela_store::Error::Fenced { .. })
                && let Some(task) = running.0.lock().leave(Running::key(lease))
            {
                task.abort();
            }
        }
    }
}

impl Journey {
    /// Advances a turn, and if it does not come to its end, decides what becomes of it.
    pub(crate) async fn run_turn(&self, mut claimed: Claimed) {
        let outcome = match self.suspect(&claimed.turn) {
            Ok(_alone) => self.advance(&mut claimed).await,
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return };
        if let Err(error) = self.settle_trouble(&claimed, error).await {
            // The lease runs out, and the turn is claimed again.
            tracing::error!(turn = %claimed.turn.message.id, %error, "cannot write what became of a turn");
        }
    }

    /// A turn in which the host stopped too often is not run again. From half of that on it runs when no other
    /// such turn does: then the next stop tells which of them it was, and the others are none the worse.
    fn suspect(&self, turn: &Turn) -> Result<Option<SemaphorePermit<'_>>, Error> {
        let max = self.fleet.house().config.delivery.crashes_max;
        if turn.crashes >= max {
            return Err(Error::Crashed(turn.crashes));
        }
        if turn.crashes < max.div_ceil(2).max(SUSPECT_CRASHES_MIN) {
            return Ok(None);
        }
        self.suspects.try_acquire().map(Some).map_err(|_| Error::Suspect)
    }

    async fn settle_trouble(&self, claimed: &Claimed, error: Error) -> Result<(), Error> {
        let Claimed { lease, turn } = claimed;
        let blame = error.blame();
        let (text, outline) = (error.to_string(), error.outline());
        let house = self.fleet.house();
        match verdict(&house.config.delivery, turn, &error, self.clock.now()) {
            Verdict::Nothing => {
                tracing::warn!(turn = %turn.message.id, error = outline, "turn belongs to somebody else now");
            }
            Verdict::Again { after, counts_as } => {
                tracing::warn!(turn = %turn.message.id, error = outline, %blame, ?after, "turn is tried again");
                metrics::counter!("turn_retries_total", "blame" => blame.to_string()).increment(1);
                let until = self.clock.now().plus(after);
                self.store.defer(lease, until, Trouble { blame, error: text, counts_as }).await?;
            }
            Verdict::GiveUpDelivery => {
                let Stage::Answered(outgoing) = &turn.stage else { return Ok(()) };
                tracing::error!(turn = %turn.message.id, error = outline, %blame, "answer is given up");
                metrics::counter!("undelivered_total", "channel" => turn.message.channel.to_string())
                    .increment(1);
                self.store.give_up_delivery(lease, outgoing.id, &text).await?;
            }
            Verdict::Dead => {
                tracing::error!(turn = %turn.message.id, error = outline, %blame, "turn is a dead letter");
                metrics::counter!("dead_letters_total", "blame" => blame.to_string()).increment(1);
                let notice = Reply::text(house.config.delivery.notice.clone());
                self.bury(claimed, &text, blame, notice).await?;
            }
        }
        Ok(())
    }

    /// Closes a turn with a notice to the person, which is delivered like any answer; without one if its channel
    /// is not configured any more.
    async fn bury(&self, claimed: &Claimed, reason: &str, blame: Blame, notice: Reply) -> Result<(), Error> {
        let Claimed { lease, turn } = claimed;
        let house = self.fleet.house();
        let agent = match (&turn.stage, house.station(turn.message.channel.as_str())) {
            (_, Err(_)) => None,
            (Stage::Answered(standing), Ok(_)) => {
                return match self.store.notice_instead(lease, reason, blame, notice).await? {
                    Some(outgoing) => self.deliver_notice(claimed, outgoing).await,
                    // A request left in this very run.
                    None => Ok(self.store.give_up_delivery(lease, standing.id, reason).await?),
                };
            }
            (Stage::Decided(decision), Ok(_)) => Some(decision.agent.clone()),
            (Stage::Received, Ok(channel)) => Some(channel.config.default_agent.clone()),
        };
        let notice = agent.map(|agent| (agent, notice));
        let letter = DeadLetter { reason: reason.to_owned(), blame, notice };
        match self.store.dead(lease, letter).await? {
            Some(outgoing) => self.deliver_notice(claimed, outgoing).await,
            None => Ok(()),
        }
    }

    async fn deliver_notice(&self, claimed: &Claimed, outgoing: Outgoing) -> Result<(), Error> {
        let mut claimed = claimed.clone();
        answered(&mut claimed.turn, outgoing);
        match self.deliver(&claimed).await {
            Ok(()) => Ok(()),
            Err(error) => Box::pin(self.settle_trouble(&claimed, error)).await,
        }
    }
}

/// The turn from now on: what is counted from here is its delivery's.
pub(crate) fn answered(turn: &mut Turn, outgoing: Outgoing) {
    turn.stage = Stage::Answered(outgoing);
    (turn.tries, turn.crashes, turn.waits, turn.first_wait) = (0, 0, 0, None);
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
    let outgoing = match &turn.stage {
        Stage::Answered(outgoing) => Some(outgoing),
        _ => None,
    };
    let over = match outgoing {
        // An adapter that cannot say the answer may be able to say the notice, if nothing of the answer has left.
        Some(standing) if standing.notice || standing.requests > 0 || error.blame() != Blame::Plugin => {
            Verdict::GiveUpDelivery
        }
        _ => Verdict::Dead,
    };
    let asked = match (error, error.retry()) {
        (Error::Store(chela_store::Error::Fenced { .. }), _) => return Verdict::Nothing,
        (Error::Busy { .. } | Error::Suspect, Retry::Later(after)) => {
            return Verdict::Again { after, counts_as: CountsAs::Nothing };
        }
        (Error::Crashed(_), _) => return over,
        (_, Retry::Never) if matches!(error.blame(), Blame::Operator | Blame::Sender) => return over,
        (_, Retry::Later(after)) => after,
        (_, Retry::Never | Retry::Elsewhere) => Duration::ZERO,
    };
    let waited = turn.first_wait.map_or(Duration::ZERO, |first| now.since(first));
    let left = config.wait_max.saturating_sub(waited);
    if let Error::AskedAgain { after, .. } = error {
        let after = (*after).min(left);
        return if left.is_zero() { over } else { Verdict::Again { after, counts_as: CountsAs::Wait } };
    }
    match error.blame() {
        Blame::Plugin | Blame::Operator | Blame::Sender if turn.tries + 1 >= config.tries_max => over,
        Blame::Plugin | Blame::Operator | Blame::Sender => {
            let after = asked.max(backoff(config, turn.tries)).min(config.wait_max);
            Verdict::Again { after, counts_as: CountsAs::Try }
        }
        Blame::Provider | Blame::Host if left.is_zero() => over,
        Blame::Provider | Blame::Host => {
            let pause = match (error, outgoing) {
                (Error::Unknown { .. }, Some(outgoing)) => {
                    // This one is counted when it is written down.
                    let unknown = outgoing.ambiguous.saturating_add(1);
                    if unknown >= config.unknown_max {
                        return over;
                    }
                    repeat_pause(config, unknown)
                }
                _ => backoff(config, turn.waits),
            };
            // Whatever a platform or a plugin asks for, the turn comes to an end.
            Verdict::Again { after: asked.max(pause).min(left), counts_as: CountsAs::Wait }
        }
    }
}

/// The pause before a send is repeated whose outcome is unknown for the `unknown`th time. The person may have it
/// already: after the first few the pauses grow beyond the usual ones.
fn repeat_pause(config: &DeliveryConfig, unknown: u32) -> Duration {
    match unknown.checked_sub(SOON_REPEATED + 1) {
        None => backoff(config, unknown),
        Some(more) => config.backoff_max.saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX)),
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

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
