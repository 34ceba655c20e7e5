//! Calls that are paid from slices: taken durably, accounted for in piles, and charged if nobody knows.

use super::*;
use crate::{Budget, Part, ScopeLimit, SettledAs, Settlement, Spent, Used, Wanted};
use chela_types::Money;

const DAY: Millis = Millis(0);

fn wanted(name: &str, limit: Option<i64>, (needed, welcome): (i64, i64)) -> Wanted {
    let most = Money::from_nanos(needed).into();
    Wanted { scope: ScopeLimit { scope: name.into(), window_start: DAY, limit, most }, welcome }
}

fn part(name: &str, amount: i64, is_sliced: bool) -> Part {
    Part { scope: name.into(), window_start: DAY, amount, is_sliced }
}

/// A call of a tenant that used so much of the slice `all`, and that a budget without limit counts.
fn spent(of: &TenantId, cost: i64) -> Spent {
    let used = Used { cost: Money::from_nanos(cost), ..Used::default() };
    Spent {
        tenant: of.clone(),
        model: "fast".into(),
        reserved: Money::from_nanos(100),
        at: Millis(5),
        parts: vec![part("all", cost, true), part("counted", cost, false)],
        settlement: Settlement { used, call: None, state: SettledAs::Settled },
    }
}

async fn stands(store: &Store, of: &TenantId, name: &str) -> (i64, i64) {
    let Budget { settled, reserved } = store.budget(of, name, DAY).await.unwrap();
    (settled, reserved)
}

/// Looks until the ledger has so many rows; what is done before each look may bring them about.
async fn rows_come(store: &Store, rows: usize, before: impl AsyncFn()) {
    let written = async {
        while store.ledger(10).await.unwrap().rows.len() < rows {
            before().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("they are written");
}

/// Each is a row, and of each budget they are one sum, apart for each tenant; what is awaited next finds it.
#[tokio::test]
async fn all_that_ended_are_written_with_what_comes_next() {
    let b = bench().await;
    let other = TenantId::new("other").unwrap();
    for of in [&tenant(), &other] {
        let granted = b.store.take_slices(of, vec![wanted("all", Some(100_000), (1_000, 0))]).await.unwrap();
        assert_eq!(granted, [1_000]);
    }
    for cost in 1..=20 {
        assert!(b.store.spend_behind(spent(&tenant(), cost)));
    }
    assert!(b.store.spend_behind(spent(&other, 7)));
    // Whoever gives back nothing waits for the disk, and so for all that came before.
    b.store.return_slices(&tenant(), Vec::new()).await.unwrap();
    assert_eq!(stands(&b.store, &tenant(), "all").await, (210, 790));
    assert_eq!(stands(&b.store, &tenant(), "counted").await, (210, 0));
    assert_eq!(stands(&b.store, &other, "all").await, (7, 993));
    let rows = b.store.ledger(100).await.unwrap().rows;
    let mut costs: Vec<_> = rows.iter().map(|row| row.cost.nanos()).collect();
    costs.sort_unstable();
    assert_eq!(costs, [(1..=7).collect::<Vec<_>>(), vec![7], (8..=20).collect()].concat());
    assert!(rows.iter().all(|row| row.state == SettledAs::Settled && row.amount.nanos() == 100));
}

/// Nobody else comes: after a moment they are written all the same.
#[tokio::test]
async fn what_ended_last_is_written_by_itself() {
    let b = bench().await;
    assert!(b.store.spend_behind(spent(&tenant(), 3)));
    rows_come(&b.store, 1, async || {}).await;
    assert_eq!(stands(&b.store, &tenant(), "counted").await, (3, 0));
}

/// A commit that fails writes none of them, and the next one all.
#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let b = bench().await;
    b.store.take_slices(&tenant(), vec![wanted("all", Some(100_000), (1_000, 0))]).await.unwrap();
    b.meddle("CREATE TRIGGER no BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    for cost in [3, 4] {
        assert!(b.store.spend_behind(spent(&tenant(), cost)));
    }
    let _refused_or_not = b.store.return_slices(&tenant(), Vec::new()).await;
    assert_eq!(stands(&b.store, &tenant(), "all").await, (0, 1_000), "nothing of them is there");
    b.meddle("DROP TRIGGER no").await;
    rows_come(&b.store, 2, async || b.store.return_slices(&tenant(), Vec::new()).await.unwrap()).await;
    assert_eq!(stands(&b.store, &tenant(), "all").await, (7, 993));
}

/// What calls left of a slice when the process died is charged, once; what they accounted for is not charged again.
#[tokio::test]
async fn after_a_crash_what_is_left_of_a_slice_is_charged() {
    let b = bench().await;
    let slices = vec![wanted("all", Some(100_000), (1_000, 0)), wanted("ledger/day", None, (1_000, 0))];
    b.store.take_slices(&tenant(), slices).await.unwrap();
    let mut call = spent(&tenant(), 30);
    call.parts.push(part("ledger/day", 30, true));
    assert!(b.store.spend_behind(call));
    b.store.return_slices(&tenant(), Vec::new()).await.unwrap();
    let crashed = b.crashed().await;
    assert_eq!(stands(&crashed.store, &tenant(), "all").await, (1_000, 0));
    let rows = crashed.store.ledger(10).await.unwrap().rows;
    let mut costs: Vec<_> = rows.iter().map(|row| (row.cost.nanos(), row.state)).collect();
    costs.sort_by_key(|(cost, _)| *cost);
    assert_eq!(costs, [(30, SettledAs::Settled), (970, SettledAs::Unknown)]);
}

#[tokio::test]
async fn a_store_that_is_closed_takes_nothing() {
    let b = bench().await;
    b.store.close().await.unwrap();
    assert!(!b.store.spend_behind(spent(&tenant(), 3)));
}
