//! Budgets as they stand: what each window has used, raises for a while, and which shares of a budget were told.

use chela_types::{Millis, Quantity, TenantId};
use serde_json::json;

use crate::event::{self, EVENTS_MAX, Happened};
use crate::row::{self, to_json};
use crate::sql::{self, Connection, Row};
use crate::writer::{Operation, Transaction};
use crate::{Result, Store};

/// What a budget has used in a window, in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Used up.
    pub settled: i64,
    /// Set aside.
    pub reserved: i64,
}

/// A budget in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRow {
    /// Such as `agent:support/day`.
    pub scope: String,
    /// When its window began.
    pub window_start: Millis,
    /// What it has used.
    pub used: Budget,
    /// How much more than its limit it may use now.
    pub raised: i64,
}

/// More of a budget for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// Such as `agent:support/day`.
    pub scope: String,
    /// How much more.
    pub by: Quantity,
    /// Until when.
    pub until: Millis,
    /// Who says so.
    pub who: String,
    /// Why, in words; cut at 500 bytes.
    pub why: String,
}

/// A share of a budget that is used, to be told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Such as `agent:support/day`.
    pub scope: String,
    /// When its window began.
    pub window_start: Millis,
    /// The share.
    pub percent: u8,
    /// What is used, in words: `$16.02 of $20.00`; absent where a higher share is told in its place.
    pub told: Option<String>,
}

impl Store {
    /// What a scope has used in a window.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn budget(&self, tenant: &TenantId, scope: &str, window_start: Millis) -> Result<Budget> {
        self.read(async |connection| used(connection, tenant, scope, window_start).await).await
    }

    /// The budgets of windows that began at one of these moments, by name, at most `limit`; raises are those of `now`.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn budgets(
        &self,
        tenant: &TenantId,
        (begun, now): (&[Millis], Millis),
        limit: usize,
    ) -> Result<Vec<BudgetRow>> {
        let begun = to_json("windows", &begun.iter().map(|begun| begun.0).collect::<Vec<_>>())?;
        self.read(async |connection| {
            let rows = sql::query(STANDING)
                .bind(tenant.as_str())
                .bind(&begun)
                .bind(now.0)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await?;
            rows.iter().map(budget_row).collect()
        })
        .await
    }

    /// Raises a budget for a while, and keeps by whom and why among the events, in one step.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn raise_budget(&self, tenant: &TenantId, raise: Raise) -> Result<()> {
        self.commit(Raising { tenant: tenant.clone(), raise }).await
    }

    /// Tells of shares that are used up, each once, whoever asks how often: as events. Returns those that were told.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn mark_budgets(&self, tenant: &TenantId, marks: Vec<Mark>) -> Result<Vec<Mark>> {
        self.commit(Marking { tenant: tenant.clone(), marks }).await
    }

    /// Forgets at most `limit` windows that began before `before` and whose scope is like `like` (`%/minute%`), as SQL
    /// understands it, but none in which something is set aside. Returns how many.
    ///
    /// # Errors
    /// Those of the disk; nothing of this part is forgotten then.
    pub async fn purge_budgets(
        &self,
        tenant: &TenantId,
        (before, like): (Millis, &'static str),
        limit: usize,
    ) -> Result<usize> {
        self.commit(Purging { tenant: tenant.clone(), before, like, limit }).await
    }
}

pub(crate) const STANDING: &str = "
    SELECT b.scope, b.window_start, b.settled, b.reserved,
        coalesce((SELECT sum(amount) FROM budget_raises AS r
            WHERE r.tenant = $1 AND r.scope = b.scope AND r.until > $3), 0) AS raised
    FROM json_each($2) AS begun CROSS JOIN budgets AS b INDEXED BY budgets_begun
        ON b.tenant = $1 AND b.window_start = begun.value
    ORDER BY b.scope LIMIT $4 + 0";

fn budget_row(row: &Row) -> Result<BudgetRow> {
    Ok(BudgetRow {
        scope: row::get(row, "scope")?,
        window_start: Millis(row::get(row, "window_start")?),
        used: budget(row)?,
        raised: row::get(row, "raised")?,
    })
}

fn budget(row: &Row) -> Result<Budget> {
    Ok(Budget { settled: row::get(row, "settled")?, reserved: row::get(row, "reserved")? })
}

/// What a scope has used in a window.
pub(crate) async fn used(
    connection: &mut Connection,
    tenant: &TenantId,
    scope: &str,
    window_start: Millis,
) -> Result<Budget> {
    let row = sql::query(
        "SELECT settled, reserved FROM budgets WHERE tenant = $1 AND scope = $2 AND window_start = $3",
    )
    .bind(tenant.as_str())
    .bind(scope)
    .bind(window_start.0)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map_or(Ok(Budget::default()), budget)
}

/// How much more than its limit a scope may use now.
pub(crate) async fn raised(
    connection: &mut Connection,
    tenant: &TenantId,
    scope: &str,
    now: Millis,
) -> Result<i64> {
    let sum = sql::query(
        "SELECT coalesce(sum(amount), 0) FROM budget_raises WHERE tenant = $1 AND scope = $2 AND until > $3",
    );
    Ok(sum.bind(tenant.as_str()).bind(scope).bind(now.0).fetch_value(connection).await?)
}

struct Raising {
    tenant: TenantId,
    raise: Raise,
}

impl Operation for Raising {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let Raise { scope, by, until, who, why } = &self.raise;
        sql::query(
            "INSERT INTO budget_raises (tenant, scope, amount, until, at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(self.tenant.as_str())
        .bind(scope)
        .bind(by.amount)
        .bind(until.0)
        .bind(tx.now.0)
        .execute(&mut *tx.connection)
        .await?;
        let detail = json!({ "scope": scope, "unit": by.unit, "amount": by.amount, "until": until });
        let why = format!("{scope} by {by}: {why}");
        tell(tx, &self.tenant, ("budget raised", who, why), detail).await
    }
}

struct Marking {
    tenant: TenantId,
    marks: Vec<Mark>,
}

impl Operation for Marking {
    type Output = Vec<Mark>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Vec<Mark>> {
        let mut new = Vec::new();
        for mark in &self.marks {
            let Mark { scope, window_start, percent, told } = mark;
            let written = sql::query(
                "INSERT INTO budget_marks (tenant, scope, window_start, percent) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING",
            )
            .bind(self.tenant.as_str())
            .bind(scope)
            .bind(window_start.0)
            .bind(*percent)
            .execute(&mut *tx.connection)
            .await?;
            if let Some(told) = told.as_ref().filter(|_| written > 0) {
                let detail = json!({ "scope": scope, "percent": percent });
                let why = format!("{scope}: {told}");
                tell(tx, &self.tenant, ("budget used", "gateway", why), detail).await?;
                new.push(mark.clone());
            }
        }
        Ok(new)
    }
}

async fn tell(
    tx: &mut Transaction<'_>,
    tenant: &TenantId,
    (what, by, why): (&str, &str, String),
    detail: serde_json::Value,
) -> Result<()> {
    let happened =
        Happened { plugin: None, digest: None, what: what.to_owned(), by: by.to_owned(), why, detail };
    event::append(tx, tenant, &event::prepare(vec![happened])?, EVENTS_MAX).await
}

struct Purging {
    tenant: TenantId,
    before: Millis,
    like: &'static str,
    limit: usize,
}

pub(crate) const PURGE: &str = "
    DELETE FROM budgets WHERE tenant = $1 AND (scope, window_start) IN (
        SELECT scope, window_start FROM budgets INDEXED BY budgets_begun
        WHERE tenant = $1 AND window_start < $2 AND scope LIKE $3 AND reserved = 0
        ORDER BY window_start LIMIT $4 + 0)";

const UNMARK: &str = "DELETE FROM budget_marks WHERE tenant = $1 AND window_start < $2 AND scope LIKE $3";

impl Operation for Purging {
    type Output = usize;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<usize> {
        let gone = sql::query(PURGE)
            .bind(self.tenant.as_str())
            .bind(self.before.0)
            .bind(self.like)
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .execute(&mut *tx.connection)
            .await?;
        let (tenant, before) = (self.tenant.as_str(), self.before.0);
        sql::query(UNMARK).bind(tenant).bind(before).bind(self.like).execute(&mut *tx.connection).await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }
}
