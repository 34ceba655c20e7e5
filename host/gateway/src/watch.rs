//! Tells when a share of a budget is used up: once for each window, however many hosts and calls there are.
//!
//! Nobody waits for it. Each settlement adds up here; the ledger is read only when a share may have been reached, and
//! after a while, because other hosts spend, too. That a share is told once is the store's word.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chela_store::{Mark, ScopeLimit, Store};
use chela_types::{Millis, Quantity, TenantId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Settlements are gathered for so long before the ledger is read.
const GATHER: Duration = Duration::from_millis(500);
/// A budget that is used is looked at again after so long, whatever was seen of it here.
const STALE: Duration = Duration::from_secs(60);
/// Budgets remembered. With more, those are forgotten that would be looked at again anyway if they were used.
const SEEN_MAX: usize = 50_000;
/// Budgets of one look; the others are looked at when they are used again. So many that what is looked at within
/// [`STALE`] has room among those remembered: a look takes [`GATHER`] at least.
const DUE_MAX: usize = SEEN_MAX / 125;

/// The watch over all budgets.
pub(crate) struct Watch {
    store: Store,
    /// In percent, ascending.
    thresholds: Vec<u8>,
    /// A share that is not told and is looked for all the same, in percent.
    lower_at: Option<u8>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: HashMap<Name, Seen>,
    due: HashMap<Name, Due>,
    /// Somebody will look.
    is_awake: bool,
}

/// Whose, its scope, and the start of its window.
type Name = (TenantId, Arc<str>, Millis);

/// What is known of a budget.
struct Seen {
    settled: i64,
    since: i64,
    /// The next share that is to be told, in the unit.
    next: Option<i64>,
    looked: Instant,
}

/// Why a budget is looked at.
enum Due {
    Used { limit: Quantity },
    Exhausted { used: Quantity, limit: Quantity },
}

impl State {
    fn has_room(&self, name: &Name) -> bool {
        self.due.len() < DUE_MAX || self.due.contains_key(name)
    }
}

impl Watch {
    pub(crate) fn new(store: Store, thresholds: Vec<u8>, lower_at: Option<u8>) -> Arc<Self> {
        Arc::new(Self { store, thresholds, lower_at, state: Mutex::default() })
    }

    /// So much more of a budget is settled.
    pub(crate) fn used(self: &Arc<Self>, tenant: &TenantId, scope: &ScopeLimit, used: Quantity) {
        let Some(limit) = scope.limit else { return };
        if used.amount == 0 || (self.thresholds.is_empty() && self.lower_at.is_none()) {
            return;
        }
        let name = (tenant.clone(), scope.scope.clone(), scope.window_start);
        let mut state = self.state.lock();
        let is_due = state.seen.get_mut(&name).is_none_or(|seen| {
            seen.since = seen.since.saturating_add(used.amount);
            let may = seen.next.is_some_and(|next| seen.settled.saturating_add(seen.since) >= next);
            may || seen.looked.elapsed() > STALE
        });
        if is_due {
            let limit = Quantity { amount: limit, ..used };
            if state.has_room(&name) {
                state.due.entry(name).or_insert(Due::Used { limit });
            }
            self.wake(&mut state);
        }
    }

    /// The share that is used of the fullest of these budgets, in percent, as far as it is known here: what other hosts
    /// used is known a minute later at most, and of a budget that nobody used since this host began, nothing.
    pub(crate) fn fullest(&self, tenant: &TenantId, scopes: &[ScopeLimit]) -> u8 {
        let state = self.state.lock();
        let used = |scope: &ScopeLimit| {
            let name = (tenant.clone(), scope.scope.clone(), scope.window_start);
            let seen = state.seen.get(&name)?;
            Some(share(seen.settled.saturating_add(seen.since), scope.limit?))
        };
        scopes.iter().filter_map(used).max().unwrap_or_default()
    }

    /// A budget has refused a call.
    pub(crate) fn exhausted(
        self: &Arc<Self>,
        tenant: &TenantId,
        (scope, start): (&str, Millis),
        (used, limit): (Quantity, Quantity),
    ) {
        if self.thresholds.last() != Some(&100) {
            return;
        }
        let (name, mut state) = ((tenant.clone(), scope.into(), start), self.state.lock());
        if state.has_room(&name) {
            state.due.insert(name, Due::Exhausted { used, limit });
        }
        self.wake(&mut state);
    }

    fn wake(self: &Arc<Self>, state: &mut State) {
        // Without a runtime (a value dropped late) the next call looks.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !std::mem::replace(&mut state.is_awake, true) {
            let watch = Arc::clone(self);
            runtime.spawn(async move { while watch.look().await {} });
        }
    }

    /// False once there is nothing left to look at.
    async fn look(&self) -> bool {
        tokio::time::sleep(GATHER).await;
        let due = self.due();
        let mut marks: HashMap<TenantId, Vec<Mark>> = HashMap::new();
        for (name, why) in &due {
            let (tenant, scope, start) = name;
            let (percent, used, limit) = match why {
                Due::Exhausted { used, limit } => (100, *used, *limit),
                Due::Used { limit } => match self.store.budget(tenant, scope, *start).await {
                    Ok(budget) => {
                        let percent = share(budget.settled, limit.amount);
                        self.remember(name, (budget.settled, percent, limit.amount));
                        (percent, Quantity { amount: budget.settled, ..*limit }, *limit)
                    }
                    Err(error) => {
                        tracing::debug!(%error, %scope, "budget cannot be looked at");
                        continue;
                    }
                },
            };
            let reached = self.reached((&**scope, *start), (percent, format!("{used} of {limit}")));
            marks.entry(tenant.clone()).or_default().extend(reached);
        }
        for (tenant, marks) in marks.into_iter().filter(|(_, marks)| !marks.is_empty()) {
            self.tell(&tenant, marks).await;
        }
        !due.is_empty()
    }

    /// What is to be looked at now. If that is nothing, whoever comes next wakes somebody else.
    fn due(&self) -> HashMap<Name, Due> {
        let mut state = self.state.lock();
        if state.seen.len() > SEEN_MAX {
            state.seen.retain(|_, seen| seen.looked.elapsed() <= STALE);
        }
        state.is_awake = !state.due.is_empty();
        let due = std::mem::take(&mut state.due);
        for name in due.keys() {
            if let Some(seen) = state.seen.get_mut(name) {
                seen.since = 0;
            }
        }
        due
    }

    /// The shares that are reached. What is told is the highest of them.
    fn reached(&self, (scope, start): (&str, Millis), (share, told): (u8, String)) -> Vec<Mark> {
        let reached = self.thresholds.iter().rev().filter(|percent| **percent <= share);
        let mark = |(nth, percent): (usize, &u8)| Mark {
            scope: scope.to_owned(),
            window_start: start,
            percent: *percent,
            told: (nth == 0).then(|| told.clone()),
        };
        reached.enumerate().map(mark).collect()
    }

    fn remember(&self, name: &Name, (settled, share, limit): (i64, u8, i64)) {
        let next = self.thresholds.iter().chain(&self.lower_at).filter(|percent| **percent > share).min();
        let next = next.map(|percent| part(limit, *percent));
        let mut state = self.state.lock();
        // What was settled meanwhile may be in what was read already: then there is one look too many.
        let since = state.seen.get(name).map_or(0, |seen| seen.since);
        state.seen.insert(name.clone(), Seen { settled, since, next, looked: Instant::now() });
    }

    async fn tell(&self, tenant: &TenantId, marks: Vec<Mark>) {
        match self.store.mark_budgets(tenant, marks).await {
            Ok(told) => {
                for Mark { scope, percent, told, .. } in told {
                    metrics::counter!("gateway_budget_thresholds_total", "percent" => percent.to_string())
                        .increment(1);
                    tracing::warn!(scope, percent, used = told, "budget used");
                }
            }
            // Looked at again in a minute, if it is used.
            Err(error) => tracing::warn!(%error, "used budgets cannot be told"),
        }
    }
}

/// In whole percent, at most 100.
fn share(settled: i64, limit: i64) -> u8 {
    let percent = i128::from(settled.max(0)) * 100 / i128::from(limit.max(1));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// A share of a limit, rounded up: what is at it has reached it.
fn part(limit: i64, percent: u8) -> i64 {
    let part = (i128::from(limit) * i128::from(percent) + 99) / 100;
    i64::try_from(part).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{SystemClock, Unit};

    /// More people at work than are remembered: those whom nobody asks for are forgotten, and not all that is known.
    #[tokio::test]
    async fn what_is_remembered_and_looked_at_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let config = chela_store::Config::new(folder.path());
        let store = Store::open(config, Arc::new(SystemClock)).await.unwrap();
        let watch = Watch::new(store, vec![100], None);
        let tenant = TenantId::default_tenant();
        let name = |number: usize| (tenant.clone(), format!("user:{number}/day").into(), Millis(0));
        tokio::time::pause();
        (0..SEEN_MAX).for_each(|number| watch.remember(&name(number), (1, 0, 1_000)));
        tokio::time::advance(STALE + GATHER).await;
        let new = SEEN_MAX..SEEN_MAX + DUE_MAX;
        new.clone().for_each(|number| watch.remember(&name(number), (1, 0, 1_000)));
        // Nobody is to look meanwhile.
        watch.state.lock().is_awake = true;
        for number in 0..2 * DUE_MAX {
            let (_, scope, window_start) = name(number);
            let used = Quantity { unit: Unit::Dollars, amount: 1 };
            let scope = ScopeLimit { scope, window_start, limit: Some(1_000), most: used };
            watch.used(&tenant, &scope, used);
        }
        assert_eq!(watch.due().len(), DUE_MAX);
        let state = watch.state.lock();
        assert_eq!(state.seen.len(), DUE_MAX);
        assert!(new.map(name).all(|name| state.seen.contains_key(&name)));
    }
}
