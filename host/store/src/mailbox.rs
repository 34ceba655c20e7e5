//! The mailbox: a conversation is claimed, with its oldest open turn, under a lease.
//!
//! `claimable_at` says when a conversation may be claimed next: when its head turn is due, or, while somebody
//! holds it, when that lease runs out. So one index finds both, and a lapsed lease needs nobody to clean up.
//! Each claim raises the fencing token, and every later write shows it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chela_types::{AgentId, ConversationId, Decision, Fault, Message, Millis, Target, TenantId, TurnId};
use tokio::sync::oneshot;

use crate::inbox::Kept;
use crate::outbox::{self, Outgoing};
use crate::progress::{self, Progress};
use crate::row::{self, to_json};
use crate::share::Shares;
use crate::sql::{self, Query, Row};
use crate::writer::{Caller, Due, Operation, Pending, Transaction, Work};
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
    lane: Arc<str>,
    /// No earlier turn is in the conversation.
    pub(crate) first: bool,
    /// Nothing has been journaled for the turn; the lease's clones share it.
    unwritten: Arc<AtomicBool>,
}

impl Lease {
    /// Says that something is about to be journaled.
    pub(crate) fn touch_journal(&self) {
        self.unwritten.store(false, Ordering::Release);
    }
    /// True if the turn's journal is known to be empty: this is its first lease, and nothing was sent under it.
    pub(crate) fn has_no_journal(&self) -> bool {
        self.unwritten.load(Ordering::Acquire)
    }
    /// The lane in which its conversation waited.
    pub(crate) fn lane(&self) -> &str {
        &self.lane
    }
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
    /// A post that shows the answer while it is made, if one was begun.
    pub progress: Option<Progress>,
    /// The agent that answered last in this conversation.
    pub sticky: Option<AgentId>,
    /// Times it failed by a plugin's fault, in this stage: before its answer was kept, or since.
    pub tries: u32,
    /// Times the host stopped, or let the lease lapse, in the middle of this stage.
    pub crashes: u32,
    /// Times it waited for something outside, in this stage.
    pub waits: u32,
    /// When it first did, in this stage.
    pub first_wait: Option<Millis>,
    /// The lane in which its conversation waited.
    pub lane: String,
}

/// What was claimed.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The conversations.
    pub claimed: Vec<Claimed>,
    /// Something is due, and waits for turns of its own lane to end.
    pub held_back: bool,
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
    /// Claims conversations that are due, those that are longest due, at most `limit`; the oldest message is
    /// the first of them. Await it to its end: a claim whose caller is gone holds until its lease lapses.
    /// Costs nothing if nothing is due. A conversation whose turn cannot be read back is parked for some minutes,
    /// and harms no other.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn claim(&self, owner: &str, limit: usize) -> Result<Vec<Claimed>> {
        Ok(self.claim_fairly(owner, move || (limit, Shares::default())).await?.claimed)
    }

    /// The same among lanes: who has least for his weight comes first, and in each lane who is longest due. How many at
    /// most, and who has what, is asked when the claim is made.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn claim_fairly(
        &self,
        owner: &str,
        free: impl Fn() -> (usize, Shares) + Send + Sync + 'static,
    ) -> Result<Claims> {
        if self.inner.work.due.get() > self.inner.clock.now() {
            return Ok(Claims::default());
        }
        self.commit(self.to_claim(owner, free)).await
    }

    /// The same as soon as something becomes due, once, and in the commit that makes it so: a message that comes is
    /// claimed where it is kept. What is due already is not looked for, nor what time alone brings. One can wait at a
    /// time.
    pub fn claim_when_due(
        &self,
        owner: &str,
        free: impl Fn() -> (usize, Shares) + Send + Sync + 'static,
    ) -> Claiming {
        let (caller, answer) = oneshot::channel();
        let claim = Pending::new(self.to_claim(owner, free), Caller::Waits(caller), None);
        self.inner.work.beside.put(claim);
        Claiming { work: Arc::clone(&self.inner.work), answer }
    }

    fn to_claim<F>(&self, owner: &str, free: F) -> Claim<F> {
        let holder = format!("{owner} {}", self.inner.claims.fetch_add(1, Ordering::Relaxed));
        Claim { holder, free, lease: self.inner.config.lease }
    }

    /// When the next conversation may be claimed; past if one may be now. Never too late; too early at times,
    /// if the one that was next was renewed or put off, until the next claim looks again.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn next_due(&self) -> Result<Option<Millis>> {
        match self.inner.work.due.get() {
            Due::UNKNOWN => {}
            Due::NEVER => return Ok(None),
            next => return Ok(Some(next)),
        }
        self.read(async |connection| {
            let next: Option<i64> =
                sql::query("SELECT min(claimable_at) FROM conversations WHERE claimable_at IS NOT NULL")
                    .fetch_value(connection)
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
            let row = sql::query("SELECT sticky FROM conversations WHERE id = $1")
                .bind(conversation.0)
                .fetch_optional(connection)
                .await?;
            row.map_or(Ok(None), |row| row::maybe_name(&row, "sticky"))
        })
        .await
    }
}

/// The condition under which a write goes through: the lease is current. Every write under a lease has it in
/// its first statement, `FROM conversations WHERE …` or `EXISTS (…)`, and [`Transaction::under`] binds its
/// first four arguments: conversation, token, time, and the turn's number (`$4`).
macro_rules! held {
    () => {
        "id = $1 AND token = $2 AND holder IS NOT NULL AND claimable_at > $3"
    };
}
pub(crate) use held;

impl Transaction<'_> {
    /// A query that has [`held`] in it.
    pub(crate) fn under<'a>(&self, lease: &Lease, sql: &'static str) -> Query<'a> {
        sql::query(sql).bind(lease.conversation.0).bind(lease.token).bind(self.now.0).bind(lease.seq)
    }

    /// Refuses unless the lease is current: for operations of several queries, and to find out why a query
    /// with [`held`] did nothing.
    pub(crate) async fn fence(&mut self, lease: &Lease) -> Result<()> {
        let held = self
            .under(lease, concat!("SELECT 1 FROM conversations WHERE ", held!()))
            .fetch_optional(&mut *self.connection)
            .await?;
        held.map(|_| ()).ok_or(Error::Fenced(lease.conversation))
    }

    /// Why a query with [`held`] did nothing: the lease, or else `other`.
    pub(crate) async fn refusal(&mut self, lease: &Lease, other: Error) -> Error {
        self.fence(lease).await.err().unwrap_or(other)
    }
}

/// A claim that waits until something is due.
#[derive(Debug)]
pub struct Claiming {
    work: Arc<Work>,
    answer: oneshot::Receiver<Result<Claims>>,
}

impl Claiming {
    /// What it has brought. May be given up and awaited again.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn claimed(&mut self) -> Result<Claims> {
        (&mut self.answer).await.map_err(|_| Error::Closed)?
    }

    /// Takes it back; if it is being made already, what it brings. Of one that is dropped instead, that is held until its
    /// lease lapses.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn withdraw(mut self) -> Result<Claims> {
        match self.work.beside.take() {
            Some(_) => Ok(Claims::default()),
            None => self.claimed().await,
        }
    }
}

impl Drop for Claiming {
    /// What it was told to ask for places may hold the store, and nobody else would let go of it.
    fn drop(&mut self) {
        drop(self.work.beside.take());
    }
}

struct Claim<F> {
    /// Owner and number: no other claim has this holder.
    holder: String,
    free: F,
    lease: std::time::Duration,
}

impl<F: Fn() -> (usize, Shares) + Send + Sync + 'static> Operation for Claim<F> {
    type Output = Claims;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let until = tx.now.plus(self.lease);
        let (due, held_back) = choose(tx, (self.free)()).await?;
        let mut rows = sql::query(CLAIM)
            .bind(tx.now.0)
            .bind(to_json("due", &due)?)
            .bind(&self.holder)
            .bind(until.0)
            .fetch_all(&mut *tx.connection)
            .await?;
        let next = rows.pop().ok_or(Error::Unreadable("next"))?;
        tx.agenda.replace(row::time(&next, "next")?);
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            match claimed(row, until) {
                Ok(one) => all.push(one),
                Err(error) => park(tx, row, &error).await?,
            }
        }
        Ok(Claims { claimed: all, held_back })
    }
}

/// Which of those that are due; and whether something was left that waits for its own lane.
async fn choose(tx: &mut Transaction<'_>, (limit, shares): (usize, Shares)) -> Result<(Vec<i64>, bool)> {
    let rows = sql::query(DUE)
        .bind(tx.now.0)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx.connection)
        .await?;
    let lanes = rows
        .iter()
        .map(|row| Ok((row::get::<String>(row, "lane")?, row::json(row, "due")?.unwrap_or_default())));
    Ok(shares.choose(lanes.collect::<Result<_>>()?, limit))
}

/// Each lane in which something waits, found by one step of the index, and the conversations of it that are due.
pub(crate) const DUE: &str = "
    WITH RECURSIVE lanes (lane) AS (
        SELECT min(lane) FROM conversations INDEXED BY conversations_lane WHERE claimable_at IS NOT NULL
        UNION ALL
        SELECT (SELECT min(c.lane) FROM conversations AS c INDEXED BY conversations_lane
            WHERE c.claimable_at IS NOT NULL AND c.lane > lanes.lane)
        FROM lanes WHERE lanes.lane IS NOT NULL)
    SELECT lane, (SELECT json_group_array(id) FROM (
        SELECT c.id AS id FROM conversations AS c INDEXED BY conversations_lane
        WHERE c.lane = lanes.lane AND c.claimable_at <= $1 ORDER BY c.claimable_at, c.id LIMIT $2 + 0)) AS due
    FROM lanes WHERE lane IS NOT NULL";

/// How long a conversation rests whose turn cannot be read back.
const PARKED: Duration = Duration::from_mins(5);

/// Puts a conversation off that nobody can work on until somebody has looked at it.
async fn park(tx: &mut Transaction<'_>, row: &Row, error: &Error) -> Result<()> {
    let conversation: i64 = row::get(row, "conversation")?;
    metrics::counter!("turns_unreadable_total").increment(1);
    tracing::error!(conversation, %error, "a turn cannot be read back; its conversation is parked");
    sql::query(
        "UPDATE turns SET last_error = $3, last_blame = $4 WHERE seq = $2;
         UPDATE conversations SET holder = NULL, claimable_at = $5 WHERE id = $1",
    )
    .bind(conversation)
    .bind(row::get::<i64>(row, "seq")?)
    .bind(error.to_string())
    .bind(error.blame().to_string())
    .bind(tx.now.plus(PARKED).0)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Turns whose lease lapsed, of those that are claimed now.
macro_rules! lapsed {
    () => {
        "SELECT head FROM conversations WHERE id IN (SELECT value FROM json_each($2)) AND holder IS NOT NULL"
    };
}

/// A lease that lapsed counts as a crash, and what it was sending is ambiguous. A conversation without an open
/// turn has nothing to claim. `head` is the turn that a claim got; the rest finds this claim's conversations by
/// its holder. The last row says when the next one is due.
pub(crate) const CLAIM: &str = concat!(
    "UPDATE outbox SET crashes = crashes + 1 WHERE turn IN (",
    lapsed!(),
    "); UPDATE turns SET crashes = crashes + 1 WHERE seq IN (",
    lapsed!(),
    ") AND NOT EXISTS (SELECT 1 FROM outbox WHERE turn = seq);
    UPDATE conversations SET token = token + 1, holder = $3, claimable_at = $4,
        head = (SELECT min(seq) FROM turns INDEXED BY turns_open
            WHERE conversation = conversations.id AND state = 'open')
        WHERE id IN (SELECT value FROM json_each($2));
    UPDATE outbox SET status = 'kept', ambiguous = ambiguous + 1 WHERE status = 'sending' AND turn IN (
        SELECT head FROM conversations WHERE claimable_at = $4 AND holder = $3);
    SELECT c.token, c.sticky, c.lane, t.seq, t.id, t.conversation, t.tenant, coalesce(o.tries, t.tries) AS tries,
        coalesce(o.crashes, t.crashes) AS crashes, coalesce(o.waits, t.waits) AS waits,
        iif(o.turn IS NULL, t.first_wait_at, o.first_wait_at) AS first_wait_at, t.claimed_at IS NULL AS untouched,
        NOT EXISTS (SELECT 1 FROM turns INDEXED BY turns_all WHERE conversation = c.id AND seq < t.seq) AS first,
        (SELECT body FROM contents WHERE turn = t.seq AND part = 0) AS message,
        (SELECT body FROM contents WHERE turn = t.seq AND part = 1) AS reply,
        (SELECT body FROM decisions WHERE turn = t.seq ORDER BY n DESC LIMIT 1) AS decision,
        o.id AS outgoing, o.agent, o.notice, o.step, o.ambiguous, o.requests, o.kept_at, o.adapter,
        p.status AS progress, p.platform_id AS progress_id, p.seq AS progress_seq
    FROM conversations AS c CROSS JOIN turns AS t ON t.seq = c.head LEFT JOIN outbox AS o ON o.turn = t.seq
    LEFT JOIN progress AS p ON p.turn = t.seq
    WHERE c.claimable_at = $4 AND c.holder = $3 ORDER BY t.seq;
    UPDATE turns SET claimed_at = $1 WHERE claimed_at IS NULL AND seq IN (
        SELECT head FROM conversations WHERE claimable_at = $4 AND holder = $3);
    SELECT min(claimable_at) AS next FROM conversations WHERE claimable_at IS NOT NULL",
);

fn claimed(row: &Row, until: Millis) -> Result<Claimed> {
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
        lane: row::get::<String>(row, "lane")?.into(),
        first: row::get(row, "first")?,
        unwritten: Arc::new(AtomicBool::new(row::get(row, "untouched")?)),
    };
    let turn = Turn {
        tenant,
        conversation,
        message: kept.message,
        target: kept.target,
        stage: stage(row)?,
        progress: progress::read(row)?,
        sticky: row::maybe_name(row, "sticky")?,
        tries: row::count(row, "tries")?,
        crashes: row::count(row, "crashes")?,
        waits: row::count(row, "waits")?,
        first_wait: row::time(row, "first_wait_at")?,
        lane: row::get(row, "lane")?,
    };
    Ok(Claimed { lease, turn })
}

fn stage(row: &Row) -> Result<Stage> {
    if row::get::<Option<[u8; 16]>>(row, "outgoing")?.is_some() {
        return outbox::outgoing(row).map(Stage::Answered);
    }
    Ok(row::json(row, "decision")?.map_or(Stage::Received, Stage::Decided))
}

struct Renew {
    leases: Vec<Lease>,
    lease: std::time::Duration,
}

/// All in one: a host may hold thousands.
pub(crate) const RENEW: &str = "
    UPDATE conversations SET claimable_at = $3 FROM json_each($1) AS given
    WHERE conversations.id = given.value ->> 0 AND token = given.value ->> 1
        AND holder IS NOT NULL AND claimable_at > $2
    RETURNING conversations.id";

impl Operation for Renew {
    type Output = Vec<Result<Millis>>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output> {
        let until = tx.now.plus(self.lease);
        let leases: Vec<_> = self.leases.iter().map(|lease| (lease.conversation.0, lease.token)).collect();
        let renewed: Vec<i64> = sql::query(RENEW)
            .bind(to_json("leases", &leases)?)
            .bind(tx.now.0)
            .bind(until.0)
            .fetch_values(&mut *tx.connection)
            .await?;
        let renewed: HashSet<i64> = renewed.into_iter().collect();
        let answer = |lease: &Lease| match renewed.contains(&lease.conversation.0) {
            true => Ok(until),
            false => {
                metrics::counter!("fenced_writes_total").increment(1);
                Err(Error::Fenced(lease.conversation))
            }
        };
        Ok(self.leases.iter().map(answer).collect())
    }
}

struct Release(Lease);

impl Operation for Release {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.0).await?;
        tx.agenda.add(tx.now);
        sql::query(
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

    fn lane(&self) -> Option<&str> {
        Some(self.0.lane())
    }
}

/// A host that stops in order gives everything back; nothing of it counts as a crash.
pub(crate) struct GiveBackAll;

impl Operation for GiveBackAll {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        sql::query(
            "UPDATE conversations SET holder = NULL, claimable_at = $1, token = token + 1
             WHERE claimable_at IS NOT NULL AND holder IS NOT NULL",
        )
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }
}
