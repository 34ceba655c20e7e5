//! Group commit: one task owns the one writing connection.
//!
//! Methods send it operations over a bounded queue. It opens a transaction, runs everything that waits, commits
//! (one fsync) and only then answers all.
//!
//! It calls SQLite on a thread of its own, for that is where its time goes: a trip to another thread and back costs more
//! than most statements. The common case of an operation is one query of several statements, whose first one decides
//! (`mailbox::held`); only a refusal asks again, for its reason. And each statement must be compiled once and find its
//! rows by a key, or the writer gets slower with all that it keeps; `tests/plans.rs` sees to both.
//!
//! Operations run in the order in which they were sent, so one that nobody awaits is durable no later than the
//! next one that somebody does. Only a claim may stand beside the queue: as soon as a batch makes something due, it is
//! run at its end and committed with it. Settlements have a lane of their own, which goes first in each batch; it needs no
//! limit, because there are never more of them than open reservations. If a statement of the batch fails, the
//! batch is rolled back and each operation is run alone, so that one bad operation harms nobody; that is why
//! operations can be run again. If the commit itself fails, everybody who waits is told so, and what nobody waits
//! for goes first in the next batch.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Instant;

use chela_types::{Clock, Millis};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::connect;
use crate::health::Health;
use crate::lane::{Lanes, Pace, Place};
use crate::owner::Owner;
use crate::spend::{self, Pile};
use crate::sql::{self, Connection, DatabaseError};
use crate::{Error, Result};

/// The open transaction that an operation writes into.
pub(crate) struct Transaction<'c> {
    pub(crate) connection: &'c mut Connection,
    pub(crate) now: Millis,
    pub(crate) agenda: Agenda,
}

/// When the next conversation may be claimed, as far as the transaction's operations say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agenda {
    next: Millis,
    wakes: bool,
}

impl Agenda {
    /// A conversation may be claimed from `at` on.
    pub(crate) fn add(&mut self, at: Millis) {
        self.next = self.next.min(at);
        self.wakes = true;
    }

    /// This is the next one of all, after a claim has looked; `None`: there is none.
    pub(crate) fn replace(&mut self, next: Option<Millis>) {
        self.next = next.unwrap_or(Due::NEVER);
        self.wakes = false;
    }

    /// Something has become due that no claim has seen.
    fn is_due(&self, now: Millis) -> bool {
        self.wakes && self.next <= now
    }
}

/// When the next conversation may be claimed, as the last commit left it. Never too late; too early after a
/// lease was renewed or given back, until the next claim looks.
#[derive(Debug)]
pub(crate) struct Due(AtomicI64);

impl Default for Due {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN.0))
    }
}

impl Due {
    /// Nothing waits.
    pub(crate) const NEVER: Millis = Millis(i64::MAX);
    /// Nobody has looked yet.
    pub(crate) const UNKNOWN: Millis = Millis(i64::MIN);

    /// The time.
    pub(crate) fn get(&self) -> Millis {
        Millis(self.0.load(Ordering::Acquire))
    }

    fn set(&self, next: Millis) {
        self.0.store(next.0, Ordering::Release);
    }
}

/// A change that can be run again from the start. It decides every refusal before its first write.
pub(crate) trait Operation: Send + Sync + 'static {
    /// What the caller gets after the commit.
    type Output: Send + 'static;
    /// Reads, decides, writes.
    fn run(&self, tx: &mut Transaction<'_>) -> impl Future<Output = Result<Self::Output>> + Send;
    /// The lane for which it is done; `None` where it is the store's own.
    fn lane(&self) -> Option<&str> {
        None
    }
}

/// How often an operation that nobody waits for is run while the disk fails.
const RUNS_MAX: u32 = 1_000;

/// What stands in the queue.
pub(crate) enum Command {
    /// An operation.
    Run(Box<dyn Job>),
    /// Commit what was sent before and stop.
    Close(oneshot::Sender<()>),
}

type Running<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// An operation of any kind, and who waits for it.
pub(crate) trait Job: Send {
    /// False if the batch can't be committed with it.
    fn run<'a>(&'a mut self, tx: &'a mut Transaction<'_>) -> Running<'a>;
    /// Answers whoever waits. If nobody does and the disk failed, it comes back to be run again: while there is
    /// room, and a settlement always, but not without end.
    fn finish(self: Box<Self>, committed: &Result<()>, room: bool) -> Option<Box<dyn Job>>;
}

/// An operation, its outcome and its caller.
pub(crate) struct Pending<O: Operation> {
    operation: O,
    outcome: Option<Result<O::Output>>,
    caller: Caller<O::Output>,
    /// Times it was run.
    runs: u32,
    /// Its place among those of its lane that stand in the queue.
    place: Option<Place>,
}

/// Who waits for an operation.
pub(crate) enum Caller<T> {
    /// This one.
    Waits(oneshot::Sender<Result<T>>),
    /// Nobody: it is written behind.
    Nobody,
    /// Nobody, and money is counted wrong until it is done.
    Settles,
}

impl<O: Operation> Pending<O> {
    pub(crate) fn new(operation: O, caller: Caller<O::Output>, place: Option<Place>) -> Box<Self> {
        Box::new(Self { operation, outcome: None, caller, runs: 0, place })
    }
}

impl<O: Operation> Job for Pending<O> {
    fn run<'a>(&'a mut self, tx: &'a mut Transaction<'_>) -> Running<'a> {
        Box::pin(async move {
            self.runs = self.runs.saturating_add(1);
            let outcome = self.operation.run(tx).await;
            let sound = !matches!(&outcome, Err(error) if error.breaks_batch());
            self.outcome = Some(outcome);
            sound
        })
    }

    fn finish(mut self: Box<Self>, committed: &Result<()>, room: bool) -> Option<Box<dyn Job>> {
        // What is left for the next batch does not stand in the queue: what would bring that batch about must not wait
        // for it.
        drop(self.place.take());
        // The disk may fail in a statement as well as in the commit.
        let broken = matches!(&self.outcome, Some(Err(error)) if error.breaks_batch());
        if (committed.is_err() || broken) && self.runs < RUNS_MAX {
            match self.caller {
                Caller::Settles => return Some(self),
                Caller::Nobody if room => return Some(self),
                _ => {}
            }
        }
        let outcome = match committed {
            Ok(()) => self.outcome.unwrap_or(Err(Error::Closed)),
            Err(error) => Err(error.clone()),
        };
        if let Err(Error::Fenced(_)) = &outcome {
            metrics::counter!("fenced_writes_total").increment(1);
        }
        match self.caller {
            // A caller that is gone has its answer in the store.
            Caller::Waits(caller) => drop(caller.send(outcome)),
            Caller::Nobody | Caller::Settles => {
                if let Err(error) = outcome {
                    metrics::counter!("store_behind_failures_total").increment(1);
                    tracing::warn!(%error, "a write that nobody waits for was refused");
                }
            }
        }
        None
    }
}

/// The place beside the queue, of the one claim that is run when something is due.
#[derive(Default)]
pub(crate) struct Beside(Mutex<Option<Box<dyn Job>>>);

impl Beside {
    /// Whoever stood there is gone.
    pub(crate) fn put(&self, claim: Box<dyn Job>) {
        *self.0.lock() = Some(claim);
    }

    /// Who stands there, unless he is run already.
    pub(crate) fn take(&self) -> Option<Box<dyn Job>> {
        self.0.lock().take()
    }
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Beside").field(&self.0.lock().is_some()).finish()
    }
}

/// What whoever claims knows from the writer, and it from him.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) due: Due,
    pub(crate) beside: Beside,
    /// Something may have become due that no claim has seen.
    pub(crate) news: Arc<Notify>,
}

/// The task's state.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    /// Calls that have ended, to be accounted for with the next commit.
    pub(crate) pile: Arc<Pile>,
    pub(crate) file: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) batch_max: usize,
    /// Of failed commits, what nobody waits for.
    pub(crate) left: Vec<Box<dyn Job>>,
    pub(crate) left_max: usize,
    pub(crate) work: Arc<Work>,
    pub(crate) health: Arc<Health>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) pace: Pace,
    /// Held until the last write is done.
    pub(crate) owner: Arc<Owner>,
}

impl Writer {
    /// Serves on a thread of its own, because SQLite keeps whoever calls it waiting for the disk. Where the runtime has one
    /// thread, who runs when is certain, and stays so: there it is a task like any other.
    pub(crate) fn start(
        self,
        queue: mpsc::Receiver<Command>,
        settlements: mpsc::UnboundedReceiver<Box<dyn Job>>,
    ) -> Result<()> {
        let runtime = Handle::current();
        let serving = self.serve(queue, settlements);
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            runtime.spawn(serving);
            return Ok(());
        }
        let thread = thread::Builder::new().name("store-writer".into());
        thread.spawn(move || runtime.block_on(serving)).map_err(DatabaseError::Thread)?;
        Ok(())
    }

    /// Serves the queue, and the lane of settlements, until the queue is closed.
    async fn serve(
        mut self,
        mut queue: mpsc::Receiver<Command>,
        mut settlements: mpsc::UnboundedReceiver<Box<dyn Job>>,
    ) {
        let mut closing = Vec::new();
        loop {
            let (mut first, mut next) = (Vec::new(), None);
            tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => next = Some(command),
                    None => break,
                },
                Some(job) = settlements.recv() => first.push(job),
            }
            let mut batch = Vec::new();
            while let Some(command) = next.take().or_else(|| queue.try_recv().ok()) {
                match command {
                    Command::Run(job) => batch.push(job),
                    Command::Close(done) => {
                        queue.close();
                        closing.push(done);
                    }
                }
                if batch.len() >= self.batch_max {
                    break;
                }
            }
            first.extend(sent(&mut settlements));
            first.extend(spend::waiting(&self.pile));
            self.commit(first.into_iter().chain(batch)).await;
        }
        settlements.close();
        let last: Vec<_> = sent(&mut settlements).chain(spend::waiting(&self.pile)).collect();
        self.commit(last.into_iter()).await;
        drop(self.work.beside.take());
        if let Err(cause) = self.connection.close().await {
            tracing::warn!(%cause, "the database did not close well");
        }
        drop(self.owner);
        for done in closing {
            let _ = done.send(());
        }
    }

    /// Commits what failed commits left, and these.
    async fn commit(&mut self, jobs: impl Iterator<Item = Box<dyn Job>>) {
        let mut batch = std::mem::take(&mut self.left);
        batch.extend(jobs);
        if batch.is_empty() {
            return;
        }
        let begun = Instant::now();
        metrics::histogram!("store_batch_operations").record(batch.len() as f64);
        match self.transact(&mut batch).await {
            Some(committed) => self.answer(batch, &committed),
            None => {
                metrics::counter!("store_batches_split_total").increment(1);
                for job in batch {
                    let mut alone = vec![job];
                    // Alone, a failed operation was rolled back and its own error is the answer.
                    let committed = self.transact(&mut alone).await.unwrap_or(Ok(()));
                    self.answer(alone, &committed);
                }
            }
        }
        metrics::histogram!("store_commit_seconds").record(begun.elapsed().as_secs_f64());
    }

    fn answer(&mut self, batch: Vec<Box<dyn Job>>, committed: &Result<()>) {
        for job in batch {
            let room = self.left.len() < self.left_max;
            self.left.extend(job.finish(committed, room));
        }
    }

    /// Runs all in one transaction, and a claim if something is due by then. `None`: an operation failed and all of it was
    /// rolled back.
    async fn transact(&mut self, batch: &mut Vec<Box<dyn Job>>) -> Option<Result<()>> {
        if let Err(cause) = self.execute("BEGIN IMMEDIATE").await {
            self.health.doubt();
            self.roll_back().await;
            return Some(Err(Error::Commit(Arc::new(cause))));
        }
        let agenda = Agenda { next: self.work.due.get(), wakes: false };
        let began = Instant::now();
        let mut tx = Transaction { connection: &mut self.connection, now: self.clock.now(), agenda };
        let mut ran = 0;
        while let Some(job) = batch.get_mut(ran) {
            if !job.run(&mut tx).await {
                // A bad statement or a bad disk: a try tells them apart.
                self.health.doubt();
                self.roll_back().await;
                return None;
            }
            ran += 1;
            if ran == batch.len() && tx.agenda.is_due(tx.now) {
                batch.extend(self.work.beside.take());
            }
        }
        let agenda = tx.agenda;
        let all_ran = began.elapsed();
        match self.execute("COMMIT").await {
            Ok(_) => {
                self.pace.measured(batch.len(), all_ran, began.elapsed().saturating_sub(all_ran));
                self.lanes.paced(&self.pace);
                self.work.due.set(agenda.next);
                if agenda.wakes {
                    self.work.news.notify_one();
                }
                Some(Ok(()))
            }
            Err(cause) => {
                metrics::counter!("store_commit_failures_total").increment(1);
                // Whether the disk has it after all, only the next look can say.
                self.work.due.set(Due::UNKNOWN);
                self.health.doubt();
                tracing::error!(%cause, "a commit failed");
                self.roll_back().await;
                Some(Err(Error::Commit(Arc::new(cause))))
            }
        }
    }

    /// SQLite ends a transaction by itself after some errors; a connection whose state is in doubt is replaced.
    async fn roll_back(&mut self) {
        if self.execute("ROLLBACK").await.is_err() {
            match connect::reopen_writer(&self.file) {
                Ok(fresh) => self.connection = fresh,
                Err(cause) => tracing::error!(%cause, "the database cannot be opened again"),
            }
        }
    }

    async fn execute(&mut self, sql: &'static str) -> Result<u64, DatabaseError> {
        sql::query(sql).execute(&mut self.connection).await
    }
}

/// What has been sent by now.
fn sent(settlements: &mut mpsc::UnboundedReceiver<Box<dyn Job>>) -> impl Iterator<Item = Box<dyn Job>> {
    std::iter::from_fn(|| settlements.try_recv().ok())
}
