//! Calls that wait for no disk: they are paid from slices of the budgets that this process has taken durably before.
//!
//! A slice is taken when a budget has none here, and behind when it runs low; a call takes its worst case from it in
//! memory and gives back what it did not use. What is not used for a while goes back to the budget, so that it is
//! there for others. The idea is escrow, as in O'Neil's method for counters that many change at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chela_store::{Part, ScopeLimit, Spent, Store, Wanted};
use chela_types::{Millis, Quantity, TenantId};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A slice is filled up behind to so many calls like the last one beside those that are held, or to one part in so many
/// of its budget: others want something of it, and after a crash it is lost.
const CALLS: i64 = 16;
const SHARE: i64 = 64;
/// One that runs low again so soon is filled up with twice as much, up to so many calls: each filling is a commit, and
/// calls that outrun it wait. After a long time it is half.
const OFTEN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(4);
const CALLS_MAX: i64 = 1_024;
/// Longest wait of a call for a slice that is being filled.
const FILL: Duration = Duration::from_millis(50);
/// Longest wait for it when the process stops.
const CLOSE: Duration = Duration::from_secs(2);
/// What nobody has used for so long goes back.
const IDLE: Duration = Duration::from_secs(10);
/// How often that is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// So many calls are accounted for behind; the next one waits until the disk has them. A call that used nothing takes
/// nothing of a slice, so no slice bounds them.
const BEHIND_MAX: usize = 4_096;

/// The slices of this process.
pub(crate) struct Escrow {
    store: Store,
    state: Mutex<State>,
    /// Calls that came to their end since the last wait for the disk.
    behind: AtomicUsize,
}

#[derive(Default)]
struct State {
    slices: HashMap<Name, Slice>,
    /// Somebody looks for what is not used.
    is_awake: bool,
    /// What calls give back goes back at once.
    is_closed: bool,
}

/// Whose, its scope, and the start of its window.
type Name = (TenantId, Arc<str>, Millis);

/// What is held of a budget.
struct Slice {
    free: i64,
    held: i64,
    used: Instant,
    is_filling: bool,
    /// It is filled up to so many calls, and was so last.
    calls: i64,
    filled: Instant,
}

/// What one call holds. It must come to its end: [`Escrow::spend`].
pub(crate) struct Hold {
    pub(crate) scopes: Vec<ScopeLimit>,
    /// Counted only: nothing is held of them.
    pub(crate) counted: Vec<ScopeLimit>,
}

impl Escrow {
    pub(crate) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store, state: Mutex::default(), behind: AtomicUsize::new(0) })
    }

    /// Holds the most that a call can use of each budget: from memory where that is there, after a commit otherwise.
    ///
    /// # Errors
    /// The store's: [`chela_store::Error::OverBudget`] with the first budget that has no room.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        tenant: &TenantId,
        scopes: Vec<ScopeLimit>,
        counted: Vec<ScopeLimit>,
    ) -> Result<Hold, chela_store::Error> {
        if self.behind.load(Ordering::Relaxed) >= BEHIND_MAX {
            self.behind.store(0, Ordering::Relaxed);
            self.store.return_slices(tenant, Vec::new()).await?;
        }
        for last in [false, true] {
            match self.try_hold(tenant, &scopes).await {
                Ok(()) => break,
                // A slice that is being filled may have taken what there was.
                Err(chela_store::Error::OverBudget { .. })
                    if !last && self.has_come(tenant, &scopes).await => {}
                Err(error) => return Err(error),
            }
        }
        self.fill(tenant, &scopes);
        Ok(Hold { scopes, counted })
    }

    async fn try_hold(
        self: &Arc<Self>,
        tenant: &TenantId,
        scopes: &[ScopeLimit],
    ) -> Result<(), chela_store::Error> {
        let (held, lacking) = self.take(tenant, scopes);
        if lacking.is_empty() {
            return Ok(());
        }
        // Whoever stops waiting here keeps nothing: neither what he has, nor what comes too late for him.
        let mut there = self.held(tenant, held);
        let (escrow, of) = (Arc::clone(self), tenant.clone());
        let (ours, theirs) = oneshot::channel();
        tokio::spawn(async move {
            let fetched = escrow.fetch(&of, &lacking).await;
            let _ = ours.send(fetched.map(|()| escrow.held(&of, lacking)));
        });
        let mut fetched = theirs.await.map_err(|_| chela_store::Error::Closed)??;
        there.scopes.clear();
        fetched.scopes.clear();
        Ok(())
    }

    fn held(self: &Arc<Self>, tenant: &TenantId, scopes: Vec<ScopeLimit>) -> Held {
        Held { escrow: Arc::clone(self), tenant: tenant.clone(), scopes }
    }

    /// Takes what is there. Where something is lacking, returns how much of each budget it took, and how much of each is
    /// lacking.
    fn take(&self, tenant: &TenantId, scopes: &[ScopeLimit]) -> (Vec<ScopeLimit>, Vec<ScopeLimit>) {
        let mut state = self.state.lock();
        let (mut held, mut lacking) = (Vec::new(), Vec::new());
        if state.holds(tenant, scopes) {
            return (held, lacking);
        }
        for scope in scopes {
            let slice = state.slices.get_mut(&name(tenant, scope));
            let there = slice.map_or(0, |slice| slice.hold(scope.most.amount));
            held.push(with(scope, there));
            if there < scope.most.amount {
                lacking.push(with(scope, scope.most.amount - there));
            }
        }
        (held, lacking)
    }

    /// Takes slices of what is lacking, and holds them.
    async fn fetch(&self, tenant: &TenantId, scopes: &[ScopeLimit]) -> Result<(), chela_store::Error> {
        let wanted = scopes.iter().map(|scope| Wanted { scope: scope.clone(), welcome: 0 }).collect();
        let granted = self.store.take_slices(tenant, wanted).await?;
        let mut state = self.state.lock();
        for (scope, granted) in scopes.iter().zip(granted) {
            let slice = state.slices.entry(name(tenant, scope)).or_insert_with(Slice::new);
            slice.free = slice.free.saturating_add(granted);
            slice.hold(scope.most.amount);
        }
        Ok(())
    }

    /// Whether there is enough of each budget, and whether one of them is being filled.
    fn stands(&self, tenant: &TenantId, scopes: &[ScopeLimit]) -> (bool, bool) {
        let state = self.state.lock();
        let of = |scope: &ScopeLimit| state.slices.get(&name(tenant, scope));
        let is_there =
            scopes.iter().all(|scope| of(scope).is_some_and(|slice| slice.free >= scope.most.amount));
        (is_there, scopes.iter().any(|scope| of(scope).is_some_and(|slice| slice.is_filling)))
    }

    /// Whether there is enough of each budget once what is being filled is full.
    async fn has_come(&self, tenant: &TenantId, scopes: &[ScopeLimit]) -> bool {
        let until = Instant::now() + FILL;
        loop {
            let (is_there, is_filling) = self.stands(tenant, scopes);
            if is_there || !is_filling || Instant::now() >= until {
                return is_there;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Fills up behind what runs low, one filling at a time for each budget; and sees to it that somebody looks for what
    /// is not used.
    fn fill(self: &Arc<Self>, tenant: &TenantId, scopes: &[ScopeLimit]) {
        let mut low = Vec::new();
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        for scope in scopes {
            let slice = state.slices.get_mut(&name(tenant, scope));
            let Some(slice) = slice.filter(|slice| !slice.is_filling) else { continue };
            if slice.free < slice.full(scope) / 2 {
                slice.is_filling = true;
                slice.runs_low();
                low.push((scope.clone(), slice.full(scope).saturating_sub(slice.free)));
            }
        }
        if !std::mem::replace(&mut state.is_awake, true) {
            tokio::spawn(look(Arc::downgrade(self)));
        }
        drop(state);
        if !low.is_empty() {
            let (escrow, tenant) = (Arc::clone(self), tenant.clone());
            tokio::spawn(async move { escrow.filled(&tenant, low).await });
        }
    }

    async fn filled(&self, tenant: &TenantId, low: Vec<(ScopeLimit, i64)>) {
        let wanted =
            |(scope, welcome): &(ScopeLimit, i64)| Wanted { scope: with(scope, 0), welcome: *welcome };
        let wanted = low.iter().map(wanted).collect();
        // One that is over its limit already refuses even nothing: then the calls find out.
        let granted = self.store.take_slices(tenant, wanted).await.unwrap_or_default();
        let granted = granted.into_iter().chain(std::iter::repeat(0));
        let mut state = self.state.lock();
        for ((scope, _), granted) in low.iter().zip(granted) {
            if granted > 0 {
                let slice = state.slices.entry(name(tenant, scope)).or_insert_with(Slice::new);
                slice.free = slice.free.saturating_add(granted);
            }
            if let Some(slice) = state.slices.get_mut(&name(tenant, scope)) {
                slice.is_filling = false;
            }
        }
    }

    /// A call has come to its end. `used` says how much of a budget it used.
    pub(crate) fn spend(&self, hold: &Hold, mut spent: Spent, used: impl Fn(&ScopeLimit) -> i64) {
        let part = |scope: &ScopeLimit, is_sliced| Part {
            scope: scope.scope.clone(),
            window_start: scope.window_start,
            amount: used(scope),
            is_sliced,
        };
        spent.parts = hold.scopes.iter().map(|scope| part(scope, true)).collect();
        spent.parts.extend(hold.counted.iter().map(|scope| part(scope, false)));
        let tenant = spent.tenant.clone();
        // If the store is closed, all of it is charged with the slices at the next start.
        if !self.store.spend_behind(spent) {
            return;
        }
        self.behind.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let (is_closed, mut back) = (state.is_closed, Vec::new());
        for scope in &hold.scopes {
            if let Some(slice) = state.slices.get_mut(&name(&tenant, scope)) {
                slice.release(scope.most.amount, used(scope));
                let enough = if is_closed { 0 } else { slice.full(scope).max(scope.most.amount) };
                if slice.free > enough * 2 {
                    let amount = slice.free - enough;
                    slice.free = enough;
                    back.push(Part { amount, ..part(scope, true) });
                }
            }
        }
        drop(state);
        if !back.is_empty() {
            self.store.return_slices_behind(&tenant, back);
        }
    }

    /// Nothing of it was used.
    fn release(&self, tenant: &TenantId, scopes: &[ScopeLimit]) {
        let mut state = self.state.lock();
        for scope in scopes {
            if let Some(slice) = state.slices.get_mut(&name(tenant, scope)) {
                slice.release(scope.most.amount, 0);
            }
        }
    }

    /// Gives back what is free of these budgets, for somebody who asks the store for it next. False if there was nothing.
    /// Not awaited: who stopped waiting would lose it, and the store settles before it reserves.
    pub(crate) fn give_back(&self, tenant: &TenantId, scopes: &[ScopeLimit]) -> bool {
        let mut state = self.state.lock();
        let part = |scope: &ScopeLimit| {
            let slice = state.slices.get_mut(&name(tenant, scope)).filter(|slice| slice.free > 0)?;
            let amount = std::mem::take(&mut slice.free);
            let (scope, window_start) = (scope.scope.clone(), scope.window_start);
            Some(Part { scope, window_start, amount, is_sliced: true })
        };
        let parts: Vec<Part> = scopes.iter().filter_map(part).collect();
        drop(state);
        !parts.is_empty() && self.store.return_slices_behind(tenant, parts)
    }

    /// Gives back all that is free, and keeps nothing at hand any more.
    pub(crate) async fn close(&self) {
        self.state.lock().is_closed = true;
        self.drain().await;
    }

    /// Gives back all that is free, what is being filled included.
    pub(crate) async fn drain(&self) {
        let until = Instant::now() + CLOSE;
        while self.state.lock().slices.values().any(|slice| slice.is_filling) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let parts = self.state.lock().drained(|_, _| true);
        for (tenant, parts) in parts {
            // Who stops waiting loses nothing: it is on its way before.
            self.store.return_slices_behind(&tenant, parts);
            if let Err(error) = self.store.return_slices(&tenant, Vec::new()).await {
                tracing::warn!(%error, "slices of budgets are not given back; they are charged at the next start");
            }
        }
    }
}

impl Drop for Escrow {
    fn drop(&mut self) {
        for (tenant, parts) in self.state.get_mut().drained(|_, _| true) {
            self.store.return_slices_behind(&tenant, parts);
        }
    }
}

impl Slice {
    fn new() -> Self {
        let now = Instant::now();
        Self { free: 0, held: 0, used: now, is_filling: false, calls: CALLS, filled: now }
    }

    /// How much is kept at hand: the more, the more calls there are at once, and in a while.
    fn full(&self, scope: &ScopeLimit) -> i64 {
        let calls = scope.most.amount.saturating_mul(self.calls).saturating_add(self.held);
        scope.limit.map_or(calls, |limit| calls.min(limit / SHARE))
    }

    fn runs_low(&mut self) {
        let since = self.filled.elapsed();
        if since < OFTEN {
            self.calls = (self.calls * 2).min(CALLS_MAX);
        } else if since > SELDOM {
            self.calls = (self.calls / 2).max(CALLS);
        }
        self.filled = Instant::now();
    }

    /// Holds so much, or all that is free; returns how much.
    fn hold(&mut self, amount: i64) -> i64 {
        let there = amount.min(self.free);
        self.free -= there;
        self.held += there;
        self.used = Instant::now();
        there
    }

    /// Ends a hold of which so much was used up.
    fn release(&mut self, held: i64, used: i64) {
        self.held -= held;
        self.free += held - used;
        self.used = Instant::now();
    }
}

impl State {
    /// Holds all of it, or nothing if something is lacking.
    fn holds(&mut self, tenant: &TenantId, scopes: &[ScopeLimit]) -> bool {
        let amount = |scope: &ScopeLimit| scope.most.amount;
        for (index, scope) in scopes.iter().enumerate() {
            let slice = self.slices.get_mut(&name(tenant, scope));
            let Some(slice) = slice.filter(|slice| slice.free >= amount(scope)) else {
                for scope in scopes.iter().take(index) {
                    if let Some(slice) = self.slices.get_mut(&name(tenant, scope)) {
                        slice.release(amount(scope), 0);
                    }
                }
                return false;
            };
            slice.hold(amount(scope));
        }
        true
    }

    /// Takes what is free of some slices, by tenant.
    fn drained(&mut self, which: impl Fn(&Name, &Slice) -> bool) -> HashMap<TenantId, Vec<Part>> {
        let mut parts: HashMap<TenantId, Vec<Part>> = HashMap::new();
        for (name, slice) in &mut self.slices {
            if slice.free > 0 && which(name, slice) {
                let (tenant, scope, window_start) = name.clone();
                let amount = std::mem::take(&mut slice.free);
                parts.entry(tenant).or_default().push(Part { scope, window_start, amount, is_sliced: true });
            }
        }
        self.slices.retain(|_, slice| slice.free > 0 || slice.held > 0 || slice.is_filling);
        parts
    }
}

/// Gives back what is not used, as long as something is held here.
async fn look(escrow: Weak<Escrow>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(escrow) = escrow.upgrade() else { return };
        let (parts, is_awake) = {
            let mut state = escrow.state.lock();
            let parts = state.drained(|_, slice| slice.used.elapsed() >= IDLE);
            state.is_awake = !state.slices.is_empty();
            (parts, state.is_awake)
        };
        for (tenant, parts) in parts {
            escrow.store.return_slices_behind(&tenant, parts);
        }
        // Whoever takes a slice from here on begins to look anew.
        if !is_awake {
            return;
        }
    }
}

/// What is held for a call that still waits for the rest; given back if it does not come to it.
struct Held {
    escrow: Arc<Escrow>,
    tenant: TenantId,
    scopes: Vec<ScopeLimit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.escrow.release(&self.tenant, &self.scopes);
    }
}

/// The same budget with another amount.
fn with(scope: &ScopeLimit, amount: i64) -> ScopeLimit {
    ScopeLimit { most: Quantity { amount, ..scope.most }, ..scope.clone() }
}

fn name(tenant: &TenantId, scope: &ScopeLimit) -> Name {
    (tenant.clone(), scope.scope.clone(), scope.window_start)
}

#[cfg(test)]
#[path = "escrow_tests.rs"]
mod tests;
