//! Calls that were paid from [slices](crate::slice) are accounted for behind, all that wait at once: a busy gateway ends
//! thousands in a second, and what they took from one budget is one sum.
//!
//! They lie on a pile, which the writer takes with every commit, and which is written by itself after a moment. So whoever
//! waits for the store afterwards finds them written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chela_types::{Millis, Money, ReservationId, TenantId};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::ledger::SettledAs;
use crate::row::to_json;
use crate::slice::{Part, SPEND};
use crate::sql;
use crate::writer::{Caller, Job, Operation, Pending, Transaction};
use crate::{Result, Settlement, Store};

/// A call that was paid from slices.
#[derive(Debug, Clone)]
pub struct Spent {
    /// Who pays.
    pub tenant: TenantId,
    /// What was asked, for the record.
    pub model: String,
    /// What the call could cost at most.
    pub reserved: Money,
    /// When it was begun.
    pub at: Millis,
    /// Of each budget what was used, in its unit: of a slice, or of a budget that is counted only.
    pub parts: Vec<Part>,
    /// What it used, and what is known.
    pub settlement: Settlement,
}

/// Calls that the writer has not taken yet.
pub(crate) type Pile = Mutex<Vec<Ended>>;

/// A call, and the name of its row.
pub(crate) struct Ended {
    id: ReservationId,
    spent: Spent,
}

/// How long a call lies there until it is written, if nothing else is. Nobody waits for it, and a commit of its own would
/// cost more than the call did.
const REST: Duration = Duration::from_millis(25);

impl Store {
    /// Accounts for a call that was paid from slices, without waiting: what is awaited next finds it written. False if the
    /// store is closed: then it is charged with the slices at the next start.
    pub fn spend_behind(&self, spent: Spent) -> bool {
        if self.inner.settlements.is_closed() {
            return false;
        }
        let mut waiting = self.inner.pile.lock();
        waiting.push(Ended { id: ReservationId::new(), spent });
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            self.write_soon();
        }
        true
    }

    fn write_soon(&self) {
        let (settlements, pile) = (self.inner.settlements.clone(), Arc::clone(&self.inner.pile));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                sleep(REST).await;
                settlements.send(Spending::job(pile))
            })),
            // Whoever drops a call outside of a runtime has no clock either.
            Err(_) => drop(settlements.send(Spending::job(pile))),
        }
    }
}

/// Accounts for what lies on the pile, if there is something.
pub(crate) fn waiting(pile: &Arc<Pile>) -> Option<Box<dyn Job>> {
    (!pile.lock().is_empty()).then(|| Spending::job(Arc::clone(pile)))
}

/// Accounts for all that lies on the pile.
struct Spending {
    pile: Arc<Pile>,
    /// What was taken from it: where a commit fails, it is done again, with what has come since.
    taken: Pile,
}

impl Spending {
    fn job(pile: Arc<Pile>) -> Box<dyn Job> {
        Pending::new(Self { pile, taken: Mutex::default() }, Caller::Settles, None)
    }
}

impl Operation for Spending {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let mut taken = std::mem::take(&mut *self.taken.lock());
        taken.append(&mut self.pile.lock());
        let done = spend(tx, &taken).await;
        *self.taken.lock() = taken;
        done
    }
}

/// Of one tenant, what was used of each budget: of slices, and of what is counted only.
#[derive(Default)]
struct Sums<'a> {
    sliced: Sum<'a>,
    counted: Sum<'a>,
}

type Sum<'a> = HashMap<(&'a str, Millis), i64>;

async fn spend(tx: &mut Transaction<'_>, ended: &[Ended]) -> Result<()> {
    let mut tenants = HashMap::<&TenantId, Sums<'_>>::new();
    for Ended { id, spent } in ended {
        let sums = tenants.entry(&spent.tenant).or_default();
        for part in spent.parts.iter().filter(|part| part.amount != 0) {
            let sum = if part.is_sliced { &mut sums.sliced } else { &mut sums.counted };
            let sum = sum.entry((&part.scope, part.window_start)).or_default();
            *sum = sum.saturating_add(part.amount);
        }
        record(tx, *id, spent).await?;
    }
    for (tenant, Sums { sliced, counted }) in tenants {
        for (sum, sql) in [(sliced, SPEND), (counted, COUNT)] {
            if !sum.is_empty() {
                let rows = sum.into_iter().map(|((scope, start), amount)| (scope, start.0, amount));
                let rows = to_json("parts", &rows.collect::<Vec<_>>())?;
                sql::query(sql).bind(tenant.as_str()).bind(rows).execute(&mut *tx.connection).await?;
            }
        }
    }
    Ok(())
}

/// Budgets that have no limit.
pub(crate) const COUNT: &str = "
    INSERT INTO budgets (tenant, scope, window_start, settled, reserved)
        SELECT $1, value ->> 0, value ->> 1, value ->> 2, 0 FROM json_each($2) WHERE true
        ON CONFLICT DO UPDATE SET settled = settled + excluded.settled";

/// One row of the ledger.
async fn record(tx: &mut Transaction<'_>, id: ReservationId, spent: &Spent) -> Result<()> {
    let Spent { tenant, model, reserved, at, settlement, .. } = spent;
    let Settlement { used, call, state } = settlement;
    let (cost, state) = match state {
        SettledAs::Released => (Money::ZERO, SettledAs::Released),
        SettledAs::Settled => (used.cost, SettledAs::Settled),
        SettledAs::Open | SettledAs::Unknown => (used.cost, SettledAs::Unknown),
    };
    let call = call.as_ref().map(|call| to_json("model call", call)).transpose()?;
    sql::query(
        "INSERT INTO reservations (id, tenant, model, amount, cost, state, scopes, call, at, settled_at)
            VALUES ($1, $2, $3, $4, $5, $6, '[]', $7, $8, $9)",
    )
    .bind(id.as_bytes().as_slice())
    .bind(tenant.as_str())
    .bind(model)
    .bind(reserved.nanos())
    .bind(cost.nanos())
    .bind(state.as_str())
    .bind(call)
    .bind(at.0)
    .bind(tx.now.0)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}
