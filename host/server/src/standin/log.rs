//! A log that only grows: what a stand-in saw, in memory, for waiting, and as JSON lines in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

use super::Error;

/// Entries kept in memory unless it is said otherwise; the oldest go first. The file, if there is one, keeps all.
pub(super) const ENTRIES_MAX: usize = 1_000_000;
/// Entries that a slow watcher may be behind before it starts again from memory.
const WATCHERS_BEHIND_MAX: usize = 1_024;

/// What a stand-in saw, in order.
#[derive(Debug)]
pub struct Log<T> {
    entries: Mutex<VecDeque<T>>,
    entries_max: usize,
    file: Option<Mutex<File>>,
    news: broadcast::Sender<T>,
}

impl<T: Clone + Serialize> Log<T> {
    /// An empty log; with a path it also appends each entry to that file as one line of JSON.
    ///
    /// # Errors
    /// [`Error::LogFile`] if the file cannot be opened.
    pub fn open(path: Option<&Path>) -> Result<Self, Error> {
        Self::bounded(path, ENTRIES_MAX)
    }

    /// The same with so many entries in memory.
    ///
    /// # Errors
    /// [`Error::LogFile`] if the file cannot be opened.
    pub(super) fn bounded(path: Option<&Path>, entries_max: usize) -> Result<Self, Error> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(Mutex::new).map_err(|source| Error::LogFile { path: path.to_owned(), source })
        };
        Ok(Self {
            entries: Mutex::default(),
            entries_max: entries_max.max(1),
            file: path.map(open).transpose()?,
            news: broadcast::channel(WATCHERS_BEHIND_MAX).0,
        })
    }

    /// Appends, then tells the watchers.
    pub(super) fn push(&self, entry: T) {
        if let Some(file) = &self.file
            && let Ok(mut line) = serde_json::to_vec(&entry)
        {
            line.push(b'\n');
            if let Err(error) = file.lock().write_all(&line) {
                tracing::warn!(%error, "stand-in log not written");
            }
        }
        let mut entries = self.entries.lock();
        if entries.len() >= self.entries_max {
            entries.pop_front();
        }
        entries.push_back(entry.clone());
        // Inside the lock: a watcher that subscribes and then looks can miss nothing.
        let _ = self.news.send(entry);
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<T> {
        self.entries.lock().iter().cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// True if nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }

    /// The first entry that `wanted` accepts; waits for it if it is not there yet. Has no time limit of its
    /// own: the caller knows how long is too long.
    pub async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> T {
        loop {
            let mut news = self.news.subscribe();
            if let Some(found) = self.entries.lock().iter().find(|entry| wanted(entry)) {
                return found.clone();
            }
            while let Ok(entry) = news.recv().await {
                if wanted(&entry) {
                    return entry;
                }
            }
            // Too far behind: look through memory again.
        }
    }
}
