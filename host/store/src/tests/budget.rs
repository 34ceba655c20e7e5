//! Raises, shares that are told, listing and forgetting.

use super::*;
use crate::{Budget, BudgetRow, Mark, Raise, Reserve, ScopeLimit};
use chela_types::{Clock, Money, Quantity};

fn dollars(amount: i64) -> Quantity {
    Money::from_nanos(amount).into()
}

async fn reserve(store: &Store, (scope, start): (&str, i64), amount: i64, limit: i64) -> Result<(), Error> {
    let scope = ScopeLimit {
        scope: scope.into(),
        window_start: Millis(start),
        limit: Some(limit),
        most: dollars(amount),
    };
    let amount = Money::from_nanos(amount);
    let scopes = vec![scope];
    let reserve =
        Reserve { lease: None, tenant: tenant(), turn: None, scopes, amount, model: "openai/x".into() };
    store.reserve(reserve).await.map(drop)
}

fn raise(scope: &str, by: i64, until: Millis) -> Raise {
    let (who, why) = ("ann".to_owned(), "the fair".to_owned());
    Raise { scope: scope.into(), by: dollars(by), until, who, why }
}

#[tokio::test]
async fn a_raise_holds_until_it_ends_and_for_its_scope_alone() {
    let b = bench().await;
    let a = ("agent:a/day", 0);
    reserve(&b.store, a, 10, 10).await.unwrap();
    assert!(reserve(&b.store, a, 1, 10).await.is_err());
    let until = Millis(b.clock.now().0 + 60_000);
    b.store.raise_budget(&tenant(), raise("agent:a/day", 5, until)).await.unwrap();
    b.store.raise_budget(&tenant(), raise("agent:a/day", 2, until)).await.unwrap();
    assert!(reserve(&b.store, ("agent:a/hour", 0), 11, 10).await.is_err(), "another budget is not raised");
    reserve(&b.store, a, 6, 10).await.unwrap();
    let Err(Error::OverBudget { limit, used, .. }) = reserve(&b.store, a, 2, 10).await else {
        panic!("raised by seven, and no more")
    };
    assert_eq!((limit.amount, used.amount), (17, 16));
    b.clock.advance(Duration::from_secs(60));
    assert!(reserve(&b.store, a, 1, 10).await.is_err(), "it has ended");
    let events = b.store.newest_events(&tenant(), None, 9).await.unwrap();
    assert_eq!(events.len(), 2);
    let first = &events[0].happened;
    assert_eq!((first.what.as_str(), first.by.as_str()), ("budget raised", "ann"));
    assert_eq!(first.why, "agent:a/day by $0.000000005: the fair");
    assert_eq!(first.detail["until"], until.0);
}

#[tokio::test]
async fn a_share_is_told_once_for_each_window() {
    let b = bench().await;
    let mark = |start, percent, told: Option<&str>| Mark {
        scope: "user:u/day".into(),
        window_start: Millis(start),
        percent,
        told: told.map(str::to_owned),
    };
    let told = async |marks| {
        let told = b.store.mark_budgets(&tenant(), marks).await.unwrap();
        told.into_iter().map(|mark| mark.percent).collect::<Vec<_>>()
    };
    assert_eq!(told(vec![mark(0, 80, Some("8 of 10")), mark(0, 50, None)]).await, [80]);
    assert_eq!(told(vec![mark(0, 80, Some("9 of 10"))]).await, [0; 0], "that was told");
    assert_eq!(told(vec![mark(0, 50, Some("5 of 10"))]).await, [0; 0], "in the place of the higher one");
    assert_eq!(told(vec![mark(1, 50, Some("5 of 10"))]).await, [50], "another window");
    let events = b.store.newest_events(&tenant(), None, 9).await.unwrap();
    let whys: Vec<_> = events.iter().map(|event| event.happened.why.as_str()).collect();
    assert_eq!(whys, ["user:u/day: 8 of 10", "user:u/day: 5 of 10"]);
}

#[tokio::test]
async fn what_stands_is_listed_with_its_raise() {
    let b = bench().await;
    for (scope, start, amount) in
        [("global/day", 0, 3), ("agent:a/day", 0, 2), ("agent:a/hour", 7, 1), ("agent:a/day", -86_400_000, 9)]
    {
        reserve(&b.store, (scope, start), amount, 10).await.unwrap();
    }
    let now = b.clock.now();
    b.store.raise_budget(&tenant(), raise("global/day", 4, Millis(now.0 + 1))).await.unwrap();
    let listed = b.store.budgets(&tenant(), (&[Millis(0), Millis(7)], now), 10).await.unwrap();
    let row = |scope: &str, start, reserved, raised| BudgetRow {
        scope: scope.into(),
        window_start: Millis(start),
        used: Budget { settled: 0, reserved },
        raised,
    };
    let expected = [row("agent:a/day", 0, 2, 0), row("agent:a/hour", 7, 1, 0), row("global/day", 0, 3, 4)];
    assert_eq!(listed, expected);
    assert_eq!(b.store.budgets(&tenant(), (&[Millis(0)], now), 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn old_windows_go_and_what_is_open_stays() {
    let b = bench().await;
    reserve(&b.store, ("user:open/minute", 0), 1, 10).await.unwrap();
    for start in 0..5 {
        reserve(&b.store, ("user:u/minute/requests", start), 0, 10).await.unwrap();
        reserve(&b.store, ("user:u/day", start), 0, 10).await.unwrap();
    }
    let purge =
        async |before, like| b.store.purge_budgets(&tenant(), (Millis(before), like), 3).await.unwrap();
    assert_eq!(purge(4, "%/minute%").await, 3);
    assert_eq!(purge(4, "%/minute%").await, 1);
    assert_eq!(purge(4, "%/minute%").await, 0);
    assert_eq!(purge(2, "%").await, 2);
    let all: Vec<_> = (0..5).map(Millis).collect();
    let left = b.store.budgets(&tenant(), (&all, Millis(0)), 99).await.unwrap();
    let left: Vec<_> = left.iter().map(|row| (row.scope.as_str(), row.window_start.0)).collect();
    let day = |start| ("user:u/day", start);
    assert_eq!(left, [("user:open/minute", 0), day(2), day(3), day(4), ("user:u/minute/requests", 4)]);
}
