//! Memory: small values that outlive a turn, for an agent as a whole, for one person, or for one conversation.
//! A write and its journal entry are one transaction, so that a turn that is run again neither writes twice nor
//! sees its own write as somebody else's.

use chela_types::{AgentId, ConversationId, TenantId};

use crate::journal::{self, Entry};
use crate::mailbox::Lease;
use crate::row;
use crate::sql::{self, Connection};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// Longest key in bytes; the contract says so.
const KEY_BYTES_MAX: usize = 128;

/// Whom a value belongs to, within a tenant and an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryScope {
    /// One conversation.
    Conversation(ConversationId),
    /// One person, by the id that the host read.
    User(String),
    /// The agent as a whole.
    Agent,
}

impl MemoryScope {
    fn columns(&self) -> (&'static str, String) {
        match self {
            Self::Conversation(id) => ("conversation", id.to_string()),
            Self::User(id) => ("user", id.clone()),
            Self::Agent => ("agent", String::new()),
        }
    }
}

/// A kept value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryEntry {
    /// The value.
    pub value: String,
    /// From 1, grows with each write.
    pub version: u64,
}

/// A value to write.
#[derive(Debug, Clone)]
pub struct MemoryWrite {
    /// Whose memory.
    pub agent: AgentId,
    /// Which part of it.
    pub scope: MemoryScope,
    /// 1 to 128 bytes.
    pub key: String,
    /// The value.
    pub value: String,
    /// Write only if the version is this one; 0: if there is none.
    pub expected: Option<u64>,
    /// Places of the journal that are emptied with it: what an earlier run did with this value is void.
    pub void: Vec<u32>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryOutcome {
    /// Written, as this version.
    Written(u64),
    /// Not written: the version is this one, 0 for none.
    Conflict(u64),
}

impl Store {
    /// Reads a value.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn memory_get(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        scope: &MemoryScope,
        key: &str,
    ) -> Result<Option<MemoryEntry>> {
        let (scope, owner) = scope.columns();
        self.read(async |connection| {
            let row = sql::query(
                "SELECT value, version FROM memory
                 WHERE tenant = $1 AND agent = $2 AND scope = $3 AND owner = $4 AND key = $5",
            )
            .bind(tenant.as_str())
            .bind(agent.as_str())
            .bind(scope)
            .bind(owner)
            .bind(key)
            .fetch_optional(connection)
            .await?;
            row.map(|row| {
                let version = row::get::<i64>(&row, "version")?.unsigned_abs();
                Ok(MemoryEntry { value: row::get(&row, "value")?, version })
            })
            .transpose()
        })
        .await
    }

    /// Writes a value and, in the same transaction, the journal entry that `entry` makes of the outcome.
    /// `entry` may be called more than once and must depend on nothing else.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for key, value or number of keys; [`Error::Invalid`] if the entry's place is taken;
    /// [`Error::Fenced`]; those of the disk.
    pub async fn memory_set(
        &self,
        lease: &Lease,
        write: MemoryWrite,
        entry: impl Fn(MemoryOutcome) -> Entry + Send + Sync + 'static,
    ) -> Result<MemoryOutcome> {
        self.memory_fits(&write.key, &write.value)?;
        let keys_max = self.inner.config.memory_keys_max;
        lease.touch_journal();
        self.commit(Set { lease: lease.clone(), write, keys_max, entry: Box::new(entry) }).await
    }
}

impl Store {
    /// Refuses a key or a value that no memory takes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Invalid`].
    pub fn memory_fits(&self, key: &str, value: &str) -> Result<()> {
        within("memory key", key.len(), KEY_BYTES_MAX)?;
        within("memory value", value.len(), self.inner.config.memory_value_bytes_max)?;
        match key.is_empty() {
            true => Err(Error::Invalid("a memory key has 1 to 128 bytes")),
            false => Ok(()),
        }
    }

    /// Refuses if a memory has no room for so many new keys.
    ///
    /// # Errors
    /// [`Error::TooLarge`], those of the disk.
    pub async fn memory_has_room(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        scope: &MemoryScope,
        more: usize,
    ) -> Result<()> {
        let keys = self.read(async |connection| keys(connection, (tenant, agent), scope).await).await?;
        within("memory", keys.saturating_add(more), self.inner.config.memory_keys_max)
    }
}

/// How many keys a memory has.
async fn keys(
    connection: &mut Connection,
    (tenant, agent): (&TenantId, &AgentId),
    scope: &MemoryScope,
) -> Result<usize> {
    let (scope, owner) = scope.columns();
    let keys: i64 = sql::query(
        "SELECT count(*) FROM memory WHERE tenant = $1 AND agent = $2 AND scope = $3 AND owner = $4",
    )
    .bind(tenant.as_str())
    .bind(agent.as_str())
    .bind(scope)
    .bind(owner)
    .fetch_value(connection)
    .await?;
    Ok(usize::try_from(keys).unwrap_or(usize::MAX))
}

fn within(what: &'static str, size: usize, max: usize) -> Result<()> {
    if size > max { Err(Error::TooLarge { what, size, max }) } else { Ok(()) }
}

struct Set {
    lease: Lease,
    write: MemoryWrite,
    keys_max: usize,
    entry: Box<dyn Fn(MemoryOutcome) -> Entry + Send + Sync>,
}

impl Operation for Set {
    type Output = MemoryOutcome;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<MemoryOutcome> {
        tx.fence(&self.lease).await?;
        let version = self.version(tx).await?;
        let outcome = match self.write.expected {
            Some(expected) if expected != version => MemoryOutcome::Conflict(version),
            _ => MemoryOutcome::Written(version.saturating_add(1)),
        };
        let entry = (self.entry)(outcome);
        journal::check_free(tx, &self.lease, entry.seq).await?;
        if let MemoryOutcome::Written(version) = outcome {
            if version == 1 {
                self.check_room(tx).await?;
            }
            self.put(tx, version).await?;
        }
        journal::empty_each(tx, &self.lease, &self.write.void).await?;
        journal::write(tx, &self.lease, &entry).await?;
        Ok(outcome)
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

impl Set {
    async fn version(&self, tx: &mut Transaction<'_>) -> Result<u64> {
        let (scope, owner) = self.write.scope.columns();
        let version: Option<i64> = sql::query(
            "SELECT version FROM memory
             WHERE tenant = $1 AND agent = $2 AND scope = $3 AND owner = $4 AND key = $5",
        )
        .bind(self.lease.tenant.as_str())
        .bind(self.write.agent.as_str())
        .bind(scope)
        .bind(owner)
        .bind(&self.write.key)
        .fetch_optional_value(&mut *tx.connection)
        .await?;
        Ok(version.unwrap_or(0).unsigned_abs())
    }

    async fn check_room(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let whose = (&self.lease.tenant, &self.write.agent);
        let keys = keys(&mut *tx.connection, whose, &self.write.scope).await?;
        within("memory", keys.saturating_add(1), self.keys_max)
    }

    async fn put(&self, tx: &mut Transaction<'_>, version: u64) -> Result<()> {
        let (scope, owner) = self.write.scope.columns();
        sql::query(
            "INSERT INTO memory (tenant, agent, scope, owner, key, value, version, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT DO UPDATE SET value = excluded.value, version = excluded.version, at = excluded.at",
        )
        .bind(self.lease.tenant.as_str())
        .bind(self.write.agent.as_str())
        .bind(scope)
        .bind(owner)
        .bind(&self.write.key)
        .bind(&self.write.value)
        .bind(i64::try_from(version).unwrap_or(i64::MAX))
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}
