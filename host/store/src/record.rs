//! Reading back: what happened to a turn, and how things stand. Nothing here needs a lease or changes anything.

use std::collections::BTreeMap;

use chela_types::{
    AgentId, ChannelId, ConversationId, Decision, Digest, Message, Millis, OutboxId, Reply, TenantId, TurnId,
};

use crate::inbox::Kept;
use crate::journal::{Entry, called};
use crate::ledger::{LedgerRow, ledger_row};
use crate::progress::{self, Progress};
use crate::receipt::{ReceiptRecord, receipts};
use crate::sql::{self, Connection, Row};
use crate::{Error, Result, Store, row};

/// How a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnState {
    /// On its way.
    Open,
    /// Answered, and the answer is delivered.
    Delivered,
    /// Given up.
    Dead,
    /// Answered, and the answer can't be delivered.
    Undelivered,
    /// The person deleted the message before anybody had begun with it.
    Withdrawn,
}

/// Everything that is known of a turn.
#[derive(Debug, Clone)]
pub struct TurnRecord {
    /// Its id.
    pub id: TurnId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The channel account.
    pub channel: ChannelId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// How it stands.
    pub state: TurnState,
    /// How the agent ended it.
    pub outcome: Option<String>,
    /// When it came in.
    pub received: Millis,
    /// When it was first claimed.
    pub claimed: Option<Millis>,
    /// When it was closed.
    pub closed: Option<Millis>,
    /// Which agents were chosen, when and why; the last one counts.
    pub decisions: Vec<(Millis, Decision)>,
    /// Model calls and their money, oldest first.
    pub calls: Vec<LedgerRow>,
    /// Host calls of the run that counts: number, function, time.
    pub journal: Vec<(u32, String, Millis)>,
    /// Versions of plugins that its parts were run by, in their order.
    pub versions: Vec<Digest>,
    /// The answer's way out.
    pub outbox: Option<OutboxRecord>,
    /// The post that showed the answer while it was made, if there was one.
    pub progress: Option<Progress>,
    /// Failures by a plugin's fault, before and after its answer was kept.
    pub tries: u32,
    /// The same by the host's.
    pub crashes: u32,
    /// The same of waits for something outside.
    pub waits: u32,
    /// When it first waited.
    pub first_wait: Option<Millis>,
    /// The last failure and whose fault it was.
    pub last_error: Option<(String, Option<String>)>,
    /// What was said; absent once purged.
    pub message: Option<Message>,
    /// What was answered; absent once purged.
    pub reply: Option<Reply>,
}

/// The answer's way out.
#[derive(Debug, Clone)]
pub struct OutboxRecord {
    /// Its id.
    pub id: OutboxId,
    /// Which agent.
    pub agent: AgentId,
    /// The host's own words.
    pub notice: bool,
    /// `kept`, `sending`, `editing`, `sent` (a step of several), `delivered`, `undelivered`.
    pub status: String,
    /// Sends that may or may not have arrived.
    pub ambiguous: u32,
    /// Requests that were begun.
    pub requests: u32,
    /// When the answer was kept.
    pub kept: Millis,
    /// When the first request was begun.
    pub sending: Option<Millis>,
    /// The platform's id of the message.
    pub platform_id: Option<String>,
    /// What the platform told of it afterwards, in order.
    pub receipts: Vec<ReceiptRecord>,
}

/// What is being worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Open turns that nobody holds, also those behind another of their conversation.
    pub waiting: u64,
    /// Conversations that are held.
    pub leased: u64,
    /// Open turns with an answer on its way.
    pub answered: u64,
    /// Sends that may or may not have arrived, of all turns.
    pub ambiguous: u64,
    /// Reservations that are open.
    pub open_reservations: u64,
    /// When the oldest open turn came in.
    pub oldest_waiting: Option<Millis>,
}

/// How things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open turns that nobody holds, also those behind another of their conversation.
    pub waiting: u64,
    /// Conversations that are held.
    pub leased: u64,
    /// Open turns with an answer on its way.
    pub answered: u64,
    /// Turns that ended well.
    pub delivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Answers that could not be delivered.
    pub undelivered: u64,
    /// Sends that may or may not have arrived.
    pub ambiguous: u64,
    /// Reservations that are open.
    pub open_reservations: u64,
    /// When the oldest open turn came in.
    pub oldest_waiting: Option<Millis>,
}

/// Where in its journey a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Kept, not held.
    Received,
    /// Held, nothing decided.
    Claimed,
    /// The agent is chosen.
    Decided,
    /// Money is set aside for a model call.
    ModelCallOpen,
    /// Host calls are journaled, no model call is open.
    Journaled,
    /// The answer is kept.
    Answered,
    /// Bytes are leaving.
    Sending,
    /// One request of several is answered.
    StepSent,
    /// Closed, in whatever way.
    Closed,
}

impl Store {
    /// Everything that is known of a turn.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn turn_record(&self, turn: TurnId) -> Result<Option<TurnRecord>> {
        self.read(async |connection| {
            let row = sql::query(
                "SELECT t.*, (SELECT body FROM contents WHERE turn = t.seq AND part = 0) AS message,
                     (SELECT body FROM contents WHERE turn = t.seq AND part = 1) AS reply,
                     t.tries + coalesce(o.tries, 0) AS all_tries, t.waits + coalesce(o.waits, 0) AS all_waits,
                     t.crashes + coalesce(o.crashes, 0) AS all_crashes,
                     coalesce(t.first_wait_at, o.first_wait_at) AS waited_at,
                     p.status AS progress, p.platform_id AS progress_id, p.seq AS progress_seq
                 FROM turns AS t LEFT JOIN outbox AS o ON o.turn = t.seq
                 LEFT JOIN progress AS p ON p.turn = t.seq WHERE t.id = $1",
            )
            .bind(turn.as_bytes().as_slice())
            .fetch_optional(&mut *connection)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let mut record = bare(&row)?;
            let seq = row::get(&row, "seq")?;
            record.decisions = decisions(connection, seq).await?;
            (record.journal, record.versions) = journal(connection, seq).await?;
            record.outbox = outbox(connection, (&record.tenant, &record.channel), seq).await?;
            let calls = sql::query("SELECT * FROM reservations WHERE turn = $1 ORDER BY seq")
                .bind(turn.as_bytes().as_slice())
                .fetch_all(connection)
                .await?;
            record.calls = calls.iter().map(ledger_row).collect::<Result<_>>()?;
            Ok(Some(record))
        })
        .await
    }

    /// The newest turns, newest first.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn recent_turns(&self, limit: usize) -> Result<Vec<TurnId>> {
        self.read(async |connection| {
            let rows = sql::query("SELECT id FROM turns ORDER BY seq DESC LIMIT $1 + 0")
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await?;
            rows.iter().map(|row| row::id(row, "id").map(TurnId::from_bytes)).collect()
        })
        .await
    }

    /// How things stand. Reads the state of every turn: a few milliseconds for 100,000.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn counts(&self) -> Result<Counts> {
        self.read(async |connection| {
            let Standing { waiting, leased, answered, ambiguous, open_reservations, oldest_waiting } =
                standing(&mut *connection).await?;
            let row = sql::query(
                "SELECT coalesce(sum(state = 'delivered'), 0) AS delivered, coalesce(sum(state = 'dead'), 0) AS dead,
                     coalesce(sum(state = 'undelivered'), 0) AS undelivered FROM turns",
            )
            .fetch_one(connection)
            .await?;
            Ok(Counts {
                waiting,
                leased,
                answered,
                delivered: number(&row, "delivered")?,
                dead: number(&row, "dead")?,
                undelivered: number(&row, "undelivered")?,
                ambiguous,
                open_reservations,
                oldest_waiting,
            })
        })
        .await
    }

    /// What is being worked on. Reads open turns alone, however many are closed.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn standing(&self) -> Result<Standing> {
        self.read(async |connection| standing(connection).await).await
    }

    /// How many turns are in each phase. In a store that was opened for reading after a crash: where the
    /// process died.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn phases(&self) -> Result<BTreeMap<Phase, u64>> {
        self.read(async |connection| {
            let rows = sql::query(PHASES).fetch_all(connection).await?;
            rows.iter()
                .map(|row| {
                    let phase = phase(row::text(row, "phase")?)?;
                    Ok((phase, row::get::<i64>(row, "turns")?.unsigned_abs()))
                })
                .collect()
        })
        .await
    }
}

/// Each count is over an index that holds no closed turn.
pub(crate) const STANDING: &str = "
    SELECT
    (SELECT count(*) FROM turns WHERE state = 'open') AS open,
    (SELECT count(*) FROM conversations WHERE claimable_at IS NOT NULL AND holder IS NOT NULL) AS leased,
    (SELECT count(*) FROM turns CROSS JOIN outbox ON turn = seq WHERE state = 'open') AS answered,
    (SELECT coalesce(sum(ambiguous), 0) FROM outbox WHERE ambiguous > 0) AS ambiguous,
    (SELECT count(*) FROM reservations WHERE state = 'open') AS reservations,
    (SELECT min(received_at) FROM turns WHERE state = 'open') AS oldest";

async fn standing(connection: &mut Connection) -> Result<Standing> {
    let row = sql::query(STANDING).fetch_one(connection).await?;
    let leased = number(&row, "leased")?;
    Ok(Standing {
        waiting: number(&row, "open")?.saturating_sub(leased),
        leased,
        answered: number(&row, "answered")?,
        ambiguous: number(&row, "ambiguous")?,
        open_reservations: number(&row, "reservations")?,
        oldest_waiting: row::time(&row, "oldest")?,
    })
}

fn number(row: &Row, column: &'static str) -> Result<u64> {
    row::get::<i64>(row, column).map(i64::unsigned_abs)
}

const PHASES: &str = "
    SELECT CASE
        WHEN t.state <> 'open' THEN 'closed'
        WHEN o.status IN ('sending', 'editing') THEN 'sending'
        WHEN o.status = 'sent' THEN 'sent'
        WHEN o.turn IS NOT NULL THEN 'answered'
        WHEN c.holder IS NULL OR t.seq > (SELECT min(seq) FROM turns WHERE conversation = c.id AND state = 'open')
            THEN 'received'
        WHEN EXISTS (SELECT 1 FROM reservations WHERE turn = t.id AND state = 'open') THEN 'model'
        WHEN EXISTS (SELECT 1 FROM journal WHERE turn = t.seq AND function NOT GLOB 'turn.*') THEN 'journaled'
        WHEN EXISTS (SELECT 1 FROM decisions WHERE turn = t.seq) THEN 'decided'
        ELSE 'claimed' END AS phase, count(*) AS turns
    FROM turns AS t JOIN conversations AS c ON c.id = t.conversation LEFT JOIN outbox AS o ON o.turn = t.seq
    GROUP BY 1";

fn phase(text: &str) -> Result<Phase> {
    Ok(match text {
        "received" => Phase::Received,
        "claimed" => Phase::Claimed,
        "decided" => Phase::Decided,
        "model" => Phase::ModelCallOpen,
        "journaled" => Phase::Journaled,
        "answered" => Phase::Answered,
        "sending" => Phase::Sending,
        "sent" => Phase::StepSent,
        "closed" => Phase::Closed,
        _ => return Err(Error::Unreadable("phase")),
    })
}

pub(crate) fn state(text: &str) -> Result<TurnState> {
    Ok(match text {
        "open" => TurnState::Open,
        "delivered" => TurnState::Delivered,
        "dead" => TurnState::Dead,
        "undelivered" => TurnState::Undelivered,
        "withdrawn" => TurnState::Withdrawn,
        _ => return Err(Error::Unreadable("turn state")),
    })
}

/// The turn's own row.
fn bare(row: &Row) -> Result<TurnRecord> {
    let error: Option<String> = row::get(row, "last_error")?;
    let blame: Option<String> = row::get(row, "last_blame")?;
    Ok(TurnRecord {
        id: TurnId::from_bytes(row::id(row, "id")?),
        tenant: row::name(row, "tenant")?,
        channel: row::name(row, "channel")?,
        conversation: ConversationId(row::get(row, "conversation")?),
        state: state(row::text(row, "state")?)?,
        outcome: row::get(row, "outcome")?,
        received: Millis(row::get(row, "received_at")?),
        claimed: row::time(row, "claimed_at")?,
        closed: row::time(row, "closed_at")?,
        decisions: Vec::new(),
        calls: Vec::new(),
        journal: Vec::new(),
        versions: Vec::new(),
        outbox: None,
        progress: progress::read(row)?,
        tries: row::count(row, "all_tries")?,
        crashes: row::count(row, "all_crashes")?,
        waits: row::count(row, "all_waits")?,
        first_wait: row::time(row, "waited_at")?,
        last_error: error.map(|error| (error, blame)),
        message: row::json::<Kept>(row, "message")?.map(|kept| kept.message),
        reply: row::json(row, "reply")?,
    })
}

async fn decisions(connection: &mut Connection, turn: i64) -> Result<Vec<(Millis, Decision)>> {
    let rows = sql::query("SELECT at, body FROM decisions WHERE turn = $1 ORDER BY n")
        .bind(turn)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let decision = row::json(row, "body")?.ok_or(Error::Unreadable("decision"))?;
            Ok((Millis(row::get(row, "at")?), decision))
        })
        .collect()
}

/// Host calls, and the versions that made them.
type Journaled = (Vec<(u32, String, Millis)>, Vec<Digest>);

/// What is set aside is no call of those that count.
const CALLS: &str =
    "SELECT seq, function, at, version FROM journal WHERE turn = $1 AND seq < $2 ORDER BY seq";

async fn journal(connection: &mut Connection, turn: i64) -> Result<Journaled> {
    let rows = sql::query(CALLS).bind(turn).bind(Entry::ASIDE).fetch_all(connection).await?;
    let (mut calls, mut versions) = (Vec::new(), Vec::new());
    for row in &rows {
        let function: String = row::get(row, "function")?;
        calls.push((row::count(row, "seq")?, called(&function).to_owned(), Millis(row::get(row, "at")?)));
        versions.extend(row::maybe_digest(row, "version")?);
    }
    // A part names its version at its beginning and at its end.
    versions.dedup();
    Ok((calls, versions))
}

async fn outbox(
    connection: &mut Connection,
    whose: (&TenantId, &ChannelId),
    turn: i64,
) -> Result<Option<OutboxRecord>> {
    let row = sql::query("SELECT * FROM outbox WHERE turn = $1")
        .bind(turn)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let platform_id: Option<String> = row::get(&row, "platform_id")?;
    Ok(Some(OutboxRecord {
        id: OutboxId::from_bytes(row::id(&row, "id")?),
        agent: row::name(&row, "agent")?,
        notice: row::get(&row, "notice")?,
        status: row::get(&row, "status")?,
        ambiguous: row::count(&row, "ambiguous")?,
        requests: row::count(&row, "requests")?,
        kept: Millis(row::get(&row, "kept_at")?),
        sending: row::time(&row, "sending_at")?,
        receipts: match &platform_id {
            Some(id) => receipts(connection, whose, id).await?,
            None => Vec::new(),
        },
        platform_id,
    }))
}
