//! Artefacts: the bytes of components, each a file named by its digest in a folder of its own.
//!
//! Files and not rows: they have megabytes, are written once, and would stand in every backup of the database and
//! in the way of every message while they are written. A file is there whole or not at all (written beside, fsynced,
//! renamed), and it is on the disk before a version names it.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chela_types::Digest;
use tokio::sync::Mutex;

use crate::sql;
use crate::{Error, Result, Store, row};

/// The folder within the data folder.
pub(crate) const FOLDER: &str = "artefacts";

/// How the name of a file ends that is not whole yet.
const PART: &str = ".part";

/// The folder of this store, and what no version names yet.
#[derive(Debug)]
pub(crate) struct Artefacts {
    folder: PathBuf,
    /// Components that were kept for a version that is not kept yet: a purge must leave them. Whoever keeps, names
    /// or purges has the lock, so that a purge sees a component either here or in a version.
    unnamed: Mutex<HashSet<Digest>>,
    /// A write that was given up may still go on; each has a name of its own.
    writes: AtomicU64,
}

impl Artefacts {
    /// Of a data folder. Makes nothing.
    pub(crate) fn new(data: &Path) -> Self {
        Self { folder: data.join(FOLDER), unnamed: Mutex::default(), writes: AtomicU64::new(0) }
    }

    /// Removes what a crash left half-written.
    pub(crate) fn sweep(&self) {
        let left = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries.flatten(),
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(cause) => {
                tracing::warn!(folder = %self.folder.display(), %cause, "kept components cannot be listed");
                return;
            }
        };
        for entry in left.filter(|entry| is_part(&entry.file_name().to_string_lossy())) {
            if let Err(cause) = std::fs::remove_file(entry.path()) {
                tracing::warn!(file = %entry.path().display(), %cause, "a half-written component stays");
            }
        }
    }

    /// A version names this component now, and is on the disk.
    pub(crate) async fn named(&self, component: Digest) {
        self.unnamed.lock().await.remove(&component);
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

impl Store {
    /// Keeps a component's bytes; returns their digest after they are on the disk. Nothing is written if they are
    /// there and whole.
    ///
    /// # Errors
    /// [`Error::Full`] if the disk has no room, [`Error::Files`] if it fails otherwise; [`Error::Closed`] or
    /// [`Error::ReadOnly`] of a store that keeps nothing.
    pub async fn keep_artefact(&self, component: Bytes) -> Result<Digest> {
        self.check_open()?;
        let artefacts = &self.inner.artefacts;
        let (folder, number) = (artefacts.folder.clone(), artefacts.writes.fetch_add(1, Ordering::Relaxed));
        let digested = component.clone();
        let digest = blocking(move || Ok(digest(&digested))).await?;
        let mut unnamed = artefacts.unnamed.lock().await;
        // Before the write: one that is given up by its caller goes on, and is left as well.
        unnamed.insert(digest);
        let file = artefacts.file(digest);
        let part = folder.join(format!("{digest}.{number}{PART}"));
        blocking(move || {
            let failed = |cause| failed(&folder, cause);
            prepare(&folder).map_err(failed)?;
            if std::fs::read(&file).is_ok_and(|found| found == component) {
                return Ok(());
            }
            write(&part, &file, &component).map_err(|cause| {
                let _ = std::fs::remove_file(&part);
                failed(cause)
            })
        })
        .await?;
        Ok(digest)
    }

    /// A component's bytes; `None` if they are not kept.
    ///
    /// # Errors
    /// [`Error::Artefact`] if the file holds something else, [`Error::Files`] if it cannot be read.
    pub async fn artefact(&self, digest: Digest) -> Result<Option<Bytes>> {
        let file = self.inner.artefacts.file(digest);
        let folder = self.inner.artefacts.folder.clone();
        blocking(move || match std::fs::read(&file) {
            Ok(found) if self::digest(&found) == digest => Ok(Some(Bytes::from(found))),
            Ok(_) => Err(Error::Artefact { file }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed(&folder, cause)),
        })
        .await
    }

    /// Removes components that no version names, of whatever tenant, and that are not being kept for one.
    pub(crate) async fn purge_artefacts(&self) -> Result<()> {
        let unnamed = self.inner.artefacts.unnamed.lock().await;
        let mut keep = unnamed.clone();
        let rows = self
            .read(async |connection| {
                Ok(sql::query("SELECT DISTINCT component FROM versions").fetch_all(connection).await?)
            })
            .await?;
        for row in &rows {
            keep.insert(row::digest(row, "component")?);
        }
        let folder = self.inner.artefacts.folder.clone();
        blocking(move || remove_all_but(&keep, &folder).map_err(|cause| failed(&folder, cause))).await
    }
}

/// As the sandbox digests a component.
fn digest(component: &[u8]) -> Digest {
    Digest::of("chela 2026 component", &[component])
}

/// A new folder is on the disk with its first file, and nobody else's to read.
fn prepare(folder: &Path) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), |data| File::open(data)?.sync_all()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))
        }
        Err(error) => Err(error),
    }
}

fn write(part: &Path, file: &Path, component: &[u8]) -> std::io::Result<()> {
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    written.write_all(component)?;
    written.sync_all()?;
    std::fs::rename(part, file)?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The component that a file is named for.
fn component(name: &str) -> Option<Digest> {
    Digest::try_from(name.to_owned()).ok().filter(|digest| digest.to_string() == name)
}

fn is_part(name: &str) -> bool {
    let whole = name.strip_suffix(PART).and_then(|name| name.rsplit_once('.'));
    whole.is_some_and(|(name, _)| component(name).is_some())
}

/// Whatever is not named like a component is not ours.
fn remove_all_but(keep: &HashSet<Digest>, folder: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let digest = component(&entry.file_name().to_string_lossy());
        if digest.is_some_and(|digest| !keep.contains(&digest)) && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Also a limit on files or a quota is no room.
pub(crate) fn failed(folder: &Path, cause: std::io::Error) -> Error {
    let full =
        matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
    let (folder, cause) = (folder.to_owned(), Arc::new(cause));
    if full { Error::Full { folder, cause } } else { Error::Files { folder, cause } }
}

/// Work that waits for the disk, on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Closed)?
}
