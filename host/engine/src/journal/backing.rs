//! Where a journal's entries go: to the disk, under the turn's lease; or nowhere, where a recorded part is run again.

use chela_store::{Entry, Lease, Revision, Store};

use crate::error::Error;
use crate::swap::playback::Playback;

/// Whose journal it is.
#[derive(Debug)]
pub(super) enum Backing {
    /// A turn's, kept under its lease.
    Turn { store: Store, lease: Lease },
    /// A recorded part's that is run again; nothing of it is kept.
    Played(Playback),
}

impl Backing {
    /// Keeps an entry; returns after it is on the disk.
    pub(super) async fn record(&self, entry: &Entry) -> Result<(), Error> {
        if let Self::Turn { store, lease } = self {
            store.record(lease, entry.clone()).await?;
        }
        Ok(())
    }

    /// Keeps an entry. The writer is in order: it is there before anything that is awaited later.
    pub(super) async fn record_behind(&self, entry: &Entry) -> Result<(), Error> {
        if let Self::Turn { store, lease } = self {
            store.record_behind(lease, entry.clone()).await?;
        }
        Ok(())
    }

    /// The same, whatever stood at its place.
    pub(super) async fn rerecord_behind(&self, entry: &Entry) -> Result<(), Error> {
        if let Self::Turn { store, lease } = self {
            store.rerecord_behind(lease, entry.clone()).await?;
        }
        Ok(())
    }

    /// Empties places and fills others, as a whole. Once this returns, it is in order with what is written later; if
    /// whoever called is gone before, it is not written at all.
    pub(super) async fn revise_behind(&self, revision: Revision) -> Result<(), Error> {
        if let Self::Turn { store, lease } = self {
            store.revise_journal_behind(lease, revision).await?;
        }
        Ok(())
    }
}
