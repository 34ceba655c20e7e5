//! The journal: what the host answered a plugin, call by call, so that a turn that is run again gets the same
//! answers without asking or paying again. And what the turn may know of the past: decisions, utterances.

use std::ops::Range;

use chela_types::{ConversationId, Decision, Digest, Millis, Reply, Speaker, Utterance};

use crate::inbox::Kept;
use crate::mailbox::{Lease, held};
use crate::row::{self, to_json};
use crate::sql::{self, Row};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// One host call of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 0; from [`Entry::ASIDE`] on, what is set aside.
    pub seq: u32,
    /// The function (`models.complete`, `clock.now` …), with [`Entry::FAILED`] behind it where the value is a failure
    /// that time may heal.
    pub function: String,
    /// Of its arguments: a replay that asks something else has diverged.
    pub arguments: Digest,
    /// What it returned, encoded by whoever lends the function.
    pub value: Vec<u8>,
    /// When.
    pub at: Millis,
    /// The plugin's version whose part of the journal this is.
    pub version: Option<Digest>,
}

impl Entry {
    /// From here on lies what is set aside: beyond any place that a turn can come by.
    pub const ASIDE: u32 = 1 << 28;
    /// Stands behind the function's name where an entry holds a failure that time may heal.
    pub const FAILED: char = '!';

    /// Whether it holds a failure that time may heal.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.function.ends_with(Self::FAILED)
    }

    /// The function alone.
    #[must_use]
    pub fn called(&self) -> &str {
        called(&self.function)
    }
}

/// The function's name without its mark.
pub(crate) fn called(function: &str) -> &str {
    function.strip_suffix(Entry::FAILED).unwrap_or(function)
}

/// A change to a journal that is made as a whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Revision {
    /// Places that are emptied, whatever they hold.
    pub void: Range<u32>,
    /// Single places that are emptied.
    pub gone: Vec<u32>,
    /// What is written then, at places that are free.
    pub entries: Vec<Entry>,
}

impl Store {
    /// The turn's journal in order.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn journal(&self, lease: &Lease) -> Result<Vec<Entry>> {
        if lease.has_no_journal() {
            return Ok(Vec::new());
        }
        self.read(async |connection| {
            let rows = sql::query(
                "SELECT j.seq, j.function, j.arguments, j.at, j.version, c.body FROM journal AS j
                 JOIN contents AS c ON c.turn = j.turn AND c.part = 2 AND c.n = j.seq
                 WHERE j.turn = $1 ORDER BY j.seq",
            )
            .bind(lease.seq)
            .fetch_all(connection)
            .await?;
            rows.iter().map(entry).collect()
        })
        .await
    }

    /// Keeps a host call; returns after it is on the disk.
    ///
    /// # Errors
    /// [`Error::Fenced`]; [`Error::Invalid`] if the place is taken; those of the disk.
    pub async fn record(&self, lease: &Lease, entry: Entry) -> Result<()> {
        lease.touch_journal();
        self.commit(Record { lease: lease.clone(), entry, statements: WRITE }).await
    }

    /// Keeps a host call that is cheap to lose while nothing depends on it (time, randomness): it is on the
    /// disk no later than the next awaited write.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn record_behind(&self, lease: &Lease, entry: Entry) -> Result<()> {
        lease.touch_journal();
        self.behind(Record { lease: lease.clone(), entry, statements: WRITE }).await
    }

    /// The same in place of what stands at the entry's place, if something does.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn rerecord_behind(&self, lease: &Lease, entry: Entry) -> Result<()> {
        lease.touch_journal();
        self.behind(Record { lease: lease.clone(), entry, statements: REWRITE }).await
    }

    /// Empties places and fills others, in one transaction: what is moved is at one place or the other, whenever the
    /// process dies. Not awaited.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn revise_journal_behind(&self, lease: &Lease, revision: Revision) -> Result<()> {
        lease.touch_journal();
        self.behind(Revise { lease: lease.clone(), revision }).await
    }

    /// Keeps which agent was chosen and why. Not awaited.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn decided_behind(&self, lease: &Lease, decision: &Decision) -> Result<()> {
        let body = to_json("decision", decision)?;
        self.behind(Decided { lease: lease.clone(), body }).await
    }

    /// What was said in earlier turns of the lease's conversation, oldest first, the last `limit` utterances.
    /// The host's own notices are left out.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn utterances(&self, lease: &Lease, limit: usize) -> Result<Vec<Utterance>> {
        if lease.first {
            return Ok(Vec::new());
        }
        self.utterances_of(lease.conversation, lease.seq, limit).await
    }

    /// The same of any conversation, before the turn with this number.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn utterances_of(
        &self,
        conversation: ConversationId,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<Utterance>> {
        let rows = self
            .read(async |connection| {
                let rows = sql::query(UTTERANCES)
                    .bind(conversation.0)
                    .bind(seq)
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                    .fetch_all(connection)
                    .await?;
                Ok(rows)
            })
            .await?;
        let mut newest_first = Vec::new();
        for row in &rows {
            if let Some(reply) = row::json::<Reply>(row, "reply")? {
                let agent = row::maybe_name(row, "agent")?;
                newest_first.push(Utterance { speaker: Speaker::Agent, agent, text: reply.text });
            }
            let kept: Kept = row::json(row, "message")?.ok_or(Error::Unreadable("message"))?;
            newest_first.push(Utterance { speaker: Speaker::Person, agent: None, text: kept.message.text });
        }
        newest_first.truncate(limit);
        newest_first.reverse();
        Ok(newest_first)
    }
}

pub(crate) const UTTERANCES: &str = "
    SELECT m.body AS message, r.body AS reply, o.agent FROM turns AS t
    JOIN contents AS m ON m.turn = t.seq AND m.part = 0
    LEFT JOIN outbox AS o ON o.turn = t.seq AND NOT o.notice
    LEFT JOIN contents AS r ON r.turn = o.turn AND r.part = 1
    WHERE t.conversation = $1 AND t.seq < $2 ORDER BY t.seq DESC LIMIT $3 + 0";

/// From the journal's columns, and the value as `body`.
pub(crate) fn entry(row: &Row) -> Result<Entry> {
    Ok(Entry {
        seq: row::count(row, "seq")?,
        function: row::get(row, "function")?,
        arguments: row::digest(row, "arguments")?,
        value: row::get(row, "body")?,
        at: Millis(row::get(row, "at")?),
        version: row::maybe_digest(row, "version")?,
    })
}

struct Record {
    lease: Lease,
    entry: Entry,
    statements: &'static str,
}

impl Operation for Record {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        put(tx, &self.lease, &self.entry, self.statements).await
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

const TAKEN: Error = Error::Invalid("this place of the journal is taken");

/// Refuses if the place is taken.
pub(crate) async fn check_free(tx: &mut Transaction<'_>, lease: &Lease, seq: u32) -> Result<()> {
    let taken: Option<i64> = sql::query("SELECT 1 FROM journal WHERE turn = $1 AND seq = $2")
        .bind(lease.seq)
        .bind(seq)
        .fetch_optional_value(&mut *tx.connection)
        .await?;
    if taken.is_some() { Err(TAKEN) } else { Ok(()) }
}

pub(crate) const WRITE: &str = concat!(
    "INSERT INTO journal (turn, seq, function, arguments, at, version)
         SELECT $4, $5, $6, $7, $8, $10 FROM conversations WHERE ",
    held!(),
    " ON CONFLICT DO NOTHING;
     INSERT INTO contents (turn, part, n, body) SELECT $4, 2, $5, $9 WHERE changes() = 1",
);

pub(crate) const REWRITE: &str = concat!(
    "INSERT INTO journal (turn, seq, function, arguments, at, version)
         SELECT $4, $5, $6, $7, $8, $10 FROM conversations WHERE ",
    held!(),
    " ON CONFLICT DO UPDATE SET function = excluded.function, arguments = excluded.arguments, at = excluded.at,
         version = excluded.version;
     INSERT INTO contents (turn, part, n, body) SELECT $4, 2, $5, $9 WHERE changes() = 1
         ON CONFLICT DO UPDATE SET body = excluded.body",
);

/// Writes an entry; refuses if the lease is not current or the place is taken.
pub(crate) async fn write(tx: &mut Transaction<'_>, lease: &Lease, entry: &Entry) -> Result<()> {
    put(tx, lease, entry, WRITE).await
}

async fn put(tx: &mut Transaction<'_>, lease: &Lease, entry: &Entry, statements: &'static str) -> Result<()> {
    let written = tx
        .under(lease, statements)
        .bind(entry.seq)
        .bind(&entry.function)
        .bind(entry.arguments.as_bytes().as_slice())
        .bind(entry.at.0)
        .bind(&entry.value)
        .bind(entry.version.map(|version| version.as_bytes().to_vec()))
        .execute(&mut *tx.connection)
        .await?;
    if written == 0 { Err(tx.refusal(lease, TAKEN).await) } else { Ok(()) }
}

struct Revise {
    lease: Lease,
    revision: Revision,
}

impl Operation for Revise {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.lease).await?;
        let Revision { void, gone, entries } = &self.revision;
        for entry in entries {
            if !void.contains(&entry.seq) && !gone.contains(&entry.seq) {
                check_free(tx, &self.lease, entry.seq).await?;
            }
        }
        empty(tx, &self.lease, void.clone()).await?;
        empty_each(tx, &self.lease, gone).await?;
        for entry in entries {
            write(tx, &self.lease, entry).await?;
        }
        Ok(())
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

/// Empties single places; under a lease that was looked at.
pub(crate) async fn empty_each(tx: &mut Transaction<'_>, lease: &Lease, places: &[u32]) -> Result<()> {
    for seq in places {
        empty(tx, lease, *seq..seq.saturating_add(1)).await?;
    }
    Ok(())
}

async fn empty(tx: &mut Transaction<'_>, lease: &Lease, places: Range<u32>) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    sql::query(EMPTY)
        .bind(lease.seq)
        .bind(places.start)
        .bind(places.end)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

pub(crate) const EMPTY: &str = "DELETE FROM journal WHERE turn = $1 AND seq >= $2 AND seq < $3;
     DELETE FROM contents WHERE turn = $1 AND part = 2 AND n >= $2 AND n < $3";

struct Decided {
    lease: Lease,
    body: String,
}

impl Operation for Decided {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let written = tx.under(&self.lease, DECIDE).bind(&self.body).execute(&mut *tx.connection).await?;
        if written == 0 { Err(Error::Fenced(self.lease.conversation)) } else { Ok(()) }
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

pub(crate) const DECIDE: &str = concat!(
    "INSERT INTO decisions (turn, n, at, body)
     SELECT $4, (SELECT coalesce(max(n), 0) + 1 FROM decisions WHERE turn = $4), $3, $5
     FROM conversations WHERE ",
    held!(),
);
