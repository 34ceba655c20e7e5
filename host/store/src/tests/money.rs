//! Reservations and settlements.

use super::*;
use crate::{Budget, Reserve, ScopeLimit, SettledAs, Settlement, Used};
use chela_types::{Money, Quantity, ReservationId, Tokens};

fn scope(name: &str, limit: Option<i64>) -> ScopeLimit {
    let most = Quantity::from(Money::ZERO);
    ScopeLimit { scope: name.into(), window_start: Millis(0), limit, most }
}

/// All in dollars, the same amount of each.
fn reserve(amount: i64, mut scopes: Vec<ScopeLimit>) -> Reserve {
    let amount = Money::from_nanos(amount);
    scopes.iter_mut().for_each(|scope| scope.most = amount.into());
    Reserve { lease: None, tenant: tenant(), turn: None, scopes, amount, model: "openai/x".into() }
}

fn settled(cost: i64, state: SettledAs) -> Settlement {
    let used = Used { cost: Money::from_nanos(cost), ..Used::default() };
    Settlement { used, call: None, state }
}

async fn used(store: &Store, scope: &str) -> (i64, i64) {
    let Budget { settled, reserved } = store.budget(&tenant(), scope, Millis(0)).await.unwrap();
    (settled, reserved)
}

#[tokio::test]
async fn all_scopes_must_allow_it_or_none_is_touched() {
    let b = bench().await;
    let scopes = || vec![scope("agent", Some(100)), scope("user", Some(50)), scope("all", None)];
    let id = b.store.reserve(reserve(40, scopes())).await.unwrap();
    let refused = b.store.reserve(reserve(11, scopes())).await.unwrap_err();
    assert!(
        matches!(&refused, Error::OverBudget { scope, used, .. } if scope == "user" && used.amount == 40)
    );
    assert_eq!(used(&b.store, "agent").await, (0, 40));
    b.store.settle(id, settled(15, SettledAs::Settled)).await.unwrap();
    b.store.settle(id, settled(99, SettledAs::Settled)).await.unwrap();
    for name in ["agent", "user", "all"] {
        assert_eq!(used(&b.store, name).await, (15, 0), "{name}");
    }
    b.store.reserve(reserve(35, scopes())).await.unwrap();
}

/// Money, tokens and requests of one call are set aside and accounted for side by side.
#[tokio::test]
async fn each_budget_counts_in_its_own_unit() {
    let b = bench().await;
    let tokens = |limit| ScopeLimit { most: Tokens(500).into(), ..scope("a/day/tokens", Some(limit)) };
    let requests = ScopeLimit { most: Quantity::requests(1), ..scope("a/minute/requests", Some(2)) };
    let money = ScopeLimit { most: Money::from_nanos(9_000).into(), ..scope("a/day", Some(30_000)) };
    let reserve =
        |tokens| Reserve { scopes: vec![money.clone(), tokens, requests.clone()], ..reserve(9_000, vec![]) };
    let id = b.store.reserve(reserve(tokens(1_000))).await.unwrap();
    let open = b.store.reserve(reserve(tokens(1_000))).await.unwrap();
    let refused = b.store.reserve(reserve(tokens(1_499))).await.unwrap_err().to_string();
    assert!(refused.contains("a/day/tokens") && refused.contains("1000 tokens of 1499 tokens"), "{refused}");
    let used_up = Used { cost: Money::from_nanos(4_000), tokens: Tokens(120), requests: 1 };
    b.store.settle(id, Settlement { used: used_up, ..settled(0, SettledAs::Settled) }).await.unwrap();
    assert_eq!(used(&b.store, "a/day").await, (4_000, 9_000));
    assert_eq!(used(&b.store, "a/day/tokens").await, (120, 500));
    assert_eq!(used(&b.store, "a/minute/requests").await, (1, 1));
    let refused = b.store.reserve(reserve(tokens(9_999))).await.unwrap_err().to_string();
    assert!(refused.contains("a/minute/requests"), "{refused}");
    // Nothing was used: the minute has room again.
    b.store.settle(open, settled(0, SettledAs::Released)).await.unwrap();
    b.store.reserve(reserve(tokens(9_999))).await.unwrap();
    let b = b.crashed().await;
    assert_eq!(used(&b.store, "a/day").await, (13_000, 0), "in full, each in its own unit");
    assert_eq!(used(&b.store, "a/day/tokens").await, (620, 0));
    assert_eq!(used(&b.store, "a/minute/requests").await, (2, 0));
}

#[tokio::test]
async fn an_amount_above_an_untouched_budget_is_refused() {
    let b = bench().await;
    let refused = b.store.reserve(reserve(11, vec![scope("new", Some(10))])).await.unwrap_err();
    assert!(matches!(&refused, Error::OverBudget { used, .. } if used.amount == 0));
    assert_eq!(used(&b.store, "new").await, (0, 0));
    assert!(b.store.ledger(9).await.unwrap().rows.is_empty());
    b.store.reserve(reserve(10, vec![scope("new", Some(10))])).await.unwrap();
}

#[tokio::test]
async fn a_scope_named_twice_counts_once() {
    let b = bench().await;
    let twice = vec![scope("a", Some(100)), scope("a", Some(10))];
    assert!(b.store.reserve(reserve(11, twice.clone())).await.is_err(), "the lower limit holds");
    let id = b.store.reserve(reserve(10, twice)).await.unwrap();
    assert_eq!(used(&b.store, "a").await, (0, 10));
    b.store.settle(id, settled(10, SettledAs::Settled)).await.unwrap();
    assert_eq!(used(&b.store, "a").await, (10, 0));
}

#[tokio::test]
async fn released_unknown_and_impossible_settlements() {
    let b = bench().await;
    let open = async || b.store.reserve(reserve(10, vec![scope("a", Some(100))])).await.unwrap();
    b.store.settle(open().await, settled(7, SettledAs::Released)).await.unwrap();
    assert_eq!(used(&b.store, "a").await, (0, 0));
    b.store.settle(open().await, settled(6, SettledAs::Unknown)).await.unwrap();
    assert_eq!(used(&b.store, "a").await, (6, 0), "what may have been spent, and not all that was set aside");
    assert_eq!(b.store.ledger(1).await.unwrap().unknown.nanos(), 6);
    assert!(b.store.settle_behind(open().await, settled(3, SettledAs::Settled)));
    let nobody = b.store.settle(ReservationId::new(), settled(1, SettledAs::Settled)).await;
    assert!(matches!(nobody, Err(Error::Invalid(_))));
    assert_eq!(used(&b.store, "a").await, (9, 0));
    assert!(b.store.reserve(reserve(-1, vec![])).await.is_err());
}

#[tokio::test]
async fn what_was_open_at_a_crash_is_charged_in_full() {
    let b = bench().await;
    b.store.reserve(reserve(10, vec![scope("a", Some(15)), scope("b", None)])).await.unwrap();
    let known = b.store.reserve(reserve(5, vec![scope("a", Some(15))])).await.unwrap();
    b.store.settle(known, settled(2, SettledAs::Settled)).await.unwrap();
    let b = b.crashed().await;
    assert_eq!(used(&b.store, "a").await, (12, 0));
    assert_eq!(used(&b.store, "b").await, (10, 0));
    let ledger = b.store.ledger(10).await.unwrap();
    assert_eq!((ledger.settled.nanos(), ledger.reserved.nanos(), ledger.unknown.nanos()), (12, 0, 10));
    assert_eq!(ledger.rows[1].state, SettledAs::Unknown);
}

#[tokio::test]
async fn who_stops_waiting_gets_his_money_back() {
    let b = bench().await;
    let mut waiting = Box::pin(b.store.reserve(reserve(10, vec![scope("a", Some(10))])));
    assert!(futures::poll!(&mut waiting).is_pending(), "it is in the queue now");
    drop(waiting);
    b.store.reserve(reserve(10, vec![scope("a", Some(10))])).await.unwrap();
}

/// The reservation may be made already when its caller goes, or still stand in the queue when its end overtakes it.
#[tokio::test]
async fn who_stops_waiting_at_any_time_gets_his_money_back() {
    for turns in 0..20 {
        let b = bench_with(|config| config.commit_batch_max = 1).await;
        b.store.reserve(reserve(0, vec![])).await.unwrap();
        let mut waiting = Box::pin(b.store.reserve(reserve(10, vec![scope("a", Some(10))])));
        for _ in 0..turns {
            if futures::poll!(&mut waiting).is_ready() {
                return; // from here on it is the caller's
            }
            tokio::task::yield_now().await;
        }
        drop(waiting);
        b.store.reserve(reserve(10, vec![scope("a", Some(10))])).await.unwrap_or_else(|_| panic!("{turns}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_never_exceed_the_budget() {
    let b = bench().await;
    let limit = 1_000;
    let tasks: Vec<_> = (0..100i64)
        .map(|n| {
            let store = b.store.clone();
            tokio::spawn(async move {
                let mut won = 0;
                for round in 0..5 {
                    let amount = 10 + (n * 7 + round * 13) % 40;
                    let wanted = reserve(amount, vec![scope("a", Some(limit)), scope("b", Some(limit * 2))]);
                    let outcome = store.reserve(wanted).await;
                    let (settled_now, reserved_now) = used(&store, "a").await;
                    assert!(settled_now + reserved_now <= limit, "{settled_now} + {reserved_now}");
                    match outcome {
                        Ok(id) => {
                            let cost = amount * (n % 3) / 2;
                            let cost = cost.min(amount);
                            store.settle(id, settled(cost, SettledAs::Settled)).await.unwrap();
                            won += cost;
                        }
                        Err(error) => assert!(matches!(error, Error::OverBudget { .. }), "{error}"),
                    }
                }
                won
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    assert_eq!(used(&b.store, "a").await, (sum, 0));
    assert!(sum > limit * 8 / 10, "most of the budget was usable: {sum}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]
    #[test]
    fn the_counters_are_the_sum_of_the_reservations(
        steps in proptest::collection::vec((0i64..60, 0i64..60, 0u8..4), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let b = bench().await;
            let (mut spent, mut open) = (0, 0);
            for (amount, cost, end) in steps {
                let outcome = b.store.reserve(reserve(amount, vec![scope("a", Some(500))])).await;
                assert_eq!(outcome.is_ok(), spent + open + amount <= 500);
                let Ok(id) = outcome else { continue };
                let cost = cost.min(amount);
                let (state, charged) = match end {
                    0 => { open += amount; continue }
                    1 => (SettledAs::Settled, cost),
                    2 => (SettledAs::Unknown, cost),
                    _ => (SettledAs::Released, 0),
                };
                b.store.settle(id, settled(cost, state)).await.unwrap();
                spent += charged;
            }
            assert_eq!(used(&b.store, "a").await, (spent, open));
            let again = b.crashed().await;
            assert_eq!(used(&again.store, "a").await, (spent + open, 0));
        });
    }
}
