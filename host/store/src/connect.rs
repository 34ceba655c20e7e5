//! Connections: one that writes, a few that read, and the checks before either is trusted.
//!
//! The readers are kept here and not in sqlx's pool, whose time limits start a timer for each use: under a
//! paused clock such a timer fires as soon as the process only waits for the disk.

use std::path::Path;

use parking_lot::Mutex;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A database up to this size is checked page by page at each start (some tens of milliseconds); a larger one
/// only where SQLite itself stumbles, at the start or later, because a start has to be quick.
const QUICK_CHECK_BYTES_MAX: u64 = 64 << 20;

/// How many pages may stand in the write-ahead log before they are copied to the database: 16 MiB.
const WAL_PAGES: &str = "4096";

/// Memory for pages of the writing connection, in KiB: what is being worked on stays in it.
const WRITER_CACHE_KIB: &str = "-65536";

/// The same of each reading connection.
const READER_CACHE_KIB: &str = "-8192";

/// How the writing connection is opened.
pub(crate) fn writing(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", WAL_PAGES)
        .pragma("cache_size", WRITER_CACHE_KIB)
        .pragma("temp_store", "memory")
        .thread_name(|_| "store-writer".into())
        .statement_cache_capacity(200)
        .disable_statement_logging()
}

fn reading(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .read_only(true)
        .pragma("cache_size", READER_CACHE_KIB)
        .pragma("temp_store", "memory")
        .thread_name(|n| format!("store-reader-{n}"))
        .disable_statement_logging()
}

/// Opens the writing connection, checks the file and brings its schema up to date.
pub(crate) async fn open_writer(file: &Path) -> Result<SqliteConnection> {
    let mut connection = writing(file).connect().await.map_err(|cause| damaged(file, cause))?;
    check(&mut connection, file).await?;
    match MIGRATIONS.run_direct(None, &mut connection, false).await {
        Ok(()) => Ok(connection),
        Err(MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _)) => {
            Err(Error::Newer { file: file.to_owned(), version })
        }
        Err(MigrateError::VersionMismatch(version)) => Err(Error::Corrupt {
            file: file.to_owned(),
            reason: format!("schema {version} is not the one this program knows"),
        }),
        Err(MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) => {
            Err(damaged(file, cause))
        }
        Err(other) => Err(Error::Corrupt { file: file.to_owned(), reason: other.to_string() }),
    }
}

/// Checks that a database which is only read has the schema that this program reads.
pub(crate) async fn check_schema(connection: &mut SqliteConnection, file: &Path) -> Result<()> {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let kept: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(|cause| damaged(file, cause))?;
    match kept.cmp(&newest) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Error::Newer { file: file.to_owned(), version: kept }),
        std::cmp::Ordering::Less => Err(Error::Invalid("the store has an older schema; start the host once")),
    }
}

async fn check(connection: &mut SqliteConnection, file: &Path) -> Result<()> {
    if std::fs::metadata(file).map_or(0, |found| found.len()) > QUICK_CHECK_BYTES_MAX {
        return Ok(());
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(|cause| damaged(file, cause))?;
    if found == "ok" { Ok(()) } else { Err(Error::Corrupt { file: file.to_owned(), reason: found }) }
}

/// SQLite's `CORRUPT` and `NOTADB`, whatever their extended code.
fn damaged(file: &Path, cause: sqlx::Error) -> Error {
    let code =
        cause.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i64>().ok());
    if code.is_some_and(|code| matches!(code & 0xff, 11 | 26)) {
        return Error::Corrupt { file: file.to_owned(), reason: cause.to_string() };
    }
    cause.into()
}

/// A few connections that only read. As many readers at once as there are connections.
#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Semaphore,
}

impl Readers {
    /// Opens `count` connections.
    pub(crate) async fn open(file: &Path, count: usize) -> Result<Self> {
        let options = reading(file);
        let mut idle = Vec::new();
        for _ in 0..count.max(1) {
            idle.push(options.connect().await.map_err(|cause| damaged(file, cause))?);
        }
        Ok(Self { options, permits: Semaphore::new(idle.len()), idle: Mutex::new(idle) })
    }

    /// A connection, when one is free.
    pub(crate) async fn get(&self) -> Result<Reader<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let taken = self.idle.lock().pop();
        let connection = match taken {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Reader { readers: self, connection: Some(connection), _permit: permit })
    }

    /// Closes all; whoever still reads finishes first.
    pub(crate) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            if let Err(cause) = connection.close().await {
                tracing::debug!(%cause, "a reading connection did not close well");
            }
        }
    }
}

/// A reading connection on loan.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    readers: &'a Readers,
    connection: Option<SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

impl Reader<'_> {
    /// The connection.
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.connection.as_mut().ok_or(Error::Closed)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.readers.permits.is_closed()
        {
            self.readers.idle.lock().push(connection);
        }
    }
}
