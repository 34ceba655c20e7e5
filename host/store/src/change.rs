//! Messages that change while they wait: an edit amends one that nobody has begun, a deletion withdraws it.
//!
//! Where work has begun, it stays as it was: what an agent was asked and what was paid for it are one thing with
//! the text that it read. A message counts as begun while its conversation is held for it, once a host call is
//! journaled for it, and once its answer is kept; a chosen agent alone is chosen again.

use chela_types::{ChannelId, Digest, Key, TenantId};

use crate::inbox::{Kept, dedupe_digest};
use crate::row::{self, to_json};
use crate::sql::{self, Row};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// What happened to a message on its platform.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose it is.
    pub tenant: TenantId,
    /// The channel account.
    pub channel: ChannelId,
    /// Keys of the event that tells of it. Not empty.
    pub dedupe: Vec<Key>,
    /// One of the keys under which the message came.
    pub post: Key,
    /// Who wrote the message, as the event says.
    pub sender: String,
    /// The new text; `None`: the message was deleted.
    pub text: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The message has the new text.
    Amended,
    /// The message is gone, and gets no answer.
    Withdrawn,
    /// The event was told before.
    Known,
    /// No such message came.
    Unknown,
    /// The message is somebody else's.
    Foreign,
    /// It is being answered or was.
    Late,
}

impl Changed {
    /// A short word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Amended => "amended",
            Self::Withdrawn => "withdrawn",
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Foreign => "foreign",
            Self::Late => "late",
        }
    }
}

impl Store {
    /// Applies changes in order, in one transaction; each gets its own answer.
    ///
    /// # Errors
    /// Nothing is changed then: [`Error::Invalid`] without a dedupe key, or those of the disk.
    pub async fn change(&self, changes: Vec<Change>) -> Result<Vec<Changed>> {
        if changes.iter().any(|change| change.dedupe.is_empty()) {
            return Err(Error::Invalid("a change without a dedupe key cannot be told from its repetition"));
        }
        self.commit(Apply(changes)).await
    }
}

struct Apply(Vec<Change>);

impl Operation for Apply {
    type Output = Vec<Changed>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let mut changed = Vec::with_capacity(self.0.len());
        for change in &self.0 {
            changed.push(change.apply(tx).await?);
        }
        Ok(changed)
    }
}

/// The message of a key, and whether it still waits to be begun.
pub(crate) const FIND: &str = "
    SELECT t.seq, t.conversation, m.body AS message,
        t.state = 'open' AND (c.holder IS NULL OR c.head IS NOT t.seq)
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE turn = t.seq)
            AND NOT EXISTS (SELECT 1 FROM journal WHERE turn = t.seq AND seq > 0) AS waits
    FROM dedupe AS d JOIN turns AS t ON t.seq = d.turn JOIN conversations AS c ON c.id = t.conversation
    LEFT JOIN contents AS m ON m.turn = t.seq AND m.part = 0
    WHERE d.tenant = $1 AND d.channel = $2 AND d.key = $3";

impl Change {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Changed> {
        for key in &self.dedupe {
            if self.find(tx, key).await?.is_some() {
                return Ok(Changed::Known);
            }
        }
        let Some(found) = self.find(tx, &self.post).await? else { return Ok(Changed::Unknown) };
        let Some(kept) = row::json::<Kept>(&found, "message")? else { return Ok(Changed::Late) };
        if kept.message.sender.id != self.sender {
            return Ok(Changed::Foreign);
        }
        let turn: i64 = row::get(&found, "seq")?;
        self.remember(tx, turn).await?;
        if !row::get::<bool>(&found, "waits")? {
            return Ok(Changed::Late);
        }
        match &self.text {
            Some(text) => amend(tx, turn, kept, text.clone()).await,
            None => withdraw(tx, turn, row::get(&found, "conversation")?).await,
        }
    }

    async fn find(&self, tx: &mut Transaction<'_>, key: &Key) -> Result<Option<Row>> {
        let found = sql::query(FIND)
            .bind(self.tenant.as_str())
            .bind(self.channel.as_str())
            .bind(dedupe_digest(key).as_bytes().as_slice())
            .fetch_optional(&mut *tx.connection)
            .await?;
        Ok(found)
    }

    /// The event itself is known from now on.
    async fn remember(&self, tx: &mut Transaction<'_>, turn: i64) -> Result<()> {
        let keys: Vec<Digest> = self.dedupe.iter().map(dedupe_digest).collect();
        crate::inbox::add_keys(tx.connection, (&self.tenant, &self.channel), &keys, turn).await
    }
}

/// The new text; which agent it is for, is decided anew.
async fn amend(tx: &mut Transaction<'_>, turn: i64, mut kept: Kept, text: String) -> Result<Changed> {
    kept.message.text = text;
    sql::query(
        "UPDATE contents SET body = $2 WHERE turn = $1 AND part = 0;
         DELETE FROM decisions WHERE turn = $1",
    )
    .bind(turn)
    .bind(to_json("message", &kept)?.into_bytes())
    .execute(&mut *tx.connection)
    .await?;
    Ok(Changed::Amended)
}

/// Closes the turn and forgets what was said. The message stays known, so that telling of it again revives nothing.
/// Its conversation, unless somebody holds it for another message, is due for the next one.
async fn withdraw(tx: &mut Transaction<'_>, turn: i64, conversation: i64) -> Result<Changed> {
    sql::query(
        "UPDATE turns SET state = 'withdrawn', closed_at = $3, outcome = 'withdrawn' WHERE seq = $1;
         DELETE FROM contents WHERE turn = $1;
         DELETE FROM journal WHERE turn = $1;
         DELETE FROM decisions WHERE turn = $1;
         UPDATE conversations SET claimable_at = CASE WHEN EXISTS (
                 SELECT 1 FROM turns INDEXED BY turns_open WHERE conversation = $2 AND state = 'open') THEN $3 END
             WHERE id = $2 AND holder IS NULL",
    )
    .bind(turn)
    .bind(conversation)
    .bind(tx.now.0)
    .execute(&mut *tx.connection)
    .await?;
    tx.agenda.add(tx.now);
    Ok(Changed::Withdrawn)
}
