//! The outbox: an answer is kept before a byte of it is sent, and each send says so first.
//!
//! One answer for each turn: the first that was kept stands. Between `sending` and what follows it nobody can
//! know whether the platform has the message; whatever leaves that window without an outcome (a crash, a lost
//! lease, a failure) is counted as *ambiguous*.

use chela_types::{AgentId, Digest, Millis, OutboxId, Reply, Target, TurnId};

use crate::inbox::Kept;
use crate::mailbox::{Lease, held};
use crate::row::{self, to_json};
use crate::sql::{self, Row};
use crate::stream::{StreamEvent, append};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// What an agent answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which agent.
    pub agent: AgentId,
    /// What.
    pub reply: Reply,
    /// How the turn ended (`reply`, `escalate`, `resolved` …), for the record.
    pub outcome: String,
    /// The host's own words (a refusal, an apology), not the agent's.
    pub notice: bool,
    /// In which lane the conversation waits from now on, if in another.
    pub lane: Option<String>,
}

/// An answer on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id, for platforms that know idempotency keys.
    pub id: OutboxId,
    /// Which agent.
    pub agent: AgentId,
    /// What.
    pub reply: Reply,
    /// The host's own words.
    pub notice: bool,
    /// The adapter's state after the last request that was answered.
    pub state: Option<String>,
    /// Earlier sends that may have arrived.
    pub ambiguous: u32,
    /// Requests that were begun.
    pub requests: u32,
    /// When it was kept.
    pub kept: Millis,
    /// The adapter's version that began to send it: `state` is its own.
    pub adapter: Option<Digest>,
}

impl Outgoing {
    /// The adapter's version that has come as far as `state`.
    pub fn begun_by(&self) -> Option<Digest> {
        self.adapter.filter(|_| self.state.is_some())
    }
}

impl Store {
    /// Keeps the answer; from here on the turn only needs delivery. If one is kept already, that one stands and
    /// is returned.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn answered(&self, lease: &Lease, answer: Answer) -> Result<Outgoing> {
        let body = to_json("reply", &answer.reply)?;
        let operation = Answered { lease: lease.clone(), id: OutboxId::new(), answer, body, dying: None };
        self.commit(operation).await
    }

    /// Says that bytes are about to leave; `state` is what the adapter wants back with the response. `adapter` is the
    /// version that sends; `None` leaves the one that is kept.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk. Nothing may be sent then.
    pub async fn sending(
        &self,
        lease: &Lease,
        id: OutboxId,
        state: Option<String>,
        adapter: Option<Digest>,
    ) -> Result<()> {
        self.commit(Step { lease: lease.clone(), id, state, adapter, status: "sending" }).await
    }

    /// Says that an edit is about to leave: one that is made again changes nothing, so that its outcome is never
    /// ambiguous and nobody waits for this.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn editing_behind(&self, lease: &Lease, id: OutboxId, state: Option<String>) -> Result<()> {
        self.behind(Step { lease: lease.clone(), id, state, adapter: None, status: "editing" }).await
    }

    /// Says that a request was answered and the adapter wants another. Not awaited: the next `sending` or
    /// `delivered` carries it to the disk.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`].
    pub async fn step_sent_behind(&self, lease: &Lease, id: OutboxId, state: Option<String>) -> Result<()> {
        self.behind(Step { lease: lease.clone(), id, state, adapter: None, status: "sent" }).await
    }

    /// Closes the turn (as dead, if this was a dead letter's notice) and frees the conversation.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn delivered(&self, lease: &Lease, id: OutboxId, platform_id: Option<String>) -> Result<()> {
        let operation = Delivered { platform_id, ..Delivered::new(lease, id) };
        self.commit(operation).await.map(|_| ())
    }

    /// The same of an answer that became the response to the platform's own request.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn delivered_in_response(&self, lease: &Lease, id: OutboxId) -> Result<()> {
        let operation = Delivered { in_response: true, ..Delivered::new(lease, id) };
        self.commit(operation).await.map(|_| ())
    }

    /// The answer of a turn, if it became the response to the platform's own request: for a platform that asks again.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn answer_in_response(&self, turn: TurnId) -> Result<Option<(Outgoing, Target)>> {
        self.read(async |connection| {
            let row =
                sql::query(IN_RESPONSE).bind(turn.as_bytes().as_slice()).fetch_optional(connection).await?;
            let Some(row) = row else { return Ok(None) };
            let Some(kept) = row::json::<Kept>(&row, "message")? else { return Ok(None) };
            Ok(Some((outgoing(&row)?, kept.target)))
        })
        .await
    }

    /// Delivery to a stream that the host itself serves: the event and the turn's end are one transaction.
    /// Returns the event's number.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn delivered_to_stream(&self, lease: &Lease, id: OutboxId, event: StreamEvent) -> Result<u64> {
        let operation = Delivered { event: Some(event), ..Delivered::new(lease, id) };
        self.commit(operation).await?.ok_or(Error::Unreadable("stream event"))
    }

    /// Closes the turn: its answer will never be delivered. One that is still marked as being sent is ambiguous.
    ///
    /// # Errors
    /// [`Error::Fenced`], or those of the disk.
    pub async fn give_up_delivery(&self, lease: &Lease, id: OutboxId, reason: &str) -> Result<()> {
        self.commit(GiveUp { lease: lease.clone(), id, reason: reason.to_owned() }).await
    }
}

/// Ends a turn in state `$5` (as dead, if it was dying) and frees its conversation for the next one; does
/// nothing if the statement before it did nothing.
macro_rules! close {
    () => {
        "UPDATE turns SET state = CASE WHEN dying IS NULL THEN $5 ELSE 'dead' END, closed_at = $3
             WHERE seq = $4 AND changes() = 1;
         UPDATE conversations SET holder = NULL, claimable_at = CASE WHEN EXISTS (
                 SELECT 1 FROM turns INDEXED BY turns_open WHERE conversation = $1 AND state = 'open') THEN $3 END
             WHERE id = $1 AND changes() = 1 RETURNING claimable_at"
    };
}

pub(crate) struct Answered {
    pub(crate) lease: Lease,
    pub(crate) id: OutboxId,
    pub(crate) answer: Answer,
    pub(crate) body: String,
    /// Reason and blame of the dead letter whose notice this is.
    pub(crate) dying: Option<(String, String)>,
}

impl Operation for Answered {
    type Output = Outgoing;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Outgoing> {
        let (reason, blame) = self.dying.clone().unzip();
        let written = tx
            .under(&self.lease, ANSWER)
            .bind(self.id.as_bytes().as_slice())
            .bind(self.answer.agent.as_str())
            .bind(self.answer.notice)
            .bind(self.body.as_bytes())
            .bind(&self.answer.outcome)
            .bind(reason)
            .bind(blame)
            .bind(self.answer.lane.as_deref())
            .execute(&mut *tx.connection)
            .await?;
        if written == 0 {
            tx.fence(&self.lease).await?;
            return standing(tx, &self.lease).await?.ok_or(Error::Unreadable("answer"));
        }
        Ok(Outgoing {
            id: self.id,
            agent: self.answer.agent.clone(),
            reply: self.answer.reply.clone(),
            notice: self.answer.notice,
            state: None,
            ambiguous: 0,
            requests: 0,
            kept: tx.now,
            adapter: None,
        })
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

/// Each statement goes on only if the one before it changed a row.
pub(crate) const ANSWER: &str = concat!(
    "INSERT INTO outbox (turn, id, agent, notice, kept_at)
         SELECT $4, $5, $6, $7, $3 FROM conversations WHERE ",
    held!(),
    " ON CONFLICT DO NOTHING;
     INSERT INTO contents (turn, part, n, body) SELECT $4, 1, 0, $8 WHERE changes() = 1;
     UPDATE turns SET outcome = $9, dying = $10, last_error = coalesce($10, last_error),
         last_blame = coalesce($11, last_blame) WHERE seq = $4 AND changes() = 1;
     UPDATE conversations SET sticky = $6, lane = coalesce($12, lane)
         WHERE id = $1 AND NOT $7 AND (sticky IS NOT $6 OR lane <> coalesce($12, lane)) AND changes() = 1",
);

/// The answer that is kept already.
pub(crate) async fn standing(tx: &mut Transaction<'_>, lease: &Lease) -> Result<Option<Outgoing>> {
    let row = sql::query(
        "SELECT o.*, o.id AS outgoing, (SELECT body FROM contents WHERE turn = o.turn AND part = 1) AS reply
         FROM outbox AS o WHERE turn = $1",
    )
    .bind(lease.seq)
    .fetch_optional(&mut *tx.connection)
    .await?;
    row.map(|row| outgoing(&row)).transpose()
}

pub(crate) const IN_RESPONSE: &str = "
    SELECT o.*, o.id AS outgoing, (SELECT body FROM contents WHERE turn = o.turn AND part = 1) AS reply,
        (SELECT body FROM contents WHERE turn = o.turn AND part = 0) AS message
    FROM turns AS t JOIN outbox AS o ON o.turn = t.seq WHERE t.id = $1 AND o.in_response AND reply IS NOT NULL";

/// From the outbox's columns, the id as `outgoing` and the contents as `reply`.
pub(crate) fn outgoing(row: &Row) -> Result<Outgoing> {
    Ok(Outgoing {
        id: OutboxId::from_bytes(row::id(row, "outgoing")?),
        agent: row::name(row, "agent")?,
        reply: row::json(row, "reply")?.ok_or(Error::Unreadable("reply"))?,
        notice: row::get(row, "notice")?,
        state: row::get(row, "step")?,
        ambiguous: row::count(row, "ambiguous")?,
        requests: row::count(row, "requests")?,
        kept: Millis(row::get(row, "kept_at")?),
        adapter: row::maybe_digest(row, "adapter")?,
    })
}

struct Step {
    lease: Lease,
    id: OutboxId,
    state: Option<String>,
    adapter: Option<Digest>,
    status: &'static str,
}

impl Operation for Step {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let written = tx
            .under(&self.lease, STEP)
            .bind(self.id.as_bytes().as_slice())
            .bind(self.status)
            .bind(&self.state)
            .bind(self.adapter.map(|adapter| adapter.as_bytes().to_vec()))
            .execute(&mut *tx.connection)
            .await?;
        if written == 0 { Err(tx.refusal(&self.lease, NO_ANSWER).await) } else { Ok(()) }
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

pub(crate) const STEP: &str = concat!(
    "UPDATE outbox SET status = $6, step = $7, adapter = coalesce($8, adapter), sending_at = coalesce(sending_at, $3),
         requests = requests + ($6 IN ('sending', 'editing'))
     WHERE turn = $4 AND id = $5 AND EXISTS (SELECT 1 FROM conversations WHERE ",
    held!(),
    ")",
);

const NO_ANSWER: Error = Error::Invalid("the turn has no such answer");

struct Delivered {
    lease: Lease,
    id: OutboxId,
    platform_id: Option<String>,
    in_response: bool,
    event: Option<StreamEvent>,
}

impl Delivered {
    fn new(lease: &Lease, id: OutboxId) -> Self {
        Self { lease: lease.clone(), id, platform_id: None, in_response: false, event: None }
    }
}

impl Operation for Delivered {
    type Output = Option<u64>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Option<u64>> {
        let freed = tx
            .under(&self.lease, DELIVER)
            .bind("delivered")
            .bind(self.id.as_bytes().as_slice())
            .bind(&self.platform_id)
            .bind(self.in_response)
            .fetch_all(&mut *tx.connection)
            .await?;
        if freed.is_empty() {
            return Err(tx.refusal(&self.lease, NO_ANSWER).await);
        }
        next_is_due(tx, &freed)?;
        match &self.event {
            Some(event) => append(tx, &self.lease.tenant, event).await.map(Some),
            None => Ok(None),
        }
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

pub(crate) const DELIVER: &str = concat!(
    "UPDATE outbox SET status = $5, step = NULL, platform_id = $7, in_response = $8,
         sending_at = coalesce(sending_at, $3)
     WHERE turn = $4 AND id = $6 AND EXISTS (SELECT 1 FROM conversations WHERE ",
    held!(),
    ");",
    close!(),
);

struct GiveUp {
    lease: Lease,
    id: OutboxId,
    reason: String,
}

impl Operation for GiveUp {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.lease).await?;
        let written = sql::query(
            "UPDATE turns SET last_error = $3
                 WHERE seq = $1 AND EXISTS (SELECT 1 FROM outbox WHERE turn = $1 AND id = $2);
             UPDATE outbox SET status = 'undelivered', step = NULL, ambiguous = ambiguous + (status = 'sending')
                 WHERE turn = $1 AND id = $2",
        )
        .bind(self.lease.seq)
        .bind(self.id.as_bytes().as_slice())
        .bind(&self.reason)
        .execute(&mut *tx.connection)
        .await?;
        if written == 0 {
            return Err(NO_ANSWER);
        }
        close(tx, &self.lease, "undelivered").await
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

/// Ends a turn (as dead, if it was dying) and frees its conversation for the next one.
pub(crate) async fn close(tx: &mut Transaction<'_>, lease: &Lease, state: &str) -> Result<()> {
    let freed = tx.under(lease, CLOSE).bind(state).fetch_all(&mut *tx.connection).await?;
    next_is_due(tx, &freed)
}

/// The first statement is there to change a row: `close!` does nothing otherwise.
pub(crate) const CLOSE: &str = concat!("UPDATE turns SET closed_at = NULL WHERE seq = $4;", close!());

/// The row that `close!` returns: the conversation's next turn may be claimed at once, if there is one.
fn next_is_due(tx: &mut Transaction<'_>, freed: &[Row]) -> Result<()> {
    let row = freed.first().ok_or(Error::Unreadable("conversation"))?;
    if row::time(row, "claimable_at")?.is_some() {
        tx.agenda.add(tx.now);
    }
    Ok(())
}
