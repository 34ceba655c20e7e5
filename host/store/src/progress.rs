//! The progress post: an answer that a person can watch being made, as one post that is edited.
//!
//! It stands on the platform before the answer is kept, so it is written down before it is posted, and what it is
//! called once that is known; the kept answer takes its place. A crash in between hides whether it is there: then it
//! is left alone, and the answer becomes a post of its own.

use crate::mailbox::{Lease, held};
use crate::row;
use crate::sql::Row;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// How the progress post of a turn stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It was being posted; nobody knows whether it is there. Or it cannot be edited.
    Lost,
    /// It is there and shows a draft.
    Posted {
        /// What the platform calls it.
        platform_id: String,
        /// Number of its last edit.
        seq: u32,
    },
    /// It is there and shows the kept answer, or as much of it as one post holds.
    Settled {
        /// What the platform calls it.
        platform_id: String,
    },
}

impl Store {
    /// Says that a progress post is about to leave. False: this turn had one before.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk. Nothing may be posted then.
    pub async fn progress_begins(&self, lease: &Lease) -> Result<bool> {
        self.commit(Begin(lease.clone())).await
    }

    /// Writes down how the progress post stands now; `None`: it was not posted after all.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn progress(&self, lease: &Lease, progress: Option<Progress>) -> Result<()> {
        self.commit(Set { lease: lease.clone(), progress }).await
    }

    /// The same, not awaited: the next awaited write carries it to the disk.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn progress_behind(&self, lease: &Lease, progress: Progress) -> Result<()> {
        self.behind(Set { lease: lease.clone(), progress: Some(progress) }).await
    }
}

struct Begin(Lease);

impl Operation for Begin {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool> {
        let written = tx.under(&self.0, BEGIN).execute(&mut *tx.connection).await?;
        if written == 0 {
            tx.fence(&self.0).await?;
        }
        Ok(written > 0)
    }

    fn lane(&self) -> Option<&str> {
        Some(self.0.lane())
    }
}

const BEGIN: &str = concat!(
    "INSERT INTO progress (turn, status) SELECT $4, 'posting' FROM conversations WHERE ",
    held!(),
    " ON CONFLICT DO NOTHING",
);

struct Set {
    lease: Lease,
    progress: Option<Progress>,
}

impl Operation for Set {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let (status, platform_id, seq) = match &self.progress {
            None => {
                tx.fence(&self.lease).await?;
                tx.under(&self.lease, "DELETE FROM progress WHERE turn = $4")
                    .execute(&mut *tx.connection)
                    .await?;
                return Ok(());
            }
            Some(Progress::Lost) => ("lost", None, 0),
            Some(Progress::Posted { platform_id, seq }) => ("posted", Some(platform_id), *seq),
            Some(Progress::Settled { platform_id }) => ("settled", Some(platform_id), 0),
        };
        let written = tx
            .under(&self.lease, SET)
            .bind(status)
            .bind(platform_id)
            .bind(seq)
            .execute(&mut *tx.connection)
            .await?;
        if written == 0 {
            return Err(tx.refusal(&self.lease, Error::Invalid("the turn has no progress post")).await);
        }
        Ok(())
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

pub(crate) const SET: &str = concat!(
    "UPDATE progress SET status = $5, platform_id = coalesce($6, platform_id), seq = max(seq, $7)
     WHERE turn = $4 AND EXISTS (SELECT 1 FROM conversations WHERE ",
    held!(),
    ")",
);

/// As a claim reads it: columns `progress`, `progress_id` and `progress_seq`.
pub(crate) fn read(row: &Row) -> Result<Option<Progress>> {
    let status = row::maybe_text(row, "progress")?;
    let platform_id: Option<String> = row::get(row, "progress_id")?;
    Ok(match (status, platform_id) {
        (None, _) => None,
        (Some("posted"), Some(platform_id)) => {
            Some(Progress::Posted { platform_id, seq: row::count(row, "progress_seq")? })
        }
        (Some("settled"), Some(platform_id)) => Some(Progress::Settled { platform_id }),
        (Some("posting" | "lost"), _) => Some(Progress::Lost),
        _ => return Err(Error::Unreadable("progress")),
    })
}
