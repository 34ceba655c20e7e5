//! Events: what happened to plugins, when, by whom and why, for `chela events` and a plugin's history.
//!
//! Numbers of a tenant's events have no gaps, so the oldest are found by number alone and none is read to be
//! dropped.

use chela_types::{Digest, Millis, PluginId, TenantId};
use serde::{Deserialize, Serialize};

use crate::row::{self, to_json};
use crate::sql::{self, Row};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// Most events of a tenant. A plugin that changes each minute has two months of history then, and the table stays
/// in the tens of megabytes.
pub(crate) const EVENTS_MAX: u32 = 100_000;

/// Longest text of a reason: it stands in a line of a list.
pub(crate) const WHY_BYTES_MAX: usize = 500;

/// Largest detail of one event, as JSON.
const DETAIL_BYTES_MAX: usize = 64 << 10;

/// Something that happened to plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// To which one; `None`: to all, or to none in particular.
    pub plugin: Option<PluginId>,
    /// To which version of it.
    pub digest: Option<Digest>,
    /// What: `promoted`, `rolled back`, `refused`, `canary` …
    pub what: String,
    /// Who did it.
    pub by: String,
    /// Why, in words; cut at 500 bytes.
    pub why: String,
    /// More of it, at most 64 KiB as JSON.
    pub detail: serde_json::Value,
}

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number within the tenant, from 1.
    pub seq: u64,
    /// When it was kept.
    pub at: Millis,
    /// What happened.
    pub happened: Happened,
}

/// Of an event, what is written: encoded before it waits for the writer.
#[derive(Debug)]
pub(crate) struct Prepared {
    happened: Happened,
    detail: String,
}

/// Cuts the texts.
///
/// # Errors
/// [`Error::TooLarge`] for a detail.
pub(crate) fn prepare(happened: Vec<Happened>) -> Result<Vec<Prepared>> {
    let prepared = |mut happened: Happened| {
        cut(&mut happened.why);
        let detail = to_json("event detail", &happened.detail)?;
        if detail.len() > DETAIL_BYTES_MAX {
            let (what, size, max) = ("the detail of an event", detail.len(), DETAIL_BYTES_MAX);
            return Err(Error::TooLarge { what, size, max });
        }
        Ok(Prepared { happened, detail })
    };
    happened.into_iter().map(prepared).collect()
}

/// Cuts a text at 500 bytes, between two letters.
pub(crate) fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(WHY_BYTES_MAX));
}

impl Store {
    /// Keeps that something happened; returns after it is on the disk. Of more than 100,000 events of a tenant the
    /// oldest go.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for its detail, or those of the disk.
    pub async fn happened(&self, tenant: &TenantId, happened: Happened) -> Result<()> {
        let events = prepare(vec![happened])?;
        self.commit(Append { tenant: tenant.clone(), events, max: EVENTS_MAX }).await
    }

    /// Events with numbers above `after`, oldest first, at most `limit`; of one plugin, or of all.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn events(
        &self,
        tenant: &TenantId,
        after: u64,
        plugin: Option<&PluginId>,
        limit: usize,
    ) -> Result<Vec<Event>> {
        self.select((AFTER, AFTER_OF), tenant, plugin, (after, limit)).await
    }

    /// The last `limit` events, oldest first; of one plugin, or of all.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn newest_events(
        &self,
        tenant: &TenantId,
        plugin: Option<&PluginId>,
        limit: usize,
    ) -> Result<Vec<Event>> {
        let mut newest = self.select((NEWEST, NEWEST_OF), tenant, plugin, (0, limit)).await?;
        newest.reverse();
        Ok(newest)
    }

    /// By the statement for all plugins, or by that for one.
    async fn select(
        &self,
        (all, one): (&'static str, &'static str),
        tenant: &TenantId,
        plugin: Option<&PluginId>,
        (after, limit): (u64, usize),
    ) -> Result<Vec<Event>> {
        let sql = if plugin.is_some() { one } else { all };
        self.read(async |connection| {
            let rows = sql::query(sql)
                .bind(tenant.as_str())
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(plugin.map(PluginId::as_str))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await?;
            rows.iter().map(event).collect()
        })
        .await
    }
}

/// One statement for each way, and the index by name: SQLite would read every event to find a plugin's.
pub(crate) const AFTER: &str =
    "SELECT * FROM events WHERE tenant = $1 AND seq > $2 ORDER BY seq LIMIT $4 + 0";
pub(crate) const AFTER_OF: &str = "SELECT * FROM events INDEXED BY events_plugin WHERE tenant = $1 AND plugin = $3 AND seq > $2 ORDER BY seq LIMIT $4 + 0";
pub(crate) const NEWEST: &str =
    "SELECT * FROM events WHERE tenant = $1 AND seq > $2 ORDER BY seq DESC LIMIT $4 + 0";
pub(crate) const NEWEST_OF: &str = "SELECT * FROM events INDEXED BY events_plugin WHERE tenant = $1 AND plugin = $3 AND seq > $2 ORDER BY seq DESC LIMIT $4 + 0";

fn event(row: &Row) -> Result<Event> {
    Ok(Event {
        seq: row::get::<i64>(row, "seq")?.unsigned_abs(),
        at: Millis(row::get(row, "at")?),
        happened: Happened {
            plugin: row::maybe_name(row, "plugin")?,
            digest: row::maybe_digest(row, "digest")?,
            what: row::get(row, "what")?,
            by: row::get(row, "by")?,
            why: row::get(row, "why")?,
            detail: row::json(row, "detail")?.unwrap_or_default(),
        },
    })
}

/// Events alone, in order.
pub(crate) struct Append {
    pub(crate) tenant: TenantId,
    pub(crate) events: Vec<Prepared>,
    /// Most that are kept.
    pub(crate) max: u32,
}

impl Operation for Append {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        append(tx, &self.tenant, &self.events, self.max).await
    }
}

pub(crate) const APPEND: &str = "
    INSERT INTO events (tenant, seq, at, plugin, digest, what, by, why, detail)
        SELECT $1, coalesce((SELECT max(seq) FROM events WHERE tenant = $1), 0) + 1, $2, $3, $4, $5, $6, $7, $8;
    DELETE FROM events WHERE tenant = $1 AND seq <= (SELECT max(seq) FROM events WHERE tenant = $1) - $9";

/// Appends within a larger operation; the oldest go as new ones come.
pub(crate) async fn append(
    tx: &mut Transaction<'_>,
    tenant: &TenantId,
    events: &[Prepared],
    max: u32,
) -> Result<()> {
    for Prepared { happened, detail } in events {
        sql::query(APPEND)
            .bind(tenant.as_str())
            .bind(tx.now.0)
            .bind(happened.plugin.as_ref().map(PluginId::as_str))
            .bind(happened.digest.as_ref().map(|digest| digest.as_bytes().as_slice()))
            .bind(&happened.what)
            .bind(&happened.by)
            .bind(&happened.why)
            .bind(detail)
            .bind(max)
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}
