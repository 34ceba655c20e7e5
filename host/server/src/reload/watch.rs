//! What the system tells of changed files: hints only. Each means that it is time to look; what there is to see, a look
//! finds out, and a poll looks where the system tells nothing. The one home of `notify`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::look::Seen;
use super::roots::Roots;

/// Files that are being written, of which it is remembered.
const WRITTEN_MAX: usize = 1_000;

/// A folder that is watched: with the folders in it or not, and which one it was when its watch was set.
type Watched = (bool, (u64, u64));

/// Watches folders. Without a watcher of the system it sees nothing.
#[derive(Debug, Default)]
pub(super) struct Eyes {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Watched>,
    /// Folders that could not be watched, told once.
    refused: BTreeSet<PathBuf>,
    written: Written,
}

/// Files that somebody has written to and not closed yet. Only Linux tells when a file is closed.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Written {
    fn hear(&self, event: &Event) {
        let mut written = self.0.lock();
        match event.kind {
            _ if event.need_rescan() => written.clear(),
            EventKind::Modify(ModifyKind::Data(_))
                if cfg!(target_os = "linux") && written.len() < WRITTEN_MAX =>
            {
                written.extend(event.paths.iter().cloned());
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => {
                written.retain(|path| !event.paths.contains(path));
            }
            _ => {}
        }
    }
}

impl Eyes {
    /// Hints go to `tell`, of which one place is enough: more say the same. Nothing is told of the data folder, unless
    /// what is watched lies in it.
    pub(super) fn open(tell: mpsc::Sender<()>, roots: &Roots) -> Self {
        let data = roots.data.canonicalize().unwrap_or_else(|_| roots.data.clone());
        let data = Some(data).filter(|data| !roots.folders().keys().any(|folder| folder.starts_with(data)));
        let written = Written::default();
        let heard = written.clone();
        let hear = move |event: notify::Result<Event>| {
            if let Ok(event) = &event {
                heard.hear(event);
            }
            // An error of the watcher may have cost events.
            if event.map_or(true, |event| counts(&event, data.as_deref())) {
                let _ = tell.try_send(());
            }
        };
        let config = notify::Config::default().with_follow_symlinks(false);
        match RecommendedWatcher::new(hear, config) {
            Ok(watcher) => Self { watcher: Some(watcher), written, ..Self::default() },
            Err(error) => {
                tracing::warn!(%error, "the system does not tell of changed files; they are found by looking");
                Self::default()
            }
        }
    }

    /// Watches these folders and no others; one that was replaced is watched anew. Blocks on the disk.
    pub(super) fn follow(&mut self, roots: &Roots) {
        let wanted = roots.folders();
        let gone: Vec<_> =
            self.watched.keys().filter(|folder| !wanted.contains_key(*folder)).cloned().collect();
        gone.iter().for_each(|folder| self.leave(folder));
        for (folder, is_deep) in wanted {
            let Ok(found) = std::fs::metadata(&folder) else { continue };
            let now = (is_deep, (found.dev(), found.ino()));
            match self.watched.get(&folder) {
                Some(before) if *before == now => continue,
                Some(_) => self.leave(&folder),
                None => {}
            }
            self.enter(folder, now);
        }
    }

    /// Sets every watch anew with the next [`Eyes::follow`]: something changed and nothing was told.
    pub(super) fn doubt(&mut self) {
        let all: Vec<_> = self.watched.keys().cloned().collect();
        all.iter().for_each(|folder| self.leave(folder));
    }

    /// Whether something that was seen is still being written. Blocks on the disk.
    pub(super) fn sees_writing(&self, seen: &Seen) -> bool {
        let written: Vec<_> = self.written.0.lock().iter().cloned().collect();
        written.iter().any(|path| seen.has(path))
    }

    /// Whoever still writes is not waited for any longer.
    pub(super) fn forget_writing(&self) {
        self.written.0.lock().clear();
    }

    fn enter(&mut self, folder: PathBuf, how: Watched) {
        let Some(watcher) = &mut self.watcher else { return };
        let mode = if how.0 { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        match watcher.watch(&folder, mode) {
            Ok(()) => {
                self.watched.insert(folder, how);
            }
            Err(error) if self.refused.insert(folder.clone()) => {
                tracing::warn!(folder = %folder.display(), %error, "a folder cannot be watched; it is looked at instead");
            }
            Err(_) => {}
        }
    }

    fn leave(&mut self, folder: &Path) {
        self.watched.remove(folder);
        if let Some(watcher) = &mut self.watcher
            && let Err(error) = watcher.unwatch(folder)
        {
            // A folder that is gone took its watch along.
            tracing::debug!(folder = %folder.display(), %error, "a watch was gone already");
        }
    }
}

/// Whether an event may mean a change. Our own reading is none, and what the host keeps is not looked at.
fn counts(event: &Event, data: Option<&Path>) -> bool {
    let is_reading = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    let is_kept = |path: &PathBuf| data.is_some_and(|data| path.starts_with(data));
    let is_ours = !event.paths.is_empty() && event.paths.iter().all(is_kept);
    !is_reading && !is_ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::CreateKind;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_is_being_written_until_it_is_closed_or_gone() {
        use notify::event::{DataChange, RemoveKind, RenameMode};
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let closed = |mode| EventKind::Access(AccessKind::Close(mode));
        let written = Written::default();
        let after = |kind, path: &str| {
            written.hear(&Event::new(kind).add_path(path.into()));
            written.0.lock().len()
        };
        assert_eq!((after(data, "a"), after(data, "a"), after(data, "b")), (1, 1, 2));
        assert_eq!(after(closed(AccessMode::Read), "a"), 2);
        assert_eq!(after(closed(AccessMode::Write), "a"), 1);
        assert_eq!(after(EventKind::Remove(RemoveKind::File), "b"), 0);
        assert_eq!(after(data, "c"), 1);
        assert_eq!(after(EventKind::Modify(ModifyKind::Name(RenameMode::From)), "c"), 0);
    }

    #[test]
    fn reading_and_the_data_folder_are_no_change() {
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let data = Some(Path::new("/c/data"));
        let changed = EventKind::Modify(ModifyKind::Any);
        assert!(counts(&event(changed, "/c/chela.toml"), data));
        assert!(counts(&event(EventKind::Create(CreateKind::File), "/c/p/a.wasm"), data));
        let closed = |mode| EventKind::Access(AccessKind::Close(mode));
        assert!(counts(&event(closed(AccessMode::Write), "/c/p/a.wasm"), data));
        assert!(!counts(&event(closed(AccessMode::Read), "/c/p/a.wasm"), data));
        assert!(!counts(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/c/p"), data));
        assert!(!counts(&event(changed, "/c/data/chela.db-wal"), data));
        assert!(counts(&event(changed, "/c/data/chela.toml"), None));
        assert!(counts(&Event::new(EventKind::Other), data), "events were lost");
    }
}
