//! One process owns a data folder: an advisory lock on `chela.lock`, held for the process's life.
//!
//! The operating system drops the lock when the process dies, however it dies, so a stale file never blocks a
//! start. The file's text is for people, and remembers that a database was once kept here: a database file
//! that is gone is a disaster to report, not a reason to start empty.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chela_types::Millis;

use crate::{Error, Result, artefact};

/// The database's file name.
pub(crate) const DATABASE: &str = "chela.db";
const LOCK: &str = "chela.lock";
const KEPT: &str = "database kept";
/// Lock files are three short lines; whatever is longer is not ours.
const LOCK_BYTES_MAX: u64 = 1024;

/// Ownership of a data folder, until dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    folder: PathBuf,
    lock: File,
    /// A database was kept here by an earlier owner.
    pub(crate) kept: bool,
}

impl Owner {
    /// Makes the folder if needed (0700) and takes it.
    pub(crate) fn take(folder: &Path, now: Millis) -> Result<Self> {
        let failed = |cause| Error::Folder { folder: folder.to_owned(), cause: Arc::new(cause) };
        prepare(folder).map_err(failed)?;
        let mut lock = open_private(&folder.join(LOCK)).map_err(failed)?;
        let before = read(&mut lock).map_err(failed)?;
        lock_or_say_who(folder, &lock, &before)?;
        let owner = Self { folder: folder.to_owned(), lock, kept: before.lines().any(|line| line == KEPT) };
        owner.write(now, owner.kept).map_err(failed)?;
        open_private(&folder.join(DATABASE)).map_err(failed)?;
        Ok(owner)
    }

    /// Remembers that a database is kept here from now on.
    pub(crate) fn keep(&self, now: Millis) -> Result<()> {
        self.write(now, true)
            .map_err(|cause| Error::Folder { folder: self.folder.clone(), cause: Arc::new(cause) })
    }

    fn write(&self, now: Millis, kept: bool) -> std::io::Result<()> {
        let kept = if kept { KEPT } else { "" };
        let text = format!("pid {}\nstarted {}\n{kept}\n", std::process::id(), now.0);
        let mut lock = &self.lock;
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        lock.write_all(text.as_bytes())?;
        lock.sync_all()
    }
}

/// Refuses if there is nothing to read; takes nothing.
pub(crate) fn check_there(folder: &Path) -> Result<()> {
    if folder.join(DATABASE).is_file() { Ok(()) } else { Err(Error::Missing { folder: folder.to_owned() }) }
}

/// The same, and refuses if a process owns the folder.
pub(crate) fn check_free(folder: &Path) -> Result<()> {
    check_there(folder)?;
    let Ok(mut lock) = File::open(folder.join(LOCK)) else { return Ok(()) };
    let text = read(&mut lock).unwrap_or_default();
    lock_or_say_who(folder, &lock, &text)
}

fn lock_or_say_who(folder: &Path, lock: &File, text: &str) -> Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let pid = text.lines().find_map(|line| line.strip_prefix("pid ")).unwrap_or("?");
            Err(Error::Owned { folder: folder.to_owned(), pid: pid.to_owned() })
        }
        Err(TryLockError::Error(cause)) => {
            Err(Error::Folder { folder: folder.to_owned(), cause: Arc::new(cause) })
        }
    }
}

fn read(lock: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    lock.take(LOCK_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Compiled plugins: they may lie here before the first start.
const PLUGINS: &str = "plugins";

/// A new folder is ours alone. An existing one is tightened if nothing but our own files stands in it;
/// somebody's project folder keeps its mode, and only our files in it are private.
fn prepare(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with("chela.") || name == PLUGINS || name == artefact::FOLDER) {
            return Ok(());
        }
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

fn open_private(file: &Path) -> std::io::Result<File> {
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)?;
    opened.set_permissions(Permissions::from_mode(0o600))?;
    Ok(opened)
}
