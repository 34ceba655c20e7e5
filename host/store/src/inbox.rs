//! The inbox: what came in, once. A message is kept and its turn waits in its conversation's mailbox, or one of
//! its keys is known and it is the same post told again.

use chela_types::{ChannelId, Digest, Identity, Key, Message, Target, TenantId, TurnId};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use crate::row::{self, to_json};
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
    /// JSON array of hex digests.
    keys: String,
    body: String,
}

impl Prepared {
    fn new(arrival: Arrival) -> Result<Self> {
        if arrival.identity.dedupe.is_empty() {
            return Err(Error::Invalid("a message without a dedupe key cannot be kept"));
        }
        let target = Target { bound: arrival.identity.target.clone(), notes: arrival.notes.clone() };
        let keys: Vec<Digest> =
            arrival.identity.dedupe.iter().map(|key| digest("chela dedupe key", key)).collect();
        Ok(Self {
            conversation: digest("chela conversation key", &arrival.identity.conversation),
            keys: to_json("dedupe key", &keys)?,
            body: to_json("message", &Kept { message: arrival.message.clone(), target })?,
            arrival,
        })
    }
}

/// Platforms' keys have any length and content; a digest has one.
fn digest(domain: &str, key: &Key) -> Digest {
    let parts: Vec<&[u8]> = key.iter().map(|part| part.as_bytes()).collect();
    Digest::of(domain, &parts)
}

struct Accept(Vec<Prepared>);

impl Operation for Accept {
    type Output = Vec<Accepted>;
    const WAKES: bool = true;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let mut accepted = Vec::with_capacity(self.0.len());
        for prepared in &self.0 {
            let arrival = &prepared.arrival;
            let channel = &arrival.message.channel;
            let known = known(tx.connection, &arrival.tenant, channel, &prepared.keys).await?;
            let fresh = known.is_none();
            let (seq, turn) = match known {
                Some(known) => known,
                None => (keep(tx, prepared).await?, arrival.message.id),
            };
            add_keys(tx.connection, arrival, &prepared.keys, seq).await?;
            if fresh && let Some(echo) = &arrival.echo {
                append(tx, &arrival.tenant, echo).await?;
            }
            accepted.push(Accepted { turn, fresh });
        }
        Ok(accepted)
    }
}

/// The oldest turn that one of the keys belongs to.
async fn known(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    channel: &ChannelId,
    keys: &str,
) -> Result<Option<(i64, TurnId)>> {
    let found = sqlx::query(
        "SELECT turns.seq, turns.id FROM json_each($3) AS given
         JOIN dedupe ON dedupe.tenant = $1 AND dedupe.channel = $2 AND dedupe.key = unhex(given.value)
         JOIN turns ON turns.seq = dedupe.turn ORDER BY turns.seq LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(channel.as_str())
    .bind(keys)
    .fetch_optional(connection)
    .await?;
    found.map(|row| Ok((row::get(&row, "seq")?, TurnId::from_bytes(row::id(&row, "id")?)))).transpose()
}

/// A new turn at the end of its conversation's mailbox.
async fn keep(tx: &mut Transaction<'_>, prepared: &Prepared) -> Result<i64> {
    let message = &prepared.arrival.message;
    let rows = sqlx::query(
        "INSERT INTO conversations (tenant, channel, key, claimable_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO UPDATE SET claimable_at = coalesce(claimable_at, excluded.claimable_at);
         INSERT INTO turns (id, conversation, tenant, channel, received_at)
             SELECT $5, id, $1, $2, $6 FROM conversations WHERE tenant = $1 AND channel = $2 AND key = $3
             RETURNING seq;
         INSERT INTO contents (turn, part, n, body) VALUES (last_insert_rowid(), 0, 0, $7)",
    )
    .bind(prepared.arrival.tenant.as_str())
    .bind(message.channel.as_str())
    .bind(prepared.conversation.as_bytes().as_slice())
    .bind(tx.now.0)
    .bind(message.id.as_bytes().as_slice())
    .bind(message.received.0)
    .bind(prepared.body.as_bytes())
    .fetch_all(&mut *tx.connection)
    .await?;
    rows.first().map(|row| row.try_get(0)).transpose()?.ok_or(Error::Unreadable("turn"))
}

async fn add_keys(connection: &mut SqliteConnection, arrival: &Arrival, keys: &str, turn: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO dedupe (tenant, channel, key, turn)
         SELECT $1, $2, unhex(value), $3 FROM json_each($4) WHERE true ON CONFLICT DO NOTHING",
    )
    .bind(arrival.tenant.as_str())
    .bind(arrival.message.channel.as_str())
    .bind(turn)
    .bind(keys)
    .execute(connection)
    .await?;
    Ok(())
}
