//! Recorded turns: what was said, what the host answered the plugins, and what came of it, so that another version
//! can be shown the same.

use std::collections::HashMap;

use chela_types::{ChannelId, ConversationId, Message, Millis, Reply, TenantId, TurnId};

use crate::inbox::Kept;
use crate::journal::{self, Entry};
use crate::record::{TurnState, state};
use crate::row::{self, to_json};
use crate::sql::{self, Connection, Row};
use crate::{Result, Store};

/// A closed turn as it went.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its place in the order of arrival.
    pub seq: i64,
    /// Its id.
    pub id: TurnId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The channel account.
    pub channel: ChannelId,
    /// When it came in.
    pub received: Millis,
    /// How it ended.
    pub state: TurnState,
    /// What was said; absent once purged, or withdrawn.
    pub message: Option<Message>,
    /// What was answered; absent once purged, or if nothing was.
    pub reply: Option<Reply>,
    /// Its journal in order, without the entries whose values are purged.
    pub entries: Vec<Entry>,
}

impl Store {
    /// Closed turns that came in at or after `since`, with numbers above `after` (0: from the first), in the order
    /// of arrival, at most `limit`, each with all of its journal.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn recorded(
        &self,
        tenant: &TenantId,
        since: Millis,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Recorded>> {
        self.read(async |connection| {
            let rows = sql::query(PAGE)
                .bind(tenant.as_str())
                .bind(since.0)
                .bind(start(connection, tenant, since, after).await?)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await?;
            let mut turns: Vec<Recorded> = rows.iter().map(recorded).collect::<Result<_>>()?;
            let mut journals = journals(connection, &turns).await?;
            for turn in &mut turns {
                turn.entries = journals.remove(&turn.seq).unwrap_or_default();
            }
            Ok(turns)
        })
        .await
    }

    /// How many closed turns came in at or after `since`.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn count_recorded(&self, tenant: &TenantId, since: Millis) -> Result<u64> {
        self.read(async |connection| {
            let count: i64 =
                sql::query(COUNT).bind(tenant.as_str()).bind(since.0).fetch_value(connection).await?;
            Ok(count.unsigned_abs())
        })
        .await
    }
}

/// Numbers from here on are looked at. The index is in the order of time, which is nearly that of arrival: it says
/// where the first page begins, and the others begin where the one before ended.
async fn start(connection: &mut Connection, tenant: &TenantId, since: Millis, after: i64) -> Result<i64> {
    if after > 0 {
        return Ok(after.saturating_add(1));
    }
    let first: Option<i64> =
        sql::query(FIRST).bind(tenant.as_str()).bind(since.0).fetch_value(connection).await?;
    Ok(first.unwrap_or(i64::MAX))
}

pub(crate) const FIRST: &str =
    "SELECT min(seq) FROM turns WHERE tenant = $1 AND received_at >= $2 AND state <> 'open'";

pub(crate) const COUNT: &str =
    "SELECT count(*) FROM turns WHERE tenant = $1 AND received_at >= $2 AND state <> 'open'";

/// In the order of the numbers: by the index on time, each page would sort all that came in since.
pub(crate) const PAGE: &str = "
    SELECT t.seq, t.id, t.conversation, t.channel, t.received_at, t.state, m.body AS message, r.body AS reply
    FROM turns AS t NOT INDEXED
    LEFT JOIN contents AS m ON m.turn = t.seq AND m.part = 0 AND m.n = 0
    LEFT JOIN contents AS r ON r.turn = t.seq AND r.part = 1 AND r.n = 0
    WHERE t.seq >= $3 AND t.tenant = $1 AND t.received_at >= $2 AND t.state <> 'open' ORDER BY t.seq LIMIT $4 + 0";

fn recorded(row: &Row) -> Result<Recorded> {
    Ok(Recorded {
        seq: row::get(row, "seq")?,
        id: TurnId::from_bytes(row::id(row, "id")?),
        conversation: ConversationId(row::get(row, "conversation")?),
        channel: row::name(row, "channel")?,
        received: Millis(row::get(row, "received_at")?),
        state: state(row::text(row, "state")?)?,
        message: row::json::<Kept>(row, "message")?.map(|kept| kept.message),
        reply: row::json(row, "reply")?,
        entries: Vec::new(),
    })
}

/// All of a page in one query. They are put in order afterwards: SQLite would carry the values through its sorter.
pub(crate) const JOURNALS: &str = "
    SELECT j.turn, j.seq, j.function, j.arguments, j.at, j.version, c.body FROM json_each($1) AS given
    CROSS JOIN journal AS j ON j.turn = given.value
    JOIN contents AS c ON c.turn = j.turn AND c.part = 2 AND c.n = j.seq";

async fn journals(connection: &mut Connection, turns: &[Recorded]) -> Result<HashMap<i64, Vec<Entry>>> {
    let seqs: Vec<i64> = turns.iter().map(|turn| turn.seq).collect();
    let rows = sql::query(JOURNALS).bind(to_json("turns", &seqs)?).fetch_all(connection).await?;
    let mut journals: HashMap<i64, Vec<Entry>> = HashMap::new();
    for row in &rows {
        journals.entry(row::get(row, "turn")?).or_default().push(journal::entry(row)?);
    }
    journals.values_mut().for_each(|entries| entries.sort_unstable_by_key(|entry| entry.seq));
    Ok(journals)
}
