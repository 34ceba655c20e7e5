//! Words that are purged once they are old. The account of what happened stays: of a turn its times, decisions, cost
//! and outcome; of a web session how many events it had.

use chela_types::{Millis, TenantId};

use crate::row::{self, to_json};
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Result, Store};

/// What a part of a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// Turns whose words are gone.
    pub turns: usize,
    /// Where the next part begins; `None`: nothing that is old enough is left.
    pub next: Option<i64>,
}

impl Store {
    /// Forgets what was said and answered in turns that closed before `before`, and their journals. Looks at `limit`
    /// turns, in the order of arrival, from the number `from` on (0: from the first).
    ///
    /// # Errors
    /// Those of the disk; nothing of this part is forgotten then.
    pub async fn purge_turns(
        &self,
        tenant: &TenantId,
        before: Millis,
        from: i64,
        limit: usize,
    ) -> Result<Purged> {
        self.commit(Turns { tenant: tenant.clone(), before, from, limit }).await
    }

    /// Forgets what web sessions showed before `before`, at most `limit` events, the oldest first. Returns how many.
    ///
    /// # Errors
    /// Those of the disk; nothing of this part is forgotten then.
    pub async fn purge_stream_events(
        &self,
        tenant: &TenantId,
        before: Millis,
        limit: usize,
    ) -> Result<usize> {
        self.commit(Shown { tenant: tenant.clone(), before, limit }).await
    }
}

struct Turns {
    tenant: TenantId,
    before: Millis,
    from: i64,
    limit: usize,
}

/// The first turns of which words are left, whosever they are, and whether those may go.
pub(crate) const WORDED: &str = "
    SELECT t.seq, min(t.received_at, coalesce(t.closed_at, t.received_at)) < $2 AS old,
        t.tenant = $1 AND t.state <> 'open' AND coalesce(t.closed_at, t.received_at) < $2 AS goes
    FROM (SELECT DISTINCT turn FROM contents WHERE turn >= $3 ORDER BY turn LIMIT $4 + 0) AS worded
    CROSS JOIN turns AS t ON t.seq = worded.turn ORDER BY worded.turn";

pub(crate) const FORGET: &str = "
    DELETE FROM contents WHERE turn IN (SELECT value FROM json_each($1));
    DELETE FROM blobs WHERE turn IN (SELECT value FROM json_each($1));
    DELETE FROM journal WHERE turn IN (SELECT value FROM json_each($1))";

impl Operation for Turns {
    type Output = Purged;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Purged> {
        let rows = sql::query(WORDED)
            .bind(self.tenant.as_str())
            .bind(self.before.0)
            .bind(self.from)
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *tx.connection)
            .await?;
        let (mut go, mut any_old, mut last) = (Vec::new(), false, None);
        for row in &rows {
            let seq: i64 = row::get(row, "seq")?;
            last = Some(seq);
            any_old |= row::get::<bool>(row, "old")?;
            if row::get(row, "goes")? {
                go.push(seq);
            }
        }
        if !go.is_empty() {
            sql::query(FORGET).bind(to_json("turns", &go)?).execute(&mut *tx.connection).await?;
        }
        // Clocks are set back at times: one turn that is too young says nothing of the next, a whole part of them does.
        let next = last.filter(|_| any_old && rows.len() == self.limit).map(|last| last.saturating_add(1));
        Ok(Purged { turns: go.len(), next })
    }
}

struct Shown {
    tenant: TenantId,
    before: Millis,
    limit: usize,
}

pub(crate) const SHOWN: &str = "
    SELECT session, seq FROM stream_events INDEXED BY stream_events_old
    WHERE at < $2 AND event <> '' AND tenant = $1 ORDER BY at LIMIT $3 + 0";

pub(crate) const HIDE: &str = "
    DELETE FROM stream_events WHERE tenant = $1
        AND (session, seq) IN (SELECT value ->> 0, value ->> 1 FROM json_each($2))
        AND EXISTS (SELECT 1 FROM stream_events AS newer WHERE newer.tenant = stream_events.tenant
            AND newer.session = stream_events.session AND newer.seq > stream_events.seq);
    UPDATE stream_events SET event = '' WHERE tenant = $1
        AND (session, seq) IN (SELECT value ->> 0, value ->> 1 FROM json_each($2))";

impl Operation for Shown {
    type Output = usize;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize> {
        let rows = sql::query(SHOWN)
            .bind(self.tenant.as_str())
            .bind(self.before.0)
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *tx.connection)
            .await?;
        let shown: Vec<(String, i64)> = rows
            .iter()
            .map(|row| Ok((row::get(row, "session")?, row::get(row, "seq")?)))
            .collect::<Result<_>>()?;
        if !shown.is_empty() {
            sql::query(HIDE)
                .bind(self.tenant.as_str())
                .bind(to_json("events", &shown)?)
                .execute(&mut *tx.connection)
                .await?;
        }
        Ok(shown.len())
    }
}
