//! Files that agents keep and read again: too large for a message, and never changed. A file and its journal entry are one
//! transaction; it goes with the words of the turn that kept it.

use chela_types::{AgentId, ConversationId, TenantId};

use crate::journal::{self, Entry};
use crate::mailbox::Lease;
use crate::row;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// A file to keep.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Under which it is found again; no other has it.
    pub handle: String,
    /// Whose it is.
    pub agent: AgentId,
    /// What people call it.
    pub name: String,
    /// `image/png`.
    pub media_type: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// How much a conversation may keep.
#[derive(Debug, Clone, Copy)]
pub struct BlobBounds {
    /// Files.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Store {
    /// Keeps a file and, in the same transaction, the journal entry that says so.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the conversation keeps too much already; [`Error::Invalid`] if the entry's place is taken;
    /// [`Error::Fenced`]; those of the disk.
    pub async fn blob_put(&self, lease: &Lease, blob: Blob, bounds: BlobBounds, entry: Entry) -> Result<()> {
        lease.touch_journal();
        self.commit(Put { lease: lease.clone(), blob, bounds, entry }).await
    }

    /// At most `len` bytes of a file from `offset` on; `None` if this agent has no such file in this conversation.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn blob_read(
        &self,
        (tenant, agent, conversation): (&TenantId, &AgentId, ConversationId),
        handle: &str,
        (offset, len): (u64, usize),
    ) -> Result<Option<Vec<u8>>> {
        self.read(async |connection| {
            let row = sql::query(READ)
                .bind(tenant.as_str())
                .bind(handle)
                .bind(agent.as_str())
                .bind(conversation.to_string())
                // `substr` counts from 1.
                .bind(i64::try_from(offset.saturating_add(1)).unwrap_or(i64::MAX))
                .bind(i64::try_from(len).unwrap_or(i64::MAX))
                .fetch_optional(connection)
                .await?;
            row.map(|row| row::get(&row, "part")).transpose()
        })
        .await
    }
}

pub(crate) const READ: &str = "
    SELECT substr(content, $5 + 0, $6 + 0) AS part FROM blobs
    WHERE tenant = $1 AND handle = $2 AND agent = $3 AND conversation = $4";

pub(crate) const KEPT: &str = "
    SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM blobs
    WHERE tenant = $1 AND conversation = $2";

struct Put {
    lease: Lease,
    blob: Blob,
    bounds: BlobBounds,
    entry: Entry,
}

impl Operation for Put {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.lease).await?;
        journal::check_free(tx, &self.lease, self.entry.seq).await?;
        self.check_room(tx).await?;
        let Blob { handle, agent, name, media_type, content } = &self.blob;
        sql::query(
            "INSERT INTO blobs (tenant, handle, conversation, agent, turn, name, media_type, size, content, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(self.lease.tenant.as_str())
        .bind(handle)
        .bind(self.lease.conversation.to_string())
        .bind(agent.as_str())
        .bind(self.lease.seq)
        .bind(name)
        .bind(media_type)
        .bind(i64::try_from(content.len()).unwrap_or(i64::MAX))
        .bind(content.as_slice())
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        journal::write(tx, &self.lease, &self.entry).await
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

impl Put {
    async fn check_room(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let row = sql::query(KEPT)
            .bind(self.lease.tenant.as_str())
            .bind(self.lease.conversation.to_string())
            .fetch_one(&mut *tx.connection)
            .await?;
        let number = |name| Ok::<_, Error>(row::get::<i64>(&row, name)?.unsigned_abs());
        let files = number("files")?.saturating_add(1);
        let bytes = number("bytes")?.saturating_add(self.blob.content.len() as u64);
        within("files of a conversation", files, self.bounds.count)?;
        within("bytes of a conversation's files", bytes, self.bounds.bytes)
    }
}

fn within(what: &'static str, size: u64, max: u64) -> Result<()> {
    let small = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    if size > max { Err(Error::TooLarge { what, size: small(size), max: small(max) }) } else { Ok(()) }
}
