//! When a turn does not get on: it is tried again later, or it becomes a dead letter, with or without a word to
//! the person. A plugin's faults count as tries, outages as waits; the host's crashes are counted by
//! `recover.rs` and by the claim of a lapsed lease. Each is counted for the stage that the turn is in: an answer that
//! is kept has counters of its own.

use std::time::Duration;

use chela_types::{AgentId, Blame, Millis, OutboxId, Reply};

use crate::mailbox::{Lease, held};
use crate::outbox::{Answer, Answered, Outgoing, close, standing};
use crate::row::to_json;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Result, Store};

/// Why a turn is put off.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Whose fault.
    pub blame: Blame,
    /// For the operator; no words of people.
    pub error: String,
    /// Which counter it raises.
    pub counts_as: CountsAs,
}

/// Which counter a trouble raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountsAs {
    /// The plugin's fault; a few of them make a dead letter.
    Try,
    /// Something outside was not there; the turn may wait long.
    Wait,
    /// Nobody's: there was no place for it.
    Nothing,
}

impl Store {
    /// Frees the conversation; its head turn is due again at `until`. An answer that is still marked as being sent
    /// is ambiguous from now on.
    ///
    /// # Errors
    /// [`crate::Error::Fenced`], or those of the disk.
    pub async fn defer(&self, lease: &Lease, until: Millis, trouble: Trouble) -> Result<()> {
        self.commit(Defer { lease: lease.clone(), until, trouble }).await
    }

    /// Makes the turn a dead letter. With a notice: that becomes its answer (returned), and the turn is dead
    /// once it is delivered; an answer that is kept already stands in its place. Without: dead at once.
    ///
    /// # Errors
    /// [`crate::Error::Fenced`], or those of the disk.
    pub async fn dead(&self, lease: &Lease, letter: DeadLetter) -> Result<Option<Outgoing>> {
        let dying = (letter.reason, letter.blame.to_string());
        let Some((agent, reply)) = letter.notice else {
            self.commit(Dead { lease: lease.clone(), dying }).await?;
            return Ok(None);
        };
        let body = to_json("reply", &reply)?;
        let answer = Answer { agent, reply, outcome: "dead".into(), notice: true, lane: None };
        let operation =
            Answered { lease: lease.clone(), id: OutboxId::new(), answer, body, dying: Some(dying) };
        self.commit(operation).await.map(Some)
    }
}

impl Store {
    /// The same of a turn whose kept answer cannot be said: the notice takes its place. `None` if a byte of it may have
    /// left, or it is a notice itself: it stands.
    ///
    /// # Errors
    /// [`crate::Error::Fenced`], or those of the disk.
    pub async fn notice_instead(
        &self,
        lease: &Lease,
        reason: &str,
        blame: Blame,
        notice: Reply,
    ) -> Result<Option<Outgoing>> {
        let body = to_json("reply", &notice)?;
        let dying = (reason.to_owned(), blame.to_string());
        self.commit(Instead { lease: lease.clone(), id: OutboxId::new(), dying, body }).await
    }
}

struct Instead {
    lease: Lease,
    id: OutboxId,
    dying: (String, String),
    body: String,
}

impl Operation for Instead {
    type Output = Option<Outgoing>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Option<Outgoing>> {
        let written = tx
            .under(&self.lease, INSTEAD)
            .bind(self.id.as_bytes().as_slice())
            .bind(self.body.as_bytes())
            .bind(&self.dying.0)
            .bind(&self.dying.1)
            .execute(&mut *tx.connection)
            .await?;
        if written == 0 {
            tx.fence(&self.lease).await?;
            return Ok(None);
        }
        standing(tx, &self.lease).await
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

const INSTEAD: &str = concat!(
    "UPDATE outbox SET id = $5, notice = 1, step = NULL, adapter = NULL, status = 'kept', kept_at = $3, tries = 0, crashes = 0,
         waits = 0, first_wait_at = NULL
     WHERE turn = $4 AND NOT notice AND requests = 0 AND EXISTS (SELECT 1 FROM conversations WHERE ",
    held!(),
    ");
     UPDATE contents SET body = $6 WHERE turn = $4 AND part = 1 AND changes() = 1;
     UPDATE turns SET dying = $7, last_error = $7, last_blame = $8, outcome = 'dead' WHERE seq = $4 AND changes() = 1",
);

/// A turn that is given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// For the operator; no words of people.
    pub reason: String,
    /// Whose fault.
    pub blame: Blame,
    /// In whose name the person is told, and what.
    pub notice: Option<(AgentId, Reply)>,
}

struct Defer {
    lease: Lease,
    until: Millis,
    trouble: Trouble,
}

impl Operation for Defer {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.lease).await?;
        let counted = self.trouble.counts_as;
        // Never in the past of the queue's order: a turn that is put off waits at least a millisecond.
        let until = self.until.max(tx.now.plus(Duration::from_millis(1)));
        sql::query(
            "UPDATE outbox SET status = 'kept', ambiguous = ambiguous + 1 WHERE turn = $2 AND status = 'sending';
             UPDATE outbox SET tries = tries + $3, waits = waits + $4,
                 first_wait_at = iif($4, coalesce(first_wait_at, $7), first_wait_at) WHERE turn = $2;
             UPDATE turns SET tries = tries + $3, waits = waits + $4,
                 first_wait_at = iif($4, coalesce(first_wait_at, $7), first_wait_at) WHERE seq = $2 AND changes() = 0;
             UPDATE turns SET last_error = $5, last_blame = $6 WHERE seq = $2;
             UPDATE conversations SET holder = NULL, claimable_at = $8 WHERE id = $1",
        )
        .bind(self.lease.conversation.0)
        .bind(self.lease.seq)
        .bind(counted == CountsAs::Try)
        .bind(counted == CountsAs::Wait)
        .bind(&self.trouble.error)
        .bind(self.trouble.blame.to_string())
        .bind(tx.now.0)
        .bind(until.0)
        .execute(&mut *tx.connection)
        .await?;
        tx.agenda.add(until);
        Ok(())
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}

struct Dead {
    lease: Lease,
    dying: (String, String),
}

impl Operation for Dead {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        tx.fence(&self.lease).await?;
        sql::query(
            "UPDATE turns SET dying = $2, last_error = $2, last_blame = $3, outcome = 'dead' WHERE seq = $1;
             UPDATE outbox SET status = 'undelivered', step = NULL, ambiguous = ambiguous + (status = 'sending')
                 WHERE turn = $1",
        )
        .bind(self.lease.seq)
        .bind(&self.dying.0)
        .bind(&self.dying.1)
        .execute(&mut *tx.connection)
        .await?;
        close(tx, &self.lease, "dead").await
    }

    fn lane(&self) -> Option<&str> {
        Some(self.lease.lane())
    }
}
