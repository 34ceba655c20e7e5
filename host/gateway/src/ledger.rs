//! A reservation as a value: it cannot be forgotten.
//!
//! Whatever happens to a call (an answer, an error, a caller that stops listening, a panic), dropping the
//! value settles it. Settling is not awaited: the store writes settlements first of all, so it is on the disk no
//! later than the answer that was paid for.

use chela_store::{Reserve, ScopeLimit, SettledAs, Settlement, Store};
use chela_types::{Fault, Millis, ModelCall, Money, ReservationId, Retry};

use crate::{Budgets, Call, Error, Kind, Limit, Purse, Window};

/// Money set aside for one call.
pub(crate) struct Reservation {
    store: Store,
    id: Option<ReservationId>,
    pub(crate) amount: Money,
}

impl Reservation {
    /// Sets `amount` aside in every budget that applies.
    pub(crate) async fn make(
        store: &Store,
        budgets: &Budgets,
        call: &Call,
        (amount, now): (Money, Millis),
    ) -> Result<Self, Error> {
        let reserve = Reserve {
            lease: call.lease.clone(),
            tenant: call.tenant.clone(),
            turn: call.turn,
            scopes: scopes(budgets, call, now),
            amount,
            model: call.tier.to_string(),
        };
        let id = store.reserve(reserve).await.map_err(refused)?;
        Ok(Self { store: store.clone(), id: Some(id), amount })
    }

    /// The cost is known.
    pub(crate) fn settle(&mut self, cost: Money, call: ModelCall) {
        self.close(SettledAs::Settled, cost, Some(call));
    }

    /// Nobody says what was spent; it is `cost` at most.
    pub(crate) fn unknown(&mut self, cost: Money, call: Option<ModelCall>) {
        self.close(SettledAs::Unknown, cost.min(self.amount), call);
    }

    /// Nothing was spent.
    pub(crate) fn release(&mut self, call: Option<ModelCall>) {
        self.close(SettledAs::Released, Money::ZERO, call);
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.id.is_some()
    }

    fn close(&mut self, state: SettledAs, cost: Money, call: Option<ModelCall>) {
        if let Some(id) = self.id.take() {
            // If the store is closed, the reservation stays open and is charged in full at the next start.
            let _queued = self.store.settle_behind(id, Settlement { cost, call, state });
        }
    }
}

impl Drop for Reservation {
    /// Nobody says what was done: all of it may have been.
    fn drop(&mut self) {
        self.unknown(self.amount, None);
    }
}

/// The budgets that a call counts against. One without a limit is counted all the same, for the reports.
fn scopes(budgets: &Budgets, call: &Call, now: Millis) -> Vec<ScopeLimit> {
    let scope = |scope: String, limit: Option<Limit>| ScopeLimit {
        scope,
        window_start: limit.map_or(Window::Day, |limit| limit.window).start(now, &budgets.zone),
        limit: limit.map(|limit| limit.amount),
    };
    let mut scopes = match call.purse {
        Purse::Turn => {
            let channel =
                call.channel.as_ref().map(|id| scope(format!("channel:{id}"), budgets.channel.of(id)));
            let department = call
                .department
                .as_ref()
                .map(|id| scope(format!("department:{id}"), budgets.department.of(id)));
            let agent = scope(format!("agent:{}", call.agent), budgets.agent.of(&call.agent));
            let user = scope(format!("user:{}", call.user), budgets.user);
            [agent, user].into_iter().chain(channel).chain(department).collect()
        }
        Purse::Apart(name) => vec![scope(name.to_owned(), budgets.apart)],
    };
    scopes.extend(budgets.global.map(|limit| scope("global".into(), Some(limit))));
    scopes
}

fn refused(error: chela_store::Error) -> Error {
    match error {
        chela_store::Error::OverBudget { scope, limit, used } => {
            Error::new(Kind::OverBudget { scope, limit, used })
        }
        error => {
            let again = error.retry() != Retry::Never;
            Error::new(Kind::Ledger { blame: error.blame(), again }).because(error)
        }
    }
}
