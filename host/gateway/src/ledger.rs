//! A reservation as a value: it cannot be forgotten.
//!
//! Whatever happens to a call (an answer, an error, a caller that stops listening, a panic), dropping the
//! value settles it. Settling is not awaited: the store writes settlements first of all, so it is on the disk no
//! later than the answer that was paid for.

use std::sync::Arc;
use std::time::Duration;

use chela_store::{LEDGER, Reserve, ScopeLimit, SettledAs, Settlement, Spent, Store, Used};
use chela_types::{Fault, Millis, ModelCall, Money, Quantity, ReservationId, Retry, TenantId, Unit};
use jiff::tz::TimeZone;

use crate::escrow::{Escrow, Hold};
use crate::watch::Watch;
use crate::{Budgets, Call, Error, Kind, Limit, Purse, Tab, Window};

/// Where money is set aside.
pub(crate) struct Purses {
    pub(crate) store: Store,
    pub(crate) escrow: Arc<Escrow>,
    pub(crate) watch: Arc<Watch>,
}

/// What is set aside for one call.
pub(crate) struct Reservation {
    purses: Arc<Purses>,
    tenant: TenantId,
    model: String,
    at: Millis,
    held: Option<Held>,
    tab: Tab,
    pub(crate) most: Used,
}

/// How it is set aside.
enum Held {
    /// By a row of its own, under the lease of a turn; with the budgets that have limits.
    Row(ReservationId, Vec<ScopeLimit>),
    /// From slices.
    Slices(Hold),
}

impl Reservation {
    /// Sets `most` aside in every budget that applies: for a turn by a row of its own, which its lease guards; for others
    /// from slices, so that they need not wait for the disk.
    pub(crate) async fn make(
        purses: &Arc<Purses>,
        budgets: &Budgets,
        call: &Call,
        (most, now): (Used, Millis),
    ) -> Result<Self, Error> {
        let applied = applied(budgets, call);
        let scopes: Vec<_> = applied.iter().map(|one| one.scope(budgets, (most, now))).collect();
        let held = match call.lease {
            Some(_) => {
                let limited: Vec<_> = scopes.iter().filter(|scope| scope.limit.is_some()).cloned().collect();
                purses.row(call, (scopes, most.cost), &limited).await.map(|id| Held::Row(id, limited))
            }
            None => purses.slices(call, scopes, (most.cost, now)).await.map(Held::Slices),
        };
        match held {
            Ok(held) => Ok(Self {
                purses: Arc::clone(purses),
                tenant: call.tenant.clone(),
                model: call.tier.to_string(),
                at: now,
                held: Some(held),
                tab: call.tab.clone(),
                most,
            }),
            Err(chela_store::Error::OverBudget { scope, limit, used }) => {
                let of = applied.iter().find(|one| *one.name == *scope);
                let window = of.map_or(Window::Day, |one| one.window);
                let start = window.start(now, &budgets.zone);
                purses.watch.exhausted(&call.tenant, (&scope, start), (used, limit));
                let again = window.end(now, &budgets.zone).0.saturating_sub(now.0);
                let again = Duration::from_millis(u64::try_from(again).unwrap_or_default());
                Err(Error::new(Kind::OverBudget { scope, limit, used, again }))
            }
            Err(error) => {
                let again = error.retry() != Retry::Never;
                Err(Error::new(Kind::Ledger { blame: error.blame(), again }).because(error))
            }
        }
    }

    /// What was used is known.
    pub(crate) fn settle(&mut self, call: ModelCall) {
        self.close(SettledAs::Settled, used(&call), Some(call));
    }

    /// Nobody says what was used; it is what the record says at most.
    pub(crate) fn unknown(&mut self, call: ModelCall) {
        self.close(SettledAs::Unknown, used(&call), Some(call));
    }

    /// Nothing was used.
    pub(crate) fn release(&mut self, call: Option<ModelCall>) {
        self.close(SettledAs::Released, Used::default(), call);
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.held.is_some()
    }

    fn close(&mut self, state: SettledAs, used: Used, call: Option<ModelCall>) {
        let Some(held) = self.held.take() else { return };
        let used = Used {
            cost: used.cost.min(self.most.cost),
            tokens: used.tokens.min(self.most.tokens),
            requests: used.requests.min(self.most.requests),
        };
        let settlement = Settlement { used, call, state };
        let scopes = match held {
            Held::Row(id, limited) => {
                // If the store is closed, the reservation stays open and is charged in full at the next start.
                let _queued = self.purses.store.settle_behind(id, settlement);
                limited
            }
            Held::Slices(hold) => {
                let spent = Spent {
                    tenant: self.tenant.clone(),
                    model: std::mem::take(&mut self.model),
                    reserved: self.most.cost,
                    at: self.at,
                    parts: Vec::new(),
                    settlement,
                };
                self.purses.escrow.spend(&hold, spent, |scope| of(used, scope.most.unit).amount);
                hold.scopes
            }
        };
        for scope in &scopes {
            self.purses.watch.used(&self.tenant, scope, of(used, scope.most.unit));
        }
    }
}

impl Purses {
    async fn row(
        &self,
        call: &Call,
        (scopes, amount): (Vec<ScopeLimit>, Money),
        limited: &[ScopeLimit],
    ) -> Result<ReservationId, chela_store::Error> {
        let reserve = Reserve {
            lease: call.lease.clone(),
            tenant: call.tenant.clone(),
            turn: call.turn,
            scopes,
            amount,
            model: call.tier.to_string(),
        };
        match self.store.reserve(reserve.clone()).await {
            // What is lacking may lie in slices that nobody uses at this moment.
            Err(chela_store::Error::OverBudget { .. }) if self.escrow.give_back(&call.tenant, limited) => {
                self.store.reserve(reserve).await
            }
            reserved => reserved,
        }
    }

    async fn slices(
        &self,
        call: &Call,
        mut scopes: Vec<ScopeLimit>,
        (cost, now): (Money, Millis),
    ) -> Result<Hold, chela_store::Error> {
        let window_start = Window::Day.start(now, &TimeZone::UTC);
        let scope = format!("{LEDGER}/{}", Window::Day.as_str()).into();
        scopes.push(ScopeLimit { scope, window_start, limit: None, most: cost.into() });
        let is_held =
            |of: &ScopeLimit| of.most.amount > 0 && (of.limit.is_some() || of.scope.starts_with(LEDGER));
        let (held, counted) = scopes.into_iter().partition(is_held);
        self.escrow.hold(&call.tenant, held, counted).await
    }
}

impl Drop for Reservation {
    /// Nobody says what was done: all of it may have been, unless somebody else asked.
    fn drop(&mut self) {
        match self.tab.is_shared() {
            true => self.release(None),
            false => self.close(SettledAs::Unknown, self.most, None),
        }
    }
}

/// What a call used, as its record says. An answer that was kept or shared asked nobody.
fn used(call: &ModelCall) -> Used {
    Used { cost: call.cost, tokens: call.charged, requests: u64::from(call.cache.is_asked()) }
}

/// So much of one unit.
fn of(used: Used, unit: Unit) -> Quantity {
    match unit {
        Unit::Dollars => used.cost.into(),
        Unit::Tokens => used.tokens.into(),
        Unit::Requests => Quantity::requests(i64::try_from(used.requests).unwrap_or(i64::MAX)),
    }
}

/// As many budgets as most calls count against, and the ledger's own.
const APPLIED: usize = 12;

/// A budget that a call counts against.
struct Applied {
    /// In the ledger.
    name: Arc<str>,
    window: Window,
    limit: Option<i64>,
    unit: Unit,
}

impl Applied {
    fn scope(&self, budgets: &Budgets, (most, now): (Used, Millis)) -> ScopeLimit {
        ScopeLimit {
            scope: self.name.clone(),
            window_start: self.window.start(now, &budgets.zone),
            limit: self.limit,
            most: of(most, self.unit),
        }
    }
}

/// The budgets that may refuse a call.
pub(crate) fn limited(budgets: &Budgets, call: &Call, now: Millis) -> Vec<ScopeLimit> {
    let applied = applied(budgets, call).into_iter().filter(|one| one.limit.is_some());
    applied.map(|one| one.scope(budgets, (Used::default(), now))).collect()
}

/// The budgets that a call counts against. Where there is none in dollars, a day's are counted all the same, for the
/// reports.
fn applied(budgets: &Budgets, call: &Call) -> Vec<Applied> {
    let mut all = Vec::with_capacity(APPLIED);
    let mut add = |scope: &str, limits: &[Limit]| {
        if !limits.iter().any(|limit| limit.most.unit == Unit::Dollars) {
            let counted = Limit { most: Quantity { unit: Unit::Dollars, amount: 0 }, window: Window::Day };
            let (name, window, unit) = (counted.scope(scope).into(), counted.window, Unit::Dollars);
            all.push(Applied { name, window, limit: None, unit });
        }
        all.extend(limits.iter().map(|limit| Applied {
            name: limit.scope(scope).into(),
            window: limit.window,
            limit: Some(limit.most.amount),
            unit: limit.most.unit,
        }));
    };
    match &call.purse {
        Purse::Turn => {
            add(&format!("agent:{}", call.agent), budgets.agent.of(&call.agent));
            add(&format!("user:{}", call.user), &budgets.user);
            if let Some(id) = &call.channel {
                add(&format!("channel:{id}"), budgets.channel.of(id));
            }
            if let Some(id) = &call.department {
                add(&format!("department:{id}"), budgets.department.of(id));
            }
        }
        Purse::Apart(name) => add(name, &budgets.apart),
        Purse::Key(name) => {
            add(&format!("key:{name}"), budgets.key.of(name));
            add(&format!("user:{}", call.user), &budgets.user);
            if let Some(id) = &call.department {
                add(&format!("department:{id}"), budgets.department.of(id));
            }
        }
    }
    if !budgets.global.is_empty() {
        add("global", &budgets.global);
    }
    all
}
