//! Group commit: one task owns the one writing connection.
//!
//! Methods send it operations over a bounded queue. It opens a transaction, runs everything that waits, commits
//! (one fsync) and only then answers all. Operations run in the order in which they were sent, so one that
//! nobody awaits is durable no later than the next one that somebody does. If a statement of the batch fails,
//! the batch is rolled back and each operation is run alone, so that one bad operation harms nobody; that is
//! why operations can be run again. If the commit itself fails, everybody is told so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
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
}

/// A change that can be run again from the start. It decides every refusal before its first write.
pub(crate) trait Operation: Send + Sync + 'static {
    /// What the caller gets after the commit.
    type Output: Send + 'static;
    /// True if a conversation may have become due by it.
    const WAKES: bool = false;
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
    /// Answers whoever waits. True if a conversation may have become due.
    fn finish(self: Box<Self>, committed: &Result<()>) -> bool;
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

    fn finish(self: Box<Self>, committed: &Result<()>) -> bool {
        let outcome = match committed {
            Ok(()) => self.outcome.unwrap_or(Err(Error::Closed)),
            Err(error) => Err(error.clone()),
        };
        let wakes = O::WAKES && outcome.is_ok();
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
        wakes
    }
}

/// The task's state.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    pub(crate) options: SqliteConnectOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) batch_max: usize,
    pub(crate) work: Arc<Notify>,
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

    /// Runs all in one transaction. `None`: an operation failed and all of it was rolled back.
    async fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> Option<Result<()>> {
        if let Err(cause) = execute(&mut self.connection, "BEGIN IMMEDIATE").await {
            self.roll_back().await;
            return Some(Err(Error::Commit(Arc::new(cause))));
        }
        let mut tx = Transaction { connection: &mut self.connection, now: self.clock.now() };
        for job in batch.iter_mut() {
            if !job.run(&mut tx).await {
                self.roll_back().await;
                return None;
            }
        }
        match execute(&mut self.connection, "COMMIT").await {
            Ok(()) => Some(Ok(())),
            Err(cause) => {
                metrics::counter!("store_commit_failures_total").increment(1);
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

    fn answer(&self, batch: Vec<Box<dyn Job>>, committed: &Result<()>) {
        let mut wakes = false;
        for job in batch {
            wakes |= job.finish(committed);
        }
        if wakes {
            self.work.notify_one();
        }
    }
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}
