//! Group commit: one task owns the one writing connection.
//!
//! Methods send it operations over a bounded queue. It opens a transaction, runs everything that waits, commits
//! (one fsync) and only then answers all.
//!
//! Each query is a trip to the connection's own thread and back, which costs more than most statements. So the
//! common case of an operation is one query of several statements, whose first one decides (`mailbox::held`);
//! only a refusal asks again, for its reason. And each statement must be compiled once and find its rows by a
//! key, or the writer gets slower with all that it keeps; `tests/plans.rs` sees to both.
//!
//! Operations run in the order in which they were sent, so one that nobody awaits is durable no later than the
//! next one that somebody does. If a statement of the batch fails, the batch is rolled back and each operation
//! is run alone, so that one bad operation harms nobody; that is why operations can be run again. If the commit
//! itself fails, everybody is told so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chela_types::{Clock, Millis};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::owner::Owner;
use crate::{Error, Result};

/// The open transaction that an operation writes into.
pub(crate) struct Transaction<'c> {
    pub(crate) connection: &'c mut SqliteConnection,
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

    /// This is the next one of all; `None`: there is none.
    pub(crate) fn replace(&mut self, next: Option<Millis>) {
        self.next = next.unwrap_or(Due::NEVER);
    }
}

/// When the next conversation may be claimed, as the last commit left it. Never too late; too early after a
/// lease was renewed or given back, until the next claim looks.
#[derive(Debug)]
pub(crate) struct Due(AtomicI64);

impl Due {
    /// Nothing waits.
    pub(crate) const NEVER: Millis = Millis(i64::MAX);
    /// Nobody has looked yet.
    pub(crate) const UNKNOWN: Millis = Millis(i64::MIN);

    /// Before anybody has looked.
    pub(crate) fn unknown() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN.0))
    }

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
}

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
    /// Answers whoever waits.
    fn finish(self: Box<Self>, committed: &Result<()>);
}

/// An operation, its outcome and its caller; no caller if it is written behind.
pub(crate) struct Pending<O: Operation> {
    pub(crate) operation: O,
    pub(crate) outcome: Option<Result<O::Output>>,
    pub(crate) caller: Option<oneshot::Sender<Result<O::Output>>>,
}

impl<O: Operation> Job for Pending<O> {
    fn run<'a>(&'a mut self, tx: &'a mut Transaction<'_>) -> Running<'a> {
        Box::pin(async move {
            let outcome = self.operation.run(tx).await;
            let sound = !matches!(&outcome, Err(error) if error.breaks_batch());
            self.outcome = Some(outcome);
            sound
        })
    }

    fn finish(self: Box<Self>, committed: &Result<()>) {
        let outcome = match committed {
            Ok(()) => self.outcome.unwrap_or(Err(Error::Closed)),
            Err(error) => Err(error.clone()),
        };
        if let Err(Error::Fenced(_)) = &outcome {
            metrics::counter!("fenced_writes_total").increment(1);
        }
        match self.caller {
            // A caller that is gone has its answer in the store.
            Some(caller) => drop(caller.send(outcome)),
            None => {
                if let Err(error) = outcome {
                    metrics::counter!("store_behind_failures_total").increment(1);
                    tracing::warn!(%error, "a write that nobody waits for was refused");
                }
            }
        }
    }
}

/// The task's state.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    pub(crate) options: SqliteConnectOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) batch_max: usize,
    pub(crate) work: Arc<Notify>,
    pub(crate) due: Arc<Due>,
    /// Held until the last write is done.
    pub(crate) owner: Arc<Owner>,
}

impl Writer {
    /// Serves the queue until it is closed.
    pub(crate) async fn serve(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut closing = Vec::new();
        while let Some(first) = queue.recv().await {
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Run(job) => batch.push(job),
                    Command::Close(done) => {
                        queue.close();
                        closing.push(done);
                    }
                }
                next = if batch.len() < self.batch_max { queue.try_recv().ok() } else { None };
            }
            self.commit(batch).await;
        }
        if let Err(cause) = self.connection.close().await {
            tracing::warn!(%cause, "the database did not close well");
        }
        drop(self.owner);
        for done in closing {
            let _ = done.send(());
        }
    }

    async fn commit(&mut self, mut batch: Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        let begun = Instant::now();
        metrics::histogram!("store_batch_operations").record(batch.len() as f64);
        match self.transact(&mut batch).await {
            Some(committed) => answer(batch, &committed),
            None => {
                metrics::counter!("store_batches_split_total").increment(1);
                for job in batch {
                    let mut alone = vec![job];
                    // Alone, a failed operation was rolled back and its own error is the answer.
                    let committed = self.transact(&mut alone).await.unwrap_or(Ok(()));
                    answer(alone, &committed);
                }
            }
        }
        metrics::histogram!("store_commit_seconds").record(begun.elapsed().as_secs_f64());
    }

    /// Runs all in one transaction. `None`: an operation failed and all of it was rolled back.
    async fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> Option<Result<()>> {
        if let Err(cause) = execute(&mut self.connection, "BEGIN IMMEDIATE").await {
            self.roll_back().await;
            return Some(Err(Error::Commit(Arc::new(cause))));
        }
        let agenda = Agenda { next: self.due.get(), wakes: false };
        let mut tx = Transaction { connection: &mut self.connection, now: self.clock.now(), agenda };
        for job in batch.iter_mut() {
            if !job.run(&mut tx).await {
                self.roll_back().await;
                return None;
            }
        }
        let agenda = tx.agenda;
        match execute(&mut self.connection, "COMMIT").await {
            Ok(()) => {
                self.due.set(agenda.next);
                if agenda.wakes {
                    self.work.notify_one();
                }
                Some(Ok(()))
            }
            Err(cause) => {
                metrics::counter!("store_commit_failures_total").increment(1);
                // Whether the disk has it after all, only the next look can say.
                self.due.set(Due::UNKNOWN);
                tracing::error!(%cause, "a commit failed");
                self.roll_back().await;
                Some(Err(Error::Commit(Arc::new(cause))))
            }
        }
    }

    /// SQLite ends a transaction by itself after some errors; a connection whose state is in doubt is replaced.
    async fn roll_back(&mut self) {
        if execute(&mut self.connection, "ROLLBACK").await.is_err() {
            match self.options.connect().await {
                Ok(fresh) => self.connection = fresh,
                Err(cause) => tracing::error!(%cause, "the database cannot be opened again"),
            }
        }
    }
}

fn answer(batch: Vec<Box<dyn Job>>, committed: &Result<()>) {
    for job in batch {
        job.finish(committed);
    }
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}
