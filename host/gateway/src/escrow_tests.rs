//! Slices with a real store: no budget is exceeded, and nearly all of one can be used.

use super::*;
use chela_store::{Budget, SettledAs, Settlement, Used};
use chela_types::{ManualClock, Money};

const DAY: Millis = Millis(0);

struct Bank {
    _folder: tempfile::TempDir,
    store: Store,
    escrow: Arc<Escrow>,
}

async fn bank() -> Bank {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let escrow = Escrow::new(store.clone());
    Bank { _folder: folder, store, escrow }
}

async fn open(folder: &std::path::Path) -> Store {
    let clock = Arc::new(ManualClock::at(Millis(1_000)));
    Store::open(chela_store::Config::new(folder), clock).await.unwrap()
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn scope(name: &str, limit: i64, most: i64) -> ScopeLimit {
    let most = Quantity::from(Money::from_nanos(most));
    ScopeLimit { scope: name.into(), window_start: DAY, limit: Some(limit), most }
}

fn ledger(most: i64) -> ScopeLimit {
    ScopeLimit { limit: None, ..scope("ledger/day", 0, most) }
}

fn spent(cost: i64) -> Spent {
    let used = Used { cost: Money::from_nanos(cost), ..Used::default() };
    Spent {
        tenant: tenant(),
        model: "fast".into(),
        reserved: Money::from_nanos(cost),
        at: Millis(0),
        parts: Vec::new(),
        settlement: Settlement { used, call: None, state: SettledAs::Settled },
    }
}

impl Bank {
    async fn hold(&self, scopes: Vec<ScopeLimit>) -> Result<Hold, chela_store::Error> {
        self.escrow.hold(&tenant(), scopes, Vec::new()).await
    }

    fn spend(&self, hold: &Hold, cost: i64) {
        self.escrow.spend(hold, spent(cost), |_| cost);
    }

    async fn used(&self, name: &str) -> Budget {
        self.store.budget(&tenant(), name, DAY).await.unwrap()
    }

    /// What was given back and spent is on the disk, and nothing is at hand.
    async fn flush(&self) {
        self.escrow.drain().await;
        self.store.return_slices(&tenant(), Vec::new()).await.unwrap();
    }

    fn free(&self, name: &str) -> i64 {
        let state = self.escrow.state.lock();
        state.slices.get(&(tenant(), name.into(), DAY)).map_or(0, |slice| slice.free)
    }
}

#[tokio::test]
async fn a_call_is_paid_from_memory_once_there_is_a_slice() {
    let bank = bank().await;
    let scopes = || vec![scope("a/day", 1_000_000, 10), ledger(10)];
    let first = bank.hold(scopes()).await.unwrap();
    bank.spend(&first, 4);
    // It is filled up behind to a 64th of the limit or 16 calls.
    while bank.free("a/day") < 150 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = bank.used("a/day").await;
    let mut asked = Box::pin(bank.hold(scopes()));
    let std::task::Poll::Ready(second) = futures::poll!(&mut asked) else { panic!("it waits") };
    drop(asked);
    assert_eq!(bank.used("a/day").await.reserved, before.reserved, "nothing was written for it");
    bank.spend(&second.unwrap(), 10);
    bank.flush().await;
    assert_eq!(bank.used("a/day").await, Budget { settled: 14, reserved: 0 });
    let ledger = bank.store.ledger(9).await.unwrap();
    assert_eq!((ledger.settled.nanos(), ledger.rows.len()), (14, 2));
    assert_eq!(ledger.rows[0].model, "fast");
}

#[tokio::test]
async fn all_budgets_must_have_room_or_nothing_is_held() {
    let bank = bank().await;
    let scopes = |limit| vec![scope("a/day", 100, 40), scope("b/day", limit, 40)];
    let held = bank.hold(scopes(40)).await.unwrap();
    let Err(chela_store::Error::OverBudget { scope, limit, used }) = bank.hold(scopes(40)).await else {
        panic!("b has no room")
    };
    assert_eq!((scope.as_str(), limit.amount, used.amount), ("b/day", 40, 40));
    bank.flush().await;
    assert_eq!(bank.used("a/day").await.reserved, 40, "of the refused one nothing is held");
    bank.spend(&held, 0);
    bank.flush().await;
    assert_eq!(bank.used("a/day").await, Budget::default());
    bank.hold(scopes(40)).await.unwrap();
}

#[tokio::test]
async fn what_a_budget_has_at_hand_stays_there_where_another_has_no_room() {
    let bank = bank().await;
    let scopes = || vec![scope("a/day", 1_000_000, 10), scope("b/day", 10, 10)];
    let held = bank.hold(scopes()).await.unwrap();
    while bank.free("a/day") < 150 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = bank.free("a/day");
    assert!(bank.hold(scopes()).await.is_err());
    assert_eq!(bank.free("a/day"), before);
    bank.spend(&held, 0);
    bank.flush().await;
    assert_eq!(bank.used("a/day").await, Budget::default());
}

/// What lies in a slice and what is left of the budget make one call together.
#[tokio::test]
async fn the_rests_of_slice_and_budget_are_used_together() {
    let bank = bank().await;
    let scopes = || vec![scope("a/day", 100, 40)];
    let first = bank.hold(scopes()).await.unwrap();
    let second = bank.hold(scopes()).await.unwrap();
    // 20 are left of the budget, and 39 of these 40.
    bank.spend(&first, 1);
    let now = bank.used("a/day").await;
    assert_eq!(now.reserved + now.settled, 80);
    let third = bank.hold(scopes()).await.unwrap();
    assert!(bank.hold(scopes()).await.is_err());
    bank.spend(&second, 40);
    bank.spend(&third, 40);
    bank.flush().await;
    assert_eq!(bank.used("a/day").await, Budget { settled: 81, reserved: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_use_nearly_all_and_never_more() {
    for (most, divisor) in [(10_i64, 1), (10, 3), (1_000, 2)] {
        let bank = Arc::new(bank().await);
        let limit = most * 75 / 2;
        let callers: Vec<_> = (0..100)
            .map(|n| {
                let bank = Arc::clone(&bank);
                tokio::spawn(async move {
                    let mut won = 0;
                    loop {
                        let held = bank.hold(vec![scope("a/day", limit, most), ledger(most)]).await;
                        let now = bank.used("a/day").await;
                        assert!(now.settled + now.reserved <= limit, "{now:?} of {limit}");
                        let Ok(hold) = held else { return won };
                        if n % 3 == 0 {
                            tokio::task::yield_now().await;
                        }
                        bank.spend(&hold, most / divisor);
                        won += most / divisor;
                    }
                })
            })
            .collect();
        let mut sum = 0;
        for caller in callers {
            sum += caller.await.unwrap();
        }
        // Who was refused while others held theirs has left; what they gave back, one alone may use.
        while let Ok(hold) = bank.hold(vec![scope("a/day", limit, most), ledger(most)]).await {
            bank.spend(&hold, most / divisor);
            sum += most / divisor;
        }
        bank.flush().await;
        assert_eq!(bank.used("a/day").await, Budget { settled: sum, reserved: 0 });
        assert!(sum + most > limit, "less than one call is left: {sum} of {limit}");
        assert_eq!(bank.store.ledger(0).await.unwrap().settled.nanos(), sum);
    }
}

#[tokio::test]
async fn who_stops_waiting_keeps_nothing() {
    for polls in 0..20 {
        let bank = bank().await;
        let mut waiting = Box::pin(bank.hold(vec![scope("a/day", 10, 10), ledger(10)]));
        for _ in 0..polls {
            if futures::poll!(&mut waiting).is_ready() {
                return; // from here on it is the caller's
            }
            tokio::task::yield_now().await;
        }
        drop(waiting);
        let mut tries = 0;
        let hold = loop {
            match bank.hold(vec![scope("a/day", 10, 10), ledger(10)]).await {
                Ok(hold) => break hold,
                Err(error) if tries > 1_000 => panic!("{polls}: {error}"),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        bank.spend(&hold, 0);
    }
}

#[tokio::test]
async fn who_is_closed_keeps_nothing_at_hand() {
    let bank = bank().await;
    let scopes = || vec![scope("a/day", 1_000_000, 10), ledger(10)];
    let under_way = bank.hold(scopes()).await.unwrap();
    bank.escrow.close().await;
    assert_eq!(bank.used("a/day").await.reserved, 10, "what the call holds, and nothing more");
    bank.spend(&under_way, 4);
    assert_eq!(bank.free("a/day"), 0);
    bank.store.return_slices(&tenant(), Vec::new()).await.unwrap();
    assert_eq!(bank.used("a/day").await, Budget { settled: 4, reserved: 0 });
    assert_eq!(bank.used("ledger/day").await, Budget { settled: 4, reserved: 0 });
}

#[tokio::test]
async fn a_slice_that_runs_low_often_is_filled_with_more() {
    let mut slice = Slice::new();
    let full = |slice: &Slice| slice.full(&scope("a/day", i64::MAX, 10));
    assert_eq!(full(&slice), 10 * CALLS);
    slice.runs_low();
    assert_eq!(full(&slice), 20 * CALLS);
    (0..20).for_each(|_| slice.runs_low());
    assert_eq!(full(&slice), 10 * CALLS_MAX);
    assert_eq!(slice.full(&scope("a/day", 640, 10)), 640 / SHARE, "never more than a share");
    tokio::time::pause();
    for calls in [CALLS_MAX / 2, CALLS_MAX / 4] {
        tokio::time::advance(SELDOM * 2).await;
        slice.runs_low();
        assert_eq!(full(&slice), 10 * calls);
    }
}

#[tokio::test]
async fn what_nobody_uses_goes_back() {
    let bank = bank().await;
    let hold = bank.hold(vec![scope("a/day", 100, 10)]).await.unwrap();
    bank.spend(&hold, 3);
    assert!(bank.free("a/day") >= 7);
    assert!(bank.escrow.give_back(&tenant(), &[scope("a/day", 100, 10)]));
    bank.store.return_slices(&tenant(), Vec::new()).await.unwrap();
    assert_eq!(bank.used("a/day").await, Budget { settled: 3, reserved: 0 });
    assert!(!bank.escrow.give_back(&tenant(), &[scope("a/day", 100, 10)]), "there is nothing left");
    // The same by time alone.
    let hold = bank.hold(vec![scope("a/day", 100, 10)]).await.unwrap();
    bank.spend(&hold, 3);
    tokio::time::pause();
    tokio::time::sleep(IDLE + LOOK * 2).await;
    tokio::time::resume();
    while bank.used("a/day").await.reserved > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(bank.used("a/day").await.settled, 6);
}

/// The process dies with a call under way and something at hand: all of that is charged.
#[tokio::test]
async fn what_a_crash_leaves_of_slices_is_charged() {
    let Bank { _folder: folder, store, escrow } = bank().await;
    let whose = tenant();
    let hold = |most| escrow.hold(&whose, vec![scope("a/day", 100, most), ledger(most)], Vec::new());
    let first = hold(10).await.unwrap();
    escrow.spend(&first, spent(4), |_| 4);
    let _under_way = hold(20).await.unwrap();
    // It dies: nothing is given back, nothing is closed in order.
    std::mem::forget(escrow.clone());
    store.return_slices(&tenant(), Vec::new()).await.unwrap();
    let reserved = store.budget(&tenant(), "ledger/day", DAY).await.unwrap().reserved;
    assert!(reserved >= 20);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    let budget = store.budget(&tenant(), "a/day", DAY).await.unwrap();
    assert!(budget.reserved == 0 && (24..=100).contains(&budget.settled), "{budget:?}");
    let ledger = store.ledger(9).await.unwrap();
    assert_eq!(ledger.settled.nanos(), 4 + reserved, "never below the bill");
    assert_eq!((ledger.rows[0].state, ledger.rows[0].cost.nanos()), (SettledAs::Unknown, reserved));
}
