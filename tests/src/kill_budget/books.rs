//! What the store says: how budgets stand while the host runs, what a kill left, and every row of the ledger in the end.

use std::collections::BTreeMap;
use std::path::Path;

use chela_gateway::Budgets;
use chela_store::{LEDGER, LedgerRow, SettledAs, Store};
use chela_types::{Clock, Millis, Money, SystemClock, TenantId};

/// More budgets than there are.
const BUDGETS_MAX: usize = 10_000;
/// A row of this name is what was left of slices.
const UNDER_WAY: &str = "calls under way";

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Used.
    pub settled: Money,
    /// Set aside: by rows, and in slices.
    pub reserved: Money,
}

/// What a kill left of a round's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Killed {
    /// How the budget stood.
    pub standing: Standing,
    /// Of what was set aside, by rows of turns.
    pub rows: Money,
    /// In the slice of the ledger, which every call without a turn holds as well.
    pub ledger: Money,
}

impl Killed {
    /// What lay in slices of the budget.
    pub fn slices(&self) -> Money {
        self.standing.reserved.minus(self.rows)
    }
}

/// A call in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When it was begun.
    pub at: Millis,
    /// What was set aside.
    pub amount: Money,
    /// What it cost.
    pub cost: Money,
    /// A turn's call.
    pub is_turn: bool,
    /// One provider was asked and said what it used.
    pub is_known: bool,
    /// No call, but what a kill left of the ledger's slice.
    pub is_left: bool,
}

impl Row {
    fn of(row: &LedgerRow) -> Self {
        let has_one =
            row.call.as_ref().is_some_and(|call| call.attempts.iter().all(|attempt| attempt.class == "ok"));
        Self {
            at: row.at,
            amount: row.amount,
            cost: row.cost,
            is_turn: row.turn.is_some(),
            is_known: row.state == SettledAs::Settled && has_one,
            is_left: row.model == UNDER_WAY,
        }
    }
}

/// A store that is read beside the host, or after it.
#[derive(Debug)]
pub(super) struct Books(Store);

impl Books {
    /// Of a host's folder, whether it runs or not.
    pub(super) async fn beside(data: &Path) -> Self {
        Self(Store::open_beside(data).await.expect("the host's store"))
    }

    /// All budgets of the windows of now, by name.
    pub(super) async fn budgets(&self) -> BTreeMap<String, Standing> {
        let (tenant, now) = (TenantId::default_tenant(), SystemClock.now());
        let begun = Budgets::default().begun(now);
        let rows = self.0.budgets(&tenant, (&begun, now), BUDGETS_MAX).await.expect("budgets");
        let standing = |settled, reserved| Standing {
            settled: Money::from_nanos(settled),
            reserved: Money::from_nanos(reserved),
        };
        rows.into_iter().map(|row| (row.scope, standing(row.used.settled, row.used.reserved))).collect()
    }

    /// What a kill left of a budget, and all budgets as it left them.
    pub(super) async fn killed(&self, scope: &str) -> (Killed, BTreeMap<String, Standing>) {
        let budgets = self.budgets().await;
        let of = |name: &str| budgets.get(name).copied().unwrap_or_default();
        let rows = self.0.ledger(0).await.expect("the ledger").reserved;
        let killed = Killed { standing: of(scope), rows, ledger: of(&format!("{LEDGER}/day")).reserved };
        (killed, budgets)
    }

    /// What is still held of anything, in words; `None`: nothing, and nobody is at work.
    pub(super) async fn held(&self) -> Option<String> {
        let counts = self.0.counts().await.expect("counts");
        let work = (counts.waiting, counts.leased, counts.open_reservations);
        let budgets = self.budgets().await;
        let held: Vec<_> = budgets.iter().filter(|(_, of)| of.reserved != Money::ZERO).collect();
        let is_nothing = held.is_empty() && work == (0, 0, 0);
        (!is_nothing).then(|| format!("waiting, leased, open: {work:?}; {held:?}"))
    }

    /// Whether turns are still to be answered.
    pub(super) async fn is_at_work(&self) -> bool {
        let counts = self.0.counts().await.expect("counts");
        counts.waiting + counts.leased > 0
    }

    /// Every row, oldest first.
    pub(super) async fn rows(&self) -> Vec<Row> {
        let mut rows = self.0.ledger(usize::MAX).await.expect("the ledger").rows;
        rows.reverse();
        rows.iter().map(Row::of).collect()
    }

    /// What each turn was charged, by the marker of its message.
    pub(super) async fn turns(&self) -> BTreeMap<String, Money> {
        let mut charged = BTreeMap::new();
        for turn in self.0.recent_turns(usize::MAX).await.expect("turns") {
            let record = self.0.turn_record(turn).await.expect("a turn").expect("it is there");
            let text = record.message.map(|message| message.text).unwrap_or_default();
            let marker = text.split(' ').next().unwrap_or_default().to_owned();
            charged.insert(marker, record.calls.iter().map(|row| row.cost).sum());
        }
        charged
    }

    /// Lets go of the store.
    pub(super) async fn close(self) {
        self.0.close().await.expect("a reader closes");
    }
}
