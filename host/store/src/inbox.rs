//! The inbox: what came in, once. A message is kept and its turn waits in its conversation's mailbox, or one of
//! its keys is known and it is the same post told again.

use chela_types::{ChannelId, Digest, Identity, Key, Message, Target, TenantId, TurnId};
use serde::{Deserialize, Serialize};

use crate::row::{self, to_json};
use crate::sql::{self, Connection};
use crate::stream::{StreamEvent, append};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// A message to keep.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Whose it is, as the endpoint says.
    pub tenant: TenantId,
    /// What the host itself read from the request.
    pub identity: Identity,
    /// The message; its id becomes the turn's, if it is new.
    pub message: Message,
    /// The channel component's notes for rendering the answer.
    pub notes: Option<String>,
    /// In which lane its conversation waits, if it is new.
    pub lane: String,
    /// An event for the person's own stream (web chat), kept with the message if it is new.
    pub echo: Option<StreamEvent>,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The turn that handles the message.
    pub turn: TurnId,
    /// False if the message was known.
    pub fresh: bool,
}

/// Part 0 of a turn's contents.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) message: Message,
    pub(crate) target: Target,
}

impl Store {
    /// Keeps all of these, in order, in one transaction; returns after it is on the disk.
    ///
    /// If any of an arrival's keys is known, it is the old turn's, and its unknown keys are added to that.
    ///
    /// # Errors
    /// Nothing is kept then: [`Error::Invalid`] without a dedupe key, or those of the disk.
    pub async fn accept(&self, arrivals: Vec<Arrival>) -> Result<Vec<Accepted>> {
        let mut prepared = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            prepared.push(Prepared::new(arrival)?);
        }
        self.commit(Accept(prepared)).await
    }
}

/// An arrival as it is written: encoded and digested before it waits for the writer.
struct Prepared {
    arrival: Arrival,
    conversation: Digest,
    keys: Vec<Digest>,
    body: String,
}

impl Prepared {
    fn new(arrival: Arrival) -> Result<Self> {
        if arrival.identity.dedupe.is_empty() {
            return Err(Error::Invalid("a message without a dedupe key cannot be kept"));
        }
        let target = Target { bound: arrival.identity.target.clone(), notes: arrival.notes.clone() };
        Ok(Self {
            conversation: digest("chela conversation key", &arrival.identity.conversation),
            keys: arrival.identity.dedupe.iter().map(dedupe_digest).collect(),
            body: to_json("message", &Kept { message: arrival.message.clone(), target })?,
            arrival,
        })
    }
}

/// How a dedupe key is kept.
pub(crate) fn dedupe_digest(key: &Key) -> Digest {
    digest("chela dedupe key", key)
}

/// Platforms' keys have any length and content; a digest has one.
fn digest(domain: &str, key: &Key) -> Digest {
    let parts: Vec<&[u8]> = key.iter().map(|part| part.as_bytes()).collect();
    Digest::of(domain, &parts)
}

struct Accept(Vec<Prepared>);

impl Operation for Accept {
    type Output = Vec<Accepted>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let mut accepted = Vec::with_capacity(self.0.len());
        for prepared in &self.0 {
            accepted.push(prepared.accept(tx).await?);
        }
        Ok(accepted)
    }

    fn lane(&self) -> Option<&str> {
        self.0.first().map(|prepared| prepared.arrival.lane.as_str())
    }
}

/// Keeps a message of which no key is known, with its first two keys (few platforms have more): a new turn at
/// the end of its conversation's mailbox. A known key makes all of it do nothing: each statement goes on only if
/// the one before it changed a row.
pub(crate) const KEEP: &str = "
    INSERT INTO conversations (tenant, channel, key, claimable_at, lane)
        SELECT $1, $2, $3, $4, $10 WHERE NOT EXISTS (
            SELECT 1 FROM dedupe WHERE tenant = $1 AND channel = $2 AND key IN ($8, $9))
        ON CONFLICT DO UPDATE SET claimable_at = coalesce(claimable_at, excluded.claimable_at);
    INSERT INTO turns (id, conversation, tenant, channel, received_at)
        SELECT $5, id, $1, $2, $6 FROM conversations
        WHERE tenant = $1 AND channel = $2 AND key = $3 AND changes() = 1
        RETURNING seq;
    INSERT INTO contents (turn, part, n, body) SELECT last_insert_rowid(), 0, 0, $7 WHERE changes() = 1;
    INSERT INTO dedupe (tenant, channel, key, turn)
        SELECT $1, $2, given.column1, last_insert_rowid()
        FROM (VALUES ($8), ($9)) AS given WHERE given.column1 IS NOT NULL AND changes() = 1
        ON CONFLICT DO NOTHING";

impl Prepared {
    async fn accept(&self, tx: &mut Transaction<'_>) -> Result<Accepted> {
        if self.keys.len() <= 2 && self.keep(tx).await?.is_some() {
            return self.fresh(tx).await;
        }
        match self.known(tx.connection).await? {
            Some((seq, turn)) => {
                self.add_keys(tx.connection, seq).await?;
                Ok(Accepted { turn, fresh: false })
            }
            None => {
                let seq = self.keep(tx).await?.ok_or(Error::Unreadable("turn"))?;
                self.add_keys(tx.connection, seq).await?;
                self.fresh(tx).await
            }
        }
    }

    async fn fresh(&self, tx: &mut Transaction<'_>) -> Result<Accepted> {
        if let Some(echo) = &self.arrival.echo {
            append(tx, &self.arrival.tenant, echo).await?;
        }
        tx.agenda.add(tx.now);
        Ok(Accepted { turn: self.arrival.message.id, fresh: true })
    }

    /// The new turn, unless one of its first two keys is known.
    async fn keep(&self, tx: &mut Transaction<'_>) -> Result<Option<i64>> {
        let message = &self.arrival.message;
        let key = |n: usize| self.keys.get(n).map(|key| key.as_bytes().as_slice());
        let rows = sql::query(KEEP)
            .bind(self.arrival.tenant.as_str())
            .bind(message.channel.as_str())
            .bind(self.conversation.as_bytes().as_slice())
            .bind(tx.now.0)
            .bind(message.id.as_bytes().as_slice())
            .bind(message.received.0)
            .bind(self.body.as_bytes())
            .bind(key(0))
            .bind(key(1))
            .bind(&self.arrival.lane)
            .fetch_all(&mut *tx.connection)
            .await?;
        rows.first().map(|row| row::get(row, "seq")).transpose()
    }

    /// The oldest turn that one of the keys belongs to.
    async fn known(&self, connection: &mut Connection) -> Result<Option<(i64, TurnId)>> {
        let mut oldest: Option<(i64, TurnId)> = None;
        for key in &self.keys {
            let found = sql::query(
                "SELECT turns.seq, turns.id FROM dedupe JOIN turns ON turns.seq = dedupe.turn
                 WHERE dedupe.tenant = $1 AND dedupe.channel = $2 AND dedupe.key = $3",
            )
            .bind(self.arrival.tenant.as_str())
            .bind(self.arrival.message.channel.as_str())
            .bind(key.as_bytes().as_slice())
            .fetch_optional(&mut *connection)
            .await?;
            let Some(row) = found else { continue };
            let found = (row::get(&row, "seq")?, TurnId::from_bytes(row::id(&row, "id")?));
            oldest = Some(oldest.map_or(found, |oldest| if found.0 < oldest.0 { found } else { oldest }));
        }
        Ok(oldest)
    }

    async fn add_keys(&self, connection: &mut Connection, turn: i64) -> Result<()> {
        let whose = (&self.arrival.tenant, &self.arrival.message.channel);
        add_keys(connection, whose, &self.keys, turn).await
    }
}

/// Makes these keys the turn's, those that are nobody's yet.
pub(crate) async fn add_keys(
    connection: &mut Connection,
    (tenant, channel): (&TenantId, &ChannelId),
    keys: &[Digest],
    turn: i64,
) -> Result<()> {
    for key in keys {
        sql::query(
            "INSERT INTO dedupe (tenant, channel, key, turn) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .bind(key.as_bytes().as_slice())
        .bind(turn)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
