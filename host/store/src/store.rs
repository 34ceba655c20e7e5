//! The store's handle: opening, closing, and the two ways into the database (the writer's queue, the readers).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use chela_types::{Clock, SystemClock};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::artefact::Artefacts;
use crate::connect::{self, Readers};
use crate::health::Health;
use crate::lane::{Lanes, Pace};
use crate::mailbox::GiveBackAll;
use crate::owner::{self, DATABASE, Owner};
use crate::recover;
use crate::spend::Pile;
use crate::sql::Connection;
use crate::writer::{Caller, Command, Job, Operation, Pending, Work, Writer};
use crate::{Error, Result};

/// Pauses before a folder counts as owned: how many, and how long.
const OWNER_PAUSES: usize = 10;
const OWNER_PAUSE: Duration = Duration::from_millis(20);

/// How the store is run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it is kept. Made (0700) if it does not exist.
    pub folder: PathBuf,
    /// Most operations of one commit.
    pub commit_batch_max: usize,
    /// Most operations that wait for a commit.
    pub commit_queue_max: usize,
    /// Longest wait for a place in that queue.
    pub commit_wait: Duration,
    /// How long a claim holds without being renewed.
    pub lease: Duration,
    /// Connections that read.
    pub readers: usize,
    /// Bytes of one memory value.
    pub memory_value_bytes_max: usize,
    /// Memory keys of one owner (an agent, a user or a conversation).
    pub memory_keys_max: usize,
}

impl Config {
    /// Default of [`Config::commit_batch_max`].
    pub const COMMIT_BATCH_MAX: usize = 256;
    /// Default of [`Config::commit_queue_max`].
    pub const COMMIT_QUEUE_MAX: usize = 4096;
    /// Default of [`Config::commit_wait`].
    pub const COMMIT_WAIT: Duration = Duration::from_secs(5);
    /// Default of [`Config::lease`].
    pub const LEASE: Duration = Duration::from_secs(15);
    /// Default of [`Config::readers`].
    pub const READERS: usize = 4;
    /// Default of [`Config::memory_value_bytes_max`].
    pub const MEMORY_VALUE_BYTES_MAX: usize = 16 << 10;
    /// Default of [`Config::memory_keys_max`].
    pub const MEMORY_KEYS_MAX: usize = 1000;

    /// The defaults, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            commit_batch_max: Self::COMMIT_BATCH_MAX,
            commit_queue_max: Self::COMMIT_QUEUE_MAX,
            commit_wait: Self::COMMIT_WAIT,
            lease: Self::LEASE,
            readers: Self::READERS,
            memory_value_bytes_max: Self::MEMORY_VALUE_BYTES_MAX,
            memory_keys_max: Self::MEMORY_KEYS_MAX,
        }
    }
}

/// Everything that is kept. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    queue: Option<mpsc::Sender<Command>>,
    health: Arc<Health>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) settlements: mpsc::UnboundedSender<Box<dyn Job>>,
    readers: Readers,
    pub(crate) work: Arc<Work>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Claims made so far: each has a name of its own.
    pub(crate) claims: AtomicU64,
    pub(crate) artefacts: Artefacts,
    pub(crate) pile: Arc<Pile>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Store {
    /// Takes the folder, checks and upgrades the database, and puts in order what a crash left: leases are
    /// revoked at once and their turns count a crash, open reservations are charged as unknown, answers that
    /// were being sent become ambiguous.
    ///
    /// # Errors
    /// [`Error::Owned`] if a process has the folder; [`Error::Corrupt`] or [`Error::Newer`] for a database
    /// that must not be written; [`Error::Folder`] or [`Error::Database`] if the disk fails.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self> {
        // Who only looks whether the folder is free holds its lock for a moment.
        let take = async || Owner::take(&config.folder, clock.now());
        let pauses = ConstantBuilder::default().with_delay(OWNER_PAUSE).with_max_times(OWNER_PAUSES);
        let owner = take.retry(pauses).when(|error| matches!(error, Error::Owned { .. })).await?;
        let file = config.folder.join(DATABASE);
        refuse_to_start_empty(&file, &owner)?;
        let mut connection = connect::open_writer(&file).await?;
        owner.keep(clock.now())?;
        recover::after_crash(&mut connection, clock.now()).await?;
        let artefacts = Artefacts::new(&config.folder);
        artefacts.sweep();
        let readers = Readers::open(&file, config.readers).await?;
        let work = Arc::new(Work::default());
        let (queue, waiting) = mpsc::channel(config.commit_queue_max.max(1));
        let (health, lanes) = (Arc::new(Health::default()), Arc::new(Lanes::default()));
        let (settlements, to_settle) = mpsc::unbounded_channel();
        let pile = Arc::<Pile>::default();
        let writer = Writer {
            connection,
            pile: Arc::clone(&pile),
            file,
            clock: clock.clone(),
            batch_max: config.commit_batch_max.max(1),
            left: Vec::new(),
            left_max: config.commit_queue_max,
            work: work.clone(),
            health: health.clone(),
            lanes: lanes.clone(),
            pace: Pace::default(),
            owner: Arc::new(owner),
        };
        writer.start(waiting, to_settle)?;
        let (queue, claims) = (Some(queue), AtomicU64::new(0));
        let inner = Inner {
            config,
            queue,
            health,
            lanes,
            settlements,
            readers,
            work,
            clock,
            claims,
            artefacts,
            pile,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// For command-line tools while no host runs. Every write is refused with [`Error::ReadOnly`], and what
    /// a crash left is shown as it is.
    ///
    /// # Errors
    /// [`Error::Owned`] if a host runs, [`Error::Missing`] if there is nothing to read, and those of a
    /// database that cannot be read.
    pub async fn open_read_only(folder: &Path) -> Result<Self> {
        owner::check_free(folder)?;
        Self::open_readers(folder).await
    }

    /// The same also while a host runs: what it commits is seen from then on. The folder's lock is not touched, so no
    /// host that starts meanwhile is in its way.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is nothing to read, and those of a database that cannot be read.
    pub async fn open_beside(folder: &Path) -> Result<Self> {
        owner::check_there(folder)?;
        Self::open_readers(folder).await
    }

    async fn open_readers(folder: &Path) -> Result<Self> {
        let file = folder.join(DATABASE);
        let config = Config::new(folder);
        let readers = Readers::open(&file, 1).await?;
        connect::check_schema(readers.get().await?.connection()?, &file).await?;
        let (clock, claims) = (Arc::new(SystemClock), AtomicU64::new(0));
        let (health, work, (settlements, _)) = (Arc::default(), Arc::default(), mpsc::unbounded_channel());
        let (queue, lanes, artefacts) = (None, Arc::default(), Artefacts::new(folder));
        let pile = Arc::default();
        let inner = Inner {
            config,
            queue,
            health,
            lanes,
            settlements,
            readers,
            work,
            clock,
            claims,
            artefacts,
            pile,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Commits everything that was sent, gives all conversations back and lets go of the folder.
    /// Whoever calls the store afterwards gets [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Closed`] if it is closed already; those of the last commit.
    pub async fn close(&self) -> Result<()> {
        let Some(queue) = &self.inner.queue else {
            self.inner.readers.close().await;
            return Ok(());
        };
        let given_back = self.commit(GiveBackAll).await;
        self.inner.readers.close().await;
        let (done, closed) = oneshot::channel();
        queue.send(Command::Close(done)).await.map_err(|_| Error::Closed)?;
        closed.await.map_err(|_| Error::Closed)?;
        given_back
    }

    /// Fires after a conversation may have become due that no claim has seen, so that a dispatcher need not ask often.
    /// A hint for one waiter, not the truth: ask [`Store::claim`] also when [`Store::next_due`] says so.
    pub fn work(&self) -> Arc<Notify> {
        self.inner.work.news.clone()
    }

    /// Sends an operation and waits until it is on the disk.
    pub(crate) async fn commit<O: Operation>(&self, operation: O) -> Result<O::Output> {
        let answer = self.send(operation).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Sends an operation; its outcome comes once it is on the disk.
    pub(crate) async fn send<O: Operation>(
        &self,
        operation: O,
    ) -> Result<oneshot::Receiver<Result<O::Output>>> {
        let (caller, answer) = oneshot::channel();
        self.enqueue(operation, Caller::Waits(caller)).await?;
        Ok(answer)
    }

    /// Sends an operation; it is durable no later than the next one that is awaited and succeeds.
    pub(crate) async fn behind<O: Operation>(&self, operation: O) -> Result<()> {
        self.enqueue(operation, Caller::Nobody).await
    }

    /// The same for the end of a reservation, from anywhere and without waiting for a place: it overtakes what
    /// stands in the queue. False if the store is closed.
    pub(crate) fn settling<O: Operation>(&self, operation: O) -> bool {
        self.inner.settlements.send(Pending::new(operation, Caller::Settles, None)).is_ok()
    }

    /// What the writer says of itself.
    pub(crate) fn health(&self) -> Result<&Health> {
        self.inner.queue.as_ref().map(|_| &*self.inner.health).ok_or(Error::ReadOnly)
    }

    /// Refuses what is written beside the database as the queue refuses what is written to it.
    pub(crate) fn check_open(&self) -> Result<()> {
        let queue = self.inner.queue.as_ref().ok_or(Error::ReadOnly)?;
        if queue.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    async fn enqueue<O: Operation>(&self, operation: O, caller: Caller<O::Output>) -> Result<()> {
        let queue = self.inner.queue.as_ref().ok_or(Error::ReadOnly)?;
        let wait = self.inner.config.commit_wait;
        let sent = async {
            let place = match operation.lane() {
                Some(lane) => self.inner.lanes.place(lane).await,
                None => None,
            };
            queue.reserve().await.map(|free| free.send(Command::Run(Pending::new(operation, caller, place))))
        };
        match tokio::time::timeout(wait, sent).await {
            Ok(sent) => sent.map_err(|_| Error::Closed),
            Err(_) => Err(Error::Busy(wait)),
        }
    }

    #[cfg(test)]
    pub(crate) fn free_places(&self) -> usize {
        self.inner.queue.as_ref().map_or(0, mpsc::Sender::capacity)
    }

    /// Reads on a connection of its own.
    pub(crate) async fn read<T>(&self, query: impl AsyncFnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let mut reader = self.inner.readers.get().await?;
        query(reader.connection()?).await
    }
}

/// A database that was kept here and is gone or empty is a disaster, not a first start.
fn refuse_to_start_empty(file: &Path, owner: &Owner) -> Result<()> {
    let empty = std::fs::metadata(file).map_or(true, |found| found.len() == 0);
    let log = std::fs::metadata(file.with_extension("db-wal")).is_ok_and(|found| found.len() > 0);
    if empty && (owner.kept || log) {
        let reason = "it is missing or empty, though a database was kept here".to_owned();
        return Err(Error::Corrupt { file: file.to_owned(), reason });
    }
    Ok(())
}
