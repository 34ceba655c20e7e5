//! Events of the streams that the host itself serves (web chat): what a page shows, in order, so that a reload
//! or a lost connection goes on where it was.

use chela_types::TenantId;

use crate::row;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Result, Store};

/// An event for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The page's session.
    pub session: String,
    /// JSON, as the page reads it.
    pub event: String,
}

impl Store {
    /// Appends an event; returns its number, from 1, after it is on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn append_event(&self, tenant: &TenantId, event: StreamEvent) -> Result<u64> {
        self.commit(Append { tenant: tenant.clone(), event }).await
    }

    /// The number of a session's last event; 0 if it has none.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn last_event(&self, tenant: &TenantId, session: &str) -> Result<u64> {
        self.read(async |connection| {
            let row = sql::query(
                "SELECT coalesce(max(seq), 0) AS seq FROM stream_events WHERE tenant = $1 AND session = $2",
            )
            .bind(tenant.as_str())
            .bind(session)
            .fetch_one(connection)
            .await?;
            Ok(row::get::<i64>(&row, "seq")?.unsigned_abs())
        })
        .await
    }

    /// Events of a session with numbers above `seq`, in order, at most `limit`; without those that are purged.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn events_after(
        &self,
        tenant: &TenantId,
        session: &str,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<(u64, String)>> {
        self.read(async |connection| {
            let rows = sql::query(
                "SELECT seq, event FROM stream_events WHERE tenant = $1 AND session = $2 AND seq > $3
                     AND event <> '' ORDER BY seq LIMIT $4 + 0",
            )
            .bind(tenant.as_str())
            .bind(session)
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
            rows.iter()
                .map(|row| Ok((row::get::<i64>(row, "seq")?.unsigned_abs(), row::get(row, "event")?)))
                .collect()
        })
        .await
    }
}

struct Append {
    tenant: TenantId,
    event: StreamEvent,
}

impl Operation for Append {
    type Output = u64;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<u64> {
        append(tx, &self.tenant, &self.event).await
    }
}

/// Appends within a larger operation.
pub(crate) async fn append(tx: &mut Transaction<'_>, tenant: &TenantId, event: &StreamEvent) -> Result<u64> {
    let seq: i64 = sql::query(
        "INSERT INTO stream_events (tenant, session, seq, at, event)
         SELECT $1, $2, coalesce(max(seq), 0) + 1, $3, $4 FROM stream_events WHERE tenant = $1 AND session = $2
         RETURNING seq",
    )
    .bind(tenant.as_str())
    .bind(&event.session)
    .bind(tx.now.0)
    .bind(&event.event)
    .fetch_value(&mut *tx.connection)
    .await?;
    Ok(seq.unsigned_abs())
}
