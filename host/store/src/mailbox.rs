//! The mailbox: a conversation is claimed, with its oldest open turn, under a lease.
//!
//! `claimable_at` says when a conversation may be claimed next: when its head turn is due, or, while somebody
//! holds it, when that lease runs out. So one index finds both, and a lapsed lease needs nobody to clean up.
//! Each claim raises the fencing token, and every later write shows it.

use chela_types::{AgentId, ConversationId, Decision, Message, Millis, OutboxId, Target, TenantId, TurnId};
use sqlx::sqlite::SqliteRow;

use crate::inbox::Kept;
use crate::outbox::Outgoing;
use crate::row::{self, to_json};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// Proof that a conversation is held. Only [`Store::claim`] makes one.
#[derive(Debug, Clone)]
pub struct Lease {
    pub(crate) tenant: TenantId,
    pub(crate) conversation: ConversationId,
    pub(crate) turn: TurnId,
    pub(crate) seq: i64,
    pub(crate) token: i64,
    pub(crate) until: Millis,
}

impl Lease {
    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }
    /// The conversation.
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }
    /// The turn at its head.
    pub fn turn(&self) -> TurnId {
        self.turn
    }
    /// The fencing token: higher with each claim of the conversation.
    pub fn token(&self) -> u64 {
        self.token.unsigned_abs()
    }
    /// Until when it held at the claim; [`Store::renew`] moves that.
    pub fn until(&self) -> Millis {
        self.until
    }
}

/// A conversation that is held now.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Shown at every later write.
    pub lease: Lease,
    /// What is to be done.
    pub turn: Turn,
}

/// A message on its way to an answer.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// What was said.
    pub message: Message,
    /// Where the answer goes.
    pub target: Target,
    /// How far it has come.
    pub stage: Stage,
    /// The agent that answered last in this conversation.
    pub sticky: Option<AgentId>,
    /// Times it failed by a plugin's fault.
    pub tries: u32,
    /// Times the host stopped, or let the lease lapse, in the middle.
    pub crashes: u32,
    /// Times it waited for something outside.
    pub waits: u32,
    /// When it first did.
    pub first_wait: Option<Millis>,
}

/// How far a turn has come.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Nothing is decided.
    Received,
    /// The agent is chosen.
    Decided(Decision),
    /// The answer is kept and waits to be delivered.
    Answered(Outgoing),
}

impl Store {
    /// Claims conversations that are due, longest due first, at most `limit`. Await it to its end: a claim
    /// whose caller is gone holds until its lease lapses.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn claim(&self, owner: &str, limit: usize) -> Result<Vec<Claimed>> {
        let lease = self.inner.config.lease;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.commit(Claim { owner: owner.to_owned(), limit, lease }).await
    }

    /// When the next conversation may be claimed; past if one may be now.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn next_due(&self) -> Result<Option<Millis>> {
        self.read(async |connection| {
            let next: Option<i64> = sqlx::query_scalar(
                "SELECT min(claimable_at) FROM conversations WHERE claimable_at IS NOT NULL",
            )
            .fetch_one(connection)
            .await?;
            Ok(next.map(Millis))
        })
        .await
    }

    /// Makes leases hold anew from now; each gets its own answer: until when, or [`Error::Fenced`].
    pub async fn renew(&self, leases: &[Lease]) -> Vec<Result<Millis>> {
        let operation = Renew { leases: leases.to_vec(), lease: self.inner.config.lease };
        match self.commit(operation).await {
            Ok(answers) => answers,
            Err(error) => leases.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Gives a conversation back as it is; it is due at once. An answer that was being sent becomes ambiguous.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        self.commit(Release(lease.clone())).await
    }

    /// The agent that answered last in a conversation.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn sticky(&self, conversation: ConversationId) -> Result<Option<AgentId>> {
        self.read(async |connection| {
            let row = sqlx::query("SELECT sticky FROM conversations WHERE id = $1")
                .bind(conversation.0)
                .fetch_optional(connection)
                .await?;
            row.map_or(Ok(None), |row| row::maybe_name(&row, "sticky"))
        })
        .await
    }
}

impl Transaction<'_> {
    /// Refuses unless the lease is current. The first thing that every write under a lease does.
    pub(crate) async fn fence(&mut self, lease: &Lease) -> Result<()> {
        let held: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM conversations
             WHERE id = $1 AND token = $2 AND holder IS NOT NULL AND claimable_at > $3",
        )
        .bind(lease.conversation.0)
        .bind(lease.token)
        .bind(self.now.0)
        .fetch_optional(&mut *self.connection)
        .await?;
        held.map(|_| ()).ok_or(Error::Fenced(lease.conversation))
    }
}

struct Claim {
    owner: String,
    limit: i64,
    lease: std::time::Duration,
}

impl Operation for Claim {
    type Output = Vec<Claimed>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let due: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM conversations WHERE claimable_at <= $1 ORDER BY claimable_at LIMIT $2",
        )
        .bind(tx.now.0)
        .bind(self.limit)
        .fetch_all(&mut *tx.connection)
        .await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let until = tx.now.plus(self.lease);
        let rows = sqlx::query(CLAIM)
            .bind(to_json("conversation", &due)?)
            .bind(&self.owner)
            .bind(until.0)
            .bind(tx.now.0)
            .fetch_all(&mut *tx.connection)
            .await?;
        rows.iter().map(|row| claimed(row, until)).collect()
    }
}

/// A lease that lapsed counts as a crash, and what it was sending is ambiguous. A conversation without an open
/// turn has nothing to claim.
const CLAIM: &str = "
    UPDATE turns SET crashes = crashes + 1 WHERE seq IN (
        SELECT (SELECT min(seq) FROM turns WHERE conversation = c.id AND state = 'open')
        FROM json_each($1) AS due JOIN conversations AS c ON c.id = due.value WHERE c.holder IS NOT NULL);
    UPDATE outbox SET status = 'kept', ambiguous = ambiguous + 1 WHERE status = 'sending' AND turn IN (
        SELECT (SELECT min(seq) FROM turns WHERE conversation = due.value AND state = 'open')
        FROM json_each($1) AS due);
    UPDATE conversations SET token = token + 1, holder = $2, claimable_at = $3
        WHERE id IN (SELECT value FROM json_each($1));
    UPDATE turns SET claimed_at = $4 WHERE claimed_at IS NULL AND seq IN (
        SELECT (SELECT min(seq) FROM turns WHERE conversation = due.value AND state = 'open')
        FROM json_each($1) AS due);
    SELECT c.token, c.sticky, t.seq, t.id, t.conversation, t.tenant, t.tries, t.crashes, t.waits, t.first_wait_at,
        (SELECT body FROM contents WHERE turn = t.seq AND part = 0) AS message,
        (SELECT body FROM contents WHERE turn = t.seq AND part = 1) AS reply,
        (SELECT body FROM decisions WHERE turn = t.seq ORDER BY n DESC LIMIT 1) AS decision,
        o.id AS outgoing, o.agent, o.notice, o.step, o.ambiguous, o.tries AS sends
    FROM json_each($1) AS due JOIN conversations AS c ON c.id = due.value
    JOIN turns AS t ON t.seq = (SELECT min(seq) FROM turns WHERE conversation = c.id AND state = 'open')
    LEFT JOIN outbox AS o ON o.turn = t.seq ORDER BY due.key";

fn claimed(row: &SqliteRow, until: Millis) -> Result<Claimed> {
    let kept: Kept = row::json(row, "message")?.ok_or(Error::Unreadable("message"))?;
    let tenant: TenantId = row::name(row, "tenant")?;
    let conversation = ConversationId(row::get(row, "conversation")?);
    let lease = Lease {
        tenant: tenant.clone(),
        conversation,
        turn: TurnId::from_bytes(row::id(row, "id")?),
        seq: row::get(row, "seq")?,
        token: row::get(row, "token")?,
        until,
    };
    let turn = Turn {
        tenant,
        conversation,
        message: kept.message,
        target: kept.target,
        stage: stage(row)?,
        sticky: row::maybe_name(row, "sticky")?,
        tries: row::count(row, "tries")?,
        crashes: row::count(row, "crashes")?,
        waits: row::count(row, "waits")?,
        first_wait: row::time(row, "first_wait_at")?,
    };
    Ok(Claimed { lease, turn })
}

fn stage(row: &SqliteRow) -> Result<Stage> {
    if row::get::<Option<&[u8]>>(row, "outgoing")?.is_some() {
        return Ok(Stage::Answered(Outgoing {
            id: OutboxId::from_bytes(row::id(row, "outgoing")?),
            agent: row::name(row, "agent")?,
            reply: row::json(row, "reply")?.ok_or(Error::Unreadable("reply"))?,
            notice: row::get(row, "notice")?,
            state: row::get(row, "step")?,
            ambiguous: row::get::<i64>(row, "ambiguous")? > 0,
            tries: row::count(row, "sends")?,
        }));
    }
    Ok(row::json(row, "decision")?.map_or(Stage::Received, Stage::Decided))
}

struct Renew {
    leases: Vec<Lease>,
    lease: std::time::Duration,
}

impl Operation for Renew {
    type Output = Vec<Result<Millis>>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let until = tx.now.plus(self.lease);
        let mut answers = Vec::with_capacity(self.leases.len());
        for lease in &self.leases {
            let renewed = sqlx::query(
                "UPDATE conversations SET claimable_at = $4
                 WHERE id = $1 AND token = $2 AND holder IS NOT NULL AND claimable_at > $3",
            )
            .bind(lease.conversation.0)
            .bind(lease.token)
            .bind(tx.now.0)
            .bind(until.0)
            .execute(&mut *tx.connection)
            .await?;
            answers.push(match renewed.rows_affected() {
                0 => {
                    metrics::counter!("fenced_writes_total").increment(1);
                    Err(Error::Fenced(lease.conversation))
                }
                _ => Ok(until),
            });
        }
        Ok(answers)
    }
}

struct Release(Lease);

impl Operation for Release {
    type Output = ();
    const WAKES: bool = true;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.0).await?;
        sqlx::query(
            "UPDATE outbox SET status = 'kept', ambiguous = ambiguous + 1 WHERE turn = $2 AND status = 'sending';
             UPDATE conversations SET holder = NULL, claimable_at = $3 WHERE id = $1",
        )
        .bind(self.0.conversation.0)
        .bind(self.0.seq)
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}

/// A host that stops in order gives everything back; nothing of it counts as a crash.
pub(crate) struct GiveBackAll;

impl Operation for GiveBackAll {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        sqlx::query(
            "UPDATE conversations SET holder = NULL, claimable_at = $1, token = token + 1
             WHERE claimable_at IS NOT NULL AND holder IS NOT NULL",
        )
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}
