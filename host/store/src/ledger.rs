//! The ledger: what a call may take at most is set aside before a model is called and accounted for afterwards, money
//! in integer nano-dollars.
//!
//! The writer runs operations one after the other, so `settled + reserved <= limit` holds at every instant:
//! a reservation looks at all its scopes and writes in one step. What is never settled (the process died) is
//! charged in full at the next start: the ledger is never below the provider's bill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chela_types::{Millis, ModelCall, Money, Quantity, ReservationId, TenantId, Tokens, TurnId};
use serde::{Deserialize, Serialize};

use crate::budget;
use crate::mailbox::{Lease, held};
use crate::row::{self, to_json};
use crate::sql::{self, Connection, Row};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, Store};

/// Money to set aside.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// The turn's lease, if a turn spends it: no call is paid for a turn that is somebody else's.
    pub lease: Option<Lease>,
    /// Who pays.
    pub tenant: TenantId,
    /// For which turn.
    pub turn: Option<TurnId>,
    /// Budgets that it counts against, each with its own most; all must allow it.
    pub scopes: Vec<ScopeLimit>,
    /// The worst case in money.
    pub amount: Money,
    /// `provider/model` or the tier, for the record.
    pub model: String,
}

/// A budget in one window of time, and what a call takes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeLimit {
    /// Such as `agent:support/day` or `user:U1/minute/requests`: a name of its own for each window and unit.
    pub scope: Arc<str>,
    /// When its window began.
    pub window_start: Millis,
    /// What may be used in it, in the unit of `most`; absent: counted only.
    pub limit: Option<i64>,
    /// The most that the call can take.
    pub most: Quantity,
}

/// What a call used, in each unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// What it cost.
    pub cost: Money,
    /// Tokens of input and output.
    pub tokens: Tokens,
    /// Whether a provider was asked: 1 or 0.
    pub requests: u64,
}

/// How a reservation ends.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// What it used, or may have used at most if that is unknown. Ignored if released.
    pub used: Used,
    /// The call, for the record.
    pub call: Option<ModelCall>,
    /// What is known.
    pub state: SettledAs,
}

/// What is known of a call's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettledAs {
    /// Still open.
    Open,
    /// The provider said what it used.
    Settled,
    /// Nobody knows; charged is what it may have been.
    Unknown,
    /// Nothing was spent.
    Released,
}

impl SettledAs {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Settled => "settled",
            Self::Unknown => "unknown",
            Self::Released => "released",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let all = [Self::Open, Self::Settled, Self::Unknown, Self::Released];
        all.into_iter().find(|state| state.as_str() == text).ok_or(Error::Unreadable("settlement"))
    }
}

/// The ledger in sum.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Spent, all tenants.
    pub settled: Money,
    /// Set aside now.
    pub reserved: Money,
    /// Of the spent, charged without knowing.
    pub unknown: Money,
    /// The newest reservations, newest first.
    pub rows: Vec<LedgerRow>,
}

/// One reservation.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    /// Its id.
    pub id: ReservationId,
    /// The turn that it was for.
    pub turn: Option<TurnId>,
    /// What was asked.
    pub model: String,
    /// What was set aside.
    pub amount: Money,
    /// What it cost.
    pub cost: Money,
    /// What is known.
    pub state: SettledAs,
    /// The call, once it is settled.
    pub call: Option<ModelCall>,
    /// When it was set aside.
    pub at: Millis,
}

impl Store {
    /// Sets aside in all scopes, or in none. If the caller stops waiting, it is given back.
    ///
    /// # Errors
    /// [`Error::OverBudget`] with the first scope that refuses; [`Error::Invalid`] for a negative amount;
    /// [`Error::Fenced`]; those of the disk.
    pub async fn reserve(&self, mut reserve: Reserve) -> Result<ReservationId> {
        if reserve.amount < Money::ZERO || reserve.scopes.iter().any(|scope| scope.most.amount < 0) {
            return Err(Error::Invalid("an amount cannot be negative"));
        }
        unite(&mut reserve.scopes);
        let scope = |of: &ScopeLimit| {
            let ScopeLimit { scope, window_start, limit, most } = of;
            (scope.clone(), window_start.0, *limit, most.amount, most.unit)
        };
        let scopes = to_json("scopes", &reserve.scopes.iter().map(scope).collect::<Vec<_>>())?;
        let id = ReservationId::new();
        let gone = Arc::new(AtomicBool::new(false));
        let answer = self.send(Reserving { id, reserve, scopes, gone: gone.clone() }).await?;
        let mut abandoned = Abandoned { store: self, id: Some(id), gone };
        let outcome = answer.await.map_err(|_| Error::Closed)?;
        abandoned.id = None;
        outcome.map(|()| id)
    }

    /// Accounts for a reservation; returns after it is on the disk. A second settlement changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such reservation; those of the disk.
    pub async fn settle(&self, id: ReservationId, settlement: Settlement) -> Result<()> {
        self.commit(Settle { id, settlement }).await
    }

    /// The same without waiting, from anywhere, also from a `Drop`. It is on the disk no later than whatever is
    /// awaited next and succeeds. False if the store is closed: the reservation stays open then, and is charged in
    /// full at the next start.
    pub fn settle_behind(&self, id: ReservationId, settlement: Settlement) -> bool {
        let sent = self.settling(Settle { id, settlement });
        if !sent {
            metrics::counter!("settlements_not_queued_total").increment(1);
        }
        sent
    }

    /// Sums over everything, and the newest `limit` reservations.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn ledger(&self, limit: usize) -> Result<Ledger> {
        self.read(async |connection| {
            let sums = sql::query(
                "SELECT coalesce(sum(cost), 0) AS settled,
                     coalesce(sum(amount) FILTER (WHERE state = 'open'), 0) AS reserved,
                     coalesce(sum(cost) FILTER (WHERE state = 'unknown'), 0) AS unknown FROM reservations",
            )
            .fetch_one(&mut *connection)
            .await?;
            let rows = sql::query("SELECT * FROM reservations ORDER BY seq DESC LIMIT $1 + 0")
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await?;
            Ok(Ledger {
                settled: row::money(&sums, "settled")?,
                reserved: row::money(&sums, "reserved")?,
                unknown: row::money(&sums, "unknown")?,
                rows: rows.iter().map(ledger_row).collect::<Result<_>>()?,
            })
        })
        .await
    }
}

/// A call that was charged.
#[derive(Debug, Clone)]
pub struct Charged {
    /// Its place in the order of reservations.
    pub seq: i64,
    /// When the money was set aside.
    pub at: Millis,
    /// What is known of its cost.
    pub state: SettledAs,
    /// The call.
    pub call: ModelCall,
}

impl Store {
    /// The next `limit` calls after `after` that were charged from the first of two moments and before the second, in
    /// order. What has no record is left out: nobody knows which model it was.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn charged(
        &self,
        (from, until): (Millis, Millis),
        after: i64,
        limit: usize,
    ) -> Result<Vec<Charged>> {
        self.read(async |connection| {
            let rows = sql::query(
                "SELECT seq, at, state, call FROM reservations
                     WHERE seq > $1 AND at >= $2 AND at < $3 AND state IN ('settled', 'unknown')
                         AND call IS NOT NULL ORDER BY seq LIMIT $4 + 0",
            )
            .bind(after)
            .bind(from.0)
            .bind(until.0)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
            rows.iter().map(charged).collect()
        })
        .await
    }
}

fn charged(row: &Row) -> Result<Charged> {
    Ok(Charged {
        seq: row::get(row, "seq")?,
        at: Millis(row::get(row, "at")?),
        state: SettledAs::parse(row::text(row, "state")?)?,
        call: row::json(row, "call")?.ok_or(Error::Unreadable("model call"))?,
    })
}

/// One scope named twice counts once, with the lower limit.
fn unite(scopes: &mut Vec<ScopeLimit>) {
    let mut united: Vec<ScopeLimit> = Vec::with_capacity(scopes.len());
    for scope in scopes.drain(..) {
        let same = |one: &&mut ScopeLimit| one.scope == scope.scope && one.window_start == scope.window_start;
        match united.iter_mut().find(same) {
            Some(one) => one.limit = one.limit.into_iter().chain(scope.limit).min(),
            None => united.push(scope),
        }
    }
    *scopes = united;
}

pub(crate) fn ledger_row(row: &Row) -> Result<LedgerRow> {
    Ok(LedgerRow {
        id: ReservationId::from_bytes(row::id(row, "id")?),
        turn: row::get::<Option<_>>(row, "turn")?.map(TurnId::from_bytes),
        model: row::get(row, "model")?,
        amount: row::money(row, "amount")?,
        cost: row::money(row, "cost")?,
        state: SettledAs::parse(row::text(row, "state")?)?,
        call: row::json(row, "call")?,
        at: Millis(row::get(row, "at")?),
    })
}

/// Gives back what was set aside for a caller that is gone. That may overtake the reservation, which is not made
/// then.
struct Abandoned<'a> {
    store: &'a Store,
    id: Option<ReservationId>,
    gone: Arc<AtomicBool>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.gone.store(true, Ordering::SeqCst);
            self.store.settling(GiveBack(id));
        }
    }
}

struct GiveBack(ReservationId);

impl Operation for GiveBack {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let (state, used, at) = (SettledAs::Released, Some(Used::default()), tx.now);
        close(tx.connection, Closing { id: self.0, state, used, call: None, at }).await.map(drop)
    }
}

struct Reserving {
    id: ReservationId,
    reserve: Reserve,
    /// `[[scope, window_start, limit, most, unit], …]`
    scopes: String,
    /// Its caller is.
    gone: Arc<AtomicBool>,
}

/// Which of the scopes `$10` would be over its limit, raises counted.
macro_rules! over {
    () => {
        "SELECT 1 FROM json_each($10) AS given LEFT JOIN budgets AS b
             ON b.tenant = $6 AND b.scope = given.value ->> 0 AND b.window_start = given.value ->> 1
         WHERE coalesce(b.settled + b.reserved, 0) + (given.value ->> 3) > (given.value ->> 2)
             + coalesce((SELECT sum(amount) FROM budget_raises AS r WHERE r.tenant = $6
                 AND r.scope = given.value ->> 0 AND r.until > $3), 0)"
    };
}

/// The reservation's second half, which does nothing if the first one did nothing.
macro_rules! set_aside {
    () => {
        "INSERT INTO budgets (tenant, scope, window_start, settled, reserved)
             SELECT $6, value ->> 0, value ->> 1, 0, value ->> 3 FROM json_each($10) WHERE changes() = 1
             ON CONFLICT DO UPDATE SET reserved = reserved + excluded.reserved"
    };
}

pub(crate) const RESERVE_HELD: &str = concat!(
    "INSERT INTO reservations (id, tenant, turn, model, amount, scopes, at)
         SELECT $5, $6, $7, $8, $9, $10, $3 FROM conversations WHERE ",
    held!(),
    " AND NOT EXISTS (",
    over!(),
    ");",
    set_aside!(),
);

/// Without a lease; the arguments have the same places.
pub(crate) const RESERVE: &str = concat!(
    "INSERT INTO reservations (id, tenant, turn, model, amount, scopes, at)
         SELECT $5, $6, $7, $8, $9, $10, $3 WHERE NOT EXISTS (",
    over!(),
    ");",
    set_aside!(),
);

impl Operation for Reserving {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        if self.gone.load(Ordering::SeqCst) {
            return Err(Error::Invalid("nobody waits for this reservation"));
        }
        let query = match &self.reserve.lease {
            Some(lease) => tx.under(lease, RESERVE_HELD),
            None => sql::query(RESERVE).bind(None::<i64>).bind(None::<i64>).bind(tx.now.0).bind(None::<i64>),
        };
        let written = query
            .bind(self.id.as_bytes().as_slice())
            .bind(self.reserve.tenant.as_str())
            .bind(self.reserve.turn.as_ref().map(|turn| turn.as_bytes().as_slice()))
            .bind(&self.reserve.model)
            .bind(self.reserve.amount.nanos())
            .bind(&self.scopes)
            .execute(&mut *tx.connection)
            .await?;
        if written == 0 { Err(self.refusal(tx).await?) } else { Ok(()) }
    }

    fn lane(&self) -> Option<&str> {
        self.reserve.lease.as_ref().map(|lease| lease.lane())
    }
}

impl Reserving {
    /// The lease, or the first scope that does not allow it.
    async fn refusal(&self, tx: &mut Transaction<'_>) -> Result<Error> {
        if let Some(lease) = &self.reserve.lease {
            tx.fence(lease).await?;
        }
        for scope in &self.reserve.scopes {
            let Some(limit) = scope.limit else { continue };
            let (connection, tenant) = (&mut *tx.connection, &self.reserve.tenant);
            let used = budget::used(connection, tenant, &scope.scope, scope.window_start).await?;
            let limit = limit.saturating_add(budget::raised(connection, tenant, &scope.scope, tx.now).await?);
            let used = used.settled.saturating_add(used.reserved);
            if used.saturating_add(scope.most.amount) > limit {
                return Ok(over(scope, limit, used));
            }
        }
        Err(Error::Unreadable("budget"))
    }
}

/// The refusal of a scope.
pub(crate) fn over(scope: &ScopeLimit, limit: i64, used: i64) -> Error {
    let of = |amount| Quantity { amount, ..scope.most };
    Error::OverBudget { scope: scope.scope.to_string(), limit: of(limit), used: of(used) }
}

struct Settle {
    id: ReservationId,
    settlement: Settlement,
}

impl Operation for Settle {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let (state, used) = match self.settlement.state {
            SettledAs::Settled => (SettledAs::Settled, self.settlement.used),
            SettledAs::Released => (SettledAs::Released, Used::default()),
            SettledAs::Open | SettledAs::Unknown => (SettledAs::Unknown, self.settlement.used),
        };
        let used = Some(Used { cost: used.cost.max(Money::ZERO), ..used });
        let call = self.settlement.call.as_ref().map(|call| to_json("model call", call)).transpose()?;
        let closing = Closing { id: self.id, state, used, call, at: tx.now };
        if close(tx.connection, closing).await? {
            return Ok(());
        }
        let known = sql::query("SELECT 1 FROM reservations WHERE id = $1")
            .bind(self.id.as_bytes().as_slice())
            .fetch_optional(&mut *tx.connection)
            .await?;
        known.map(|_| ()).ok_or(Error::Invalid("there is no such reservation"))
    }
}

/// An open reservation's end.
pub(crate) struct Closing {
    pub(crate) id: ReservationId,
    pub(crate) state: SettledAs,
    /// Absent: all that was set aside.
    pub(crate) used: Option<Used>,
    pub(crate) call: Option<String>,
    pub(crate) at: Millis,
}

/// `$3`, `$6` and `$7` are what was used, or `NULL`.
pub(crate) const CLOSE: &str = "
    WITH taken AS MATERIALIZED (
        SELECT r.tenant, CAST(given.value ->> 0 AS TEXT) AS scope,
            CAST(given.value ->> 1 AS INTEGER) AS window_start, given.value ->> 3 AS most,
            coalesce(CASE given.value ->> 4 WHEN 'dollars' THEN $3 WHEN 'tokens' THEN $6 ELSE $7 END,
                given.value ->> 3) AS used
        FROM reservations AS r CROSS JOIN json_each(r.scopes) AS given
        WHERE r.id = $1 AND r.state = 'open')
    UPDATE budgets SET reserved = reserved - taken.most, settled = settled + taken.used FROM taken
        WHERE budgets.tenant = taken.tenant AND budgets.scope = taken.scope
            AND budgets.window_start = taken.window_start;
    UPDATE reservations SET state = $2, cost = coalesce($3, amount), call = $4, settled_at = $5
        WHERE id = $1 AND state = 'open' RETURNING amount, cost";

/// Moves what an open reservation set aside to what is settled. False if there is no open one.
pub(crate) async fn close(connection: &mut Connection, closing: Closing) -> Result<bool> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let rows = sql::query(CLOSE)
        .bind(closing.id.as_bytes().as_slice())
        .bind(closing.state.as_str())
        .bind(closing.used.map(|used| used.cost.nanos()))
        .bind(closing.call)
        .bind(closing.at.0)
        .bind(closing.used.map(|used| count(used.tokens.0)))
        .bind(closing.used.map(|used| count(used.requests)))
        .fetch_all(connection)
        .await?;
    let Some(row) = rows.first() else { return Ok(false) };
    if row::money(row, "cost")? > row::money(row, "amount")? {
        metrics::counter!("settlements_above_reservation_total").increment(1);
    }
    Ok(true)
}
