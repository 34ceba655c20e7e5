//! Slices of budgets: a process takes some of a budget durably, pays calls from it in its memory, and accounts for them
//! behind. What it holds is part of what is reserved, so no budget is exceeded, whatever becomes of the process; and what
//! a crash leaves of a slice is charged in full, because nobody knows which calls were under way.
//!
//! The scope [`LEDGER`] has no limit and a slice like the others: what is left of it after a crash is what the calls
//! under way may have cost, and becomes a row of the ledger.

use std::sync::Arc;

use chela_types::{Millis, Money, ReservationId, TenantId};

use crate::budget;
use crate::row::{self, to_json};
use crate::sql::{self, Connection};
use crate::writer::{Operation, Transaction};
use crate::{Error, Result, ScopeLimit, Store};

/// The scope of everything that is paid from slices, in dollars.
pub const LEDGER: &str = "ledger";

/// A slice that is wanted. Its `most` says how much is needed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The budget.
    pub scope: ScopeLimit,
    /// So much more would be welcome, as long as it is a small part of what is left.
    pub welcome: i64,
}

/// A part of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The budget's name.
    pub scope: Arc<str>,
    /// When its window began.
    pub window_start: Millis,
    /// So much of it, in its unit.
    pub amount: i64,
    /// Whether it comes from a slice.
    pub is_sliced: bool,
}

/// A slice is at most one part in so many of what is left of a budget, or what is needed at once.
const SHARE: i64 = 64;

impl Store {
    /// Takes a slice of each budget, or of none; returns how much of each, at least what is needed.
    ///
    /// # Errors
    /// [`Error::OverBudget`] with the first scope that refuses; [`Error::Invalid`] for a negative amount; those of the
    /// disk.
    pub async fn take_slices(&self, tenant: &TenantId, wanted: Vec<Wanted>) -> Result<Vec<i64>> {
        if wanted.iter().any(|one| one.scope.most.amount < 0 || one.welcome < 0) {
            return Err(Error::Invalid("an amount cannot be negative"));
        }
        self.commit(Taking { tenant: tenant.clone(), wanted }).await
    }

    /// Gives back parts of slices, without waiting. False if the store is closed.
    pub fn return_slices_behind(&self, tenant: &TenantId, parts: Vec<Part>) -> bool {
        self.settling(Returning { tenant: tenant.clone(), parts })
    }

    /// The same; returns after it is on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn return_slices(&self, tenant: &TenantId, parts: Vec<Part>) -> Result<()> {
        self.commit(Returning { tenant: tenant.clone(), parts }).await
    }
}

struct Taking {
    tenant: TenantId,
    wanted: Vec<Wanted>,
}

impl Operation for Taking {
    type Output = Vec<i64>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Vec<i64>> {
        let mut granted = Vec::with_capacity(self.wanted.len());
        for Wanted { scope, welcome } in &self.wanted {
            let (connection, needed) = (&mut *tx.connection, scope.most.amount);
            let room = match scope.limit {
                None => i64::MAX / 2,
                Some(limit) => {
                    let used =
                        budget::used(connection, &self.tenant, &scope.scope, scope.window_start).await?;
                    let raised = budget::raised(connection, &self.tenant, &scope.scope, tx.now).await?;
                    let limit = limit.saturating_add(raised);
                    let used = used.settled.saturating_add(used.reserved);
                    if used.saturating_add(needed) > limit {
                        return Err(crate::ledger::over(scope, limit, used));
                    }
                    limit.saturating_sub(used)
                }
            };
            let more = (*welcome).min((room - needed) / SHARE);
            granted.push(needed.saturating_add(more));
        }
        let of = |(wanted, amount): (&Wanted, &i64)| {
            (wanted.scope.scope.clone(), wanted.scope.window_start.0, *amount)
        };
        let slices: Vec<_> = self.wanted.iter().zip(&granted).map(of).collect();
        sql::query(TAKE)
            .bind(self.tenant.as_str())
            .bind(to_json("slices", &slices)?)
            .execute(&mut *tx.connection)
            .await?;
        Ok(granted)
    }
}

pub(crate) const TAKE: &str = "
    INSERT INTO budgets (tenant, scope, window_start, settled, reserved)
        SELECT $1, value ->> 0, value ->> 1, 0, value ->> 2 FROM json_each($2) WHERE true
        ON CONFLICT DO UPDATE SET reserved = reserved + excluded.reserved;
    INSERT INTO slices (tenant, scope, window_start, amount)
        SELECT $1, value ->> 0, value ->> 1, value ->> 2 FROM json_each($2) WHERE value ->> 2 > 0
        ON CONFLICT DO UPDATE SET amount = amount + excluded.amount";

struct Returning {
    tenant: TenantId,
    parts: Vec<Part>,
}

/// Of the tenant `$1`, `$2` is `[[scope, window_start, amount], …]`. It is looked at once, so that budgets and slices are
/// found by their whole key.
macro_rules! parts {
    () => {
        "
    WITH part AS MATERIALIZED (
        SELECT $1 AS tenant, CAST(value ->> 0 AS TEXT) AS scope,
            CAST(value ->> 1 AS INTEGER) AS window_start, value ->> 2 AS amount FROM json_each($2))"
    };
}

/// What is held is no longer reserved; `$more` says what else becomes of it. A slice that is used up is none.
macro_rules! take_from_slices {
    ($more:literal) => {
        concat!(
            parts!(),
            "
    UPDATE budgets SET reserved = reserved - part.amount",
            $more,
            " FROM part
        WHERE budgets.tenant = part.tenant AND budgets.scope = part.scope
            AND budgets.window_start = part.window_start;",
            parts!(),
            "
    UPDATE slices SET amount = slices.amount - part.amount FROM part
        WHERE slices.tenant = part.tenant AND slices.scope = part.scope
            AND slices.window_start = part.window_start;
    DELETE FROM slices WHERE tenant = $1 AND amount = 0
        AND (scope, window_start) IN (SELECT value ->> 0, value ->> 1 FROM json_each($2))"
        )
    };
}

/// Parts that were used.
pub(crate) const SPEND: &str = take_from_slices!(", settled = settled + part.amount");

/// Parts that were not.
pub(crate) const RETURN: &str = take_from_slices!("");

impl Operation for Returning {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let parts = self.parts.iter().map(|part| (&part.scope, part.window_start.0, part.amount));
        let parts = to_json("parts", &parts.collect::<Vec<_>>())?;
        let query = sql::query(RETURN).bind(self.tenant.as_str()).bind(parts);
        query.execute(&mut *tx.connection).await?;
        Ok(())
    }
}

/// Charges what is left of slices, whose process is gone: nobody knows which calls were under way. Returns what that
/// costs.
pub(crate) async fn charge_left(connection: &mut Connection, now: Millis) -> Result<Money> {
    let left = sql::query("SELECT tenant, amount FROM slices WHERE scope LIKE $1 AND amount > 0")
        .bind(format!("{LEDGER}/%"))
        .fetch_all(&mut *connection)
        .await?;
    let mut charged = Money::ZERO;
    for row in &left {
        let amount = row::money(row, "amount")?;
        charged = charged.plus(amount);
        sql::query(
            "INSERT INTO reservations (id, tenant, model, amount, cost, state, scopes, at, settled_at)
             VALUES ($1, $2, 'calls under way', $3, $3, 'unknown', '[]', $4, $4)",
        )
        .bind(ReservationId::new().as_bytes().as_slice())
        .bind(row::text(row, "tenant")?)
        .bind(amount.nanos())
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    }
    sql::query(
        "UPDATE budgets SET reserved = reserved - slices.amount, settled = settled + slices.amount FROM slices
             WHERE budgets.tenant = slices.tenant AND budgets.scope = slices.scope
                 AND budgets.window_start = slices.window_start;
         DELETE FROM slices",
    )
    .execute(connection)
    .await?;
    Ok(charged)
}
