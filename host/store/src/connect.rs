//! Connections: one that writes, a few that read, and the checks before either is trusted.
//!
//! The readers are kept here and not in sqlx's pool, whose time limits start a timer for each use: under a
//! paused clock such a timer fires as soon as the process only waits for the disk.

use std::path::Path;

use parking_lot::Mutex;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::sql::{self, Connection, DatabaseError, Here};
use crate::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A database up to this size is checked page by page at each start (some tens of milliseconds); a larger one
/// only where SQLite itself stumbles, at the start or later, because a start has to be quick.
const QUICK_CHECK_BYTES_MAX: u64 = 64 << 20;

/// How the writing connection works. Nothing is told as kept before it is on the disk (`FULL`); the write-ahead log is
/// copied to the database when it has 4096 pages (16 MiB); and what is being worked on stays in memory, 64 MiB of it.
const WRITING: [(&str, &str); 6] = [
    ("foreign_keys", "ON"),
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("wal_autocheckpoint", "4096"),
    ("cache_size", "-65536"),
    ("temp_store", "MEMORY"),
];

/// Memory for pages of each reading connection, in KiB.
const READER_CACHE_KIB: &str = "-8192";

/// How a database is opened by sqlx to be written: before the writer has it, and beside him.
pub(crate) fn writing(file: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(false);
    let options = WRITING.into_iter().fold(options, |options, (name, value)| options.pragma(name, value));
    options.thread_name(|_| "store-schema".into()).disable_statement_logging()
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

/// Checks the file, brings its schema up to date and opens the writing connection.
pub(crate) async fn open_writer(file: &Path) -> Result<Connection> {
    let mut connection = writing(file).connect().await.map_err(|cause| damaged(file, cause))?;
    check(&mut connection, file).await?;
    match MIGRATIONS.run_direct(None, &mut connection, false).await {
        Ok(()) => {}
        Err(MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _)) => {
            return Err(Error::Newer { file: file.to_owned(), version });
        }
        Err(MigrateError::VersionMismatch(version)) => {
            let reason = format!("schema {version} is not the one this program knows");
            return Err(Error::Corrupt { file: file.to_owned(), reason });
        }
        Err(MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) => {
            return Err(damaged(file, cause));
        }
        Err(other) => return Err(Error::Corrupt { file: file.to_owned(), reason: other.to_string() }),
    }
    connection.close().await.map_err(|cause| damaged(file, cause))?;
    reopen_writer(file)
}

/// Opens the writing connection to a database that was checked.
pub(crate) fn reopen_writer(file: &Path) -> Result<Connection> {
    Here::open(file, &WRITING).map(Connection::Here).map_err(|cause| damaged(file, cause))
}

/// Checks that a database which is only read has the schema that this program reads.
pub(crate) async fn check_schema(connection: &mut Connection, file: &Path) -> Result<()> {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let kept: i64 = sql::query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_value(connection)
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

fn damaged(file: &Path, cause: impl Into<DatabaseError>) -> Error {
    let cause = cause.into();
    match cause.is_damage() {
        true => Error::Corrupt { file: file.to_owned(), reason: cause.to_string() },
        false => cause.into(),
    }
}

async fn connect(options: &SqliteConnectOptions) -> Result<Connection, DatabaseError> {
    Ok(Connection::There(options.connect().await?))
}

/// A few connections that only read. As many readers at once as there are connections.
#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    /// Opens `count` connections.
    pub(crate) async fn open(file: &Path, count: usize) -> Result<Self> {
        let options = reading(file);
        let mut idle = Vec::new();
        for _ in 0..count.max(1) {
            idle.push(connect(&options).await.map_err(|cause| damaged(file, cause))?);
        }
        Ok(Self { options, permits: Semaphore::new(idle.len()), idle: Mutex::new(idle) })
    }

    /// A connection, when one is free.
    pub(crate) async fn get(&self) -> Result<Reader<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let taken = self.idle.lock().pop();
        let connection = match taken {
            Some(connection) => connection,
            None => connect(&self.options).await?,
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
    connection: Option<Connection>,
    _permit: SemaphorePermit<'a>,
}

impl Reader<'_> {
    /// The connection.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection> {
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
