//! Group commit: neighbours do not harm each other, and nobody is told of what is not kept.

use super::*;
use crate::lane::Pace;
use crate::sql;
use crate::writer::{Operation, Transaction};
use crate::{Reserve, SettledAs, Settlement, Used};
use chela_types::{Blame, Fault, Money, Retry};
use futures::FutureExt as _;
use sqlx::ConnectOptions as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Breaks the batch with a failing statement, after a write that must not stay.
struct Bad;

impl Operation for Bad {
    type Output = ();
    async fn run(&self, tx: &mut Transaction<'_>) -> crate::Result<()> {
        let wrong = "INSERT INTO budgets VALUES ('t', 'bad', 0, 0, 0); INSERT INTO budgets VALUES (NULL)";
        sql::query(wrong).execute(&mut *tx.connection).await?;
        Ok(())
    }
}

/// Lets the statements pass and the commit fail.
struct Doomed;

impl Operation for Doomed {
    type Output = ();
    async fn run(&self, tx: &mut Transaction<'_>) -> crate::Result<()> {
        let orphan = "PRAGMA defer_foreign_keys = ON;
            INSERT INTO turns (id, conversation, tenant, channel, received_at) VALUES (x'00', 999, 't', 'c', 0)";
        sql::query(orphan).execute(&mut *tx.connection).await?;
        Ok(())
    }
}

#[tokio::test]
async fn one_bad_operation_harms_no_neighbour() {
    let b = bench().await;
    // One thread: all three are in the queue before the writer sees the first.
    let (before, bad, after) = tokio::join!(
        b.store.accept(vec![arrival("c", &["a"])]),
        b.store.commit(Bad),
        b.store.accept(vec![arrival("c", &["b"])]),
    );
    assert!(before.unwrap()[0].fresh && after.unwrap()[0].fresh);
    let error = bad.unwrap_err();
    assert!(matches!(error, Error::Database(_)));
    assert_eq!((error.blame(), error.retry()), (Blame::Host, Retry::Later(Duration::ZERO)));
    assert_eq!(b.store.counts().await.unwrap().waiting, 2);
    let bad = chela_types::TenantId::new("t").unwrap();
    assert_eq!(b.store.budget(&bad, "bad", Millis(0)).await.unwrap(), crate::Budget::default());
    let texts: Vec<_> = b.claim_one().await.turn.message.text.chars().collect();
    assert_eq!(texts.last(), Some(&'a'), "run alone, the order is the same");
}

#[tokio::test]
async fn whoever_writes_little_does_not_wait_for_a_flood() {
    let b = bench().await;
    let arrives = async |lane: &str, key: String| {
        let arrival = Arrival { lane: lane.to_owned(), ..arrival(&key, &[&key]) };
        b.store.accept(vec![arrival]).await.unwrap();
    };
    arrives("calm", "first".to_owned()).await;
    b.store.inner.lanes.paced(&Pace::of(Duration::from_millis(10), Duration::from_millis(10)));
    has_written(&b, "flood", 11).await;
    let ended = AtomicUsize::new(0);
    let flood = futures::future::join_all((0..20).map(|n| {
        let (arrives, ended) = (&arrives, &ended);
        async move {
            arrives("flood", n.to_string()).await;
            ended.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let calm = async {
        arrives("calm", "second".to_owned()).await;
        ended.load(Ordering::Relaxed)
    };
    // Those of the flood come first, and are looked at first.
    let (_, before) = futures::join!(flood, calm);
    assert!(before <= 1, "{before} were written before");
}

/// Lets a lane write so much that the next operation needs a place. If one takes 10 ms, that is after eleven.
async fn has_written(b: &Bench, lane: &str, operations: usize) {
    for _ in 0..operations {
        assert!(b.store.inner.lanes.place(lane).await.is_none());
    }
}

#[tokio::test]
async fn if_the_commit_fails_everybody_is_told_and_nothing_is_kept() {
    let b = bench().await;
    let (neighbour, doomed) =
        tokio::join!(b.store.accept(vec![arrival("c", &["a"])]), b.store.commit(Doomed));
    for error in [neighbour.map(drop).unwrap_err(), doomed.unwrap_err()] {
        assert!(matches!(error, Error::Commit(_)), "{error}");
        assert_eq!((error.blame(), error.retry()), (Blame::Host, Retry::Later(Duration::ZERO)));
    }
    assert_eq!(b.store.counts().await.unwrap().waiting, 0);
    assert_eq!(b.store.next_due().await.unwrap(), None);
    assert!(b.accept("c", "a").await.fresh, "the platform repeats, and then it is kept");
    b.claim_one().await;
}

#[tokio::test]
async fn batches_that_follow_each_other_at_once_are_each_whole_and_then_nothing_is_held() {
    // One thread: all are in the queue before the writer sees the first.
    let b = bench_with(|config| config.commit_batch_max = 1).await;
    let accept = |key: &str| b.store.accept(vec![arrival(key, &[key])]);
    let kept = accept("first").await.unwrap();
    assert!(kept[0].fresh);
    let (before, doomed, between, bad, after) =
        tokio::join!(accept("a"), b.store.commit(Doomed), accept("b"), b.store.commit(Bad), accept("c"));
    assert!(matches!(doomed, Err(Error::Commit(_))), "{doomed:?}");
    assert!(matches!(bad, Err(Error::Database(_))), "{bad:?}");
    assert!(before.unwrap()[0].fresh && between.unwrap()[0].fresh && after.unwrap()[0].fresh);
    assert_eq!(b.store.counts().await.unwrap().waiting, 4);
    let file = b.folder.path().join("chela.db");
    let other = crate::connect::writing(&file).busy_timeout(Duration::ZERO).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut { other }).await.unwrap();
}

/// A claim that waits beside the queue.
fn claiming(b: &Bench) -> crate::Claiming {
    b.store.claim_when_due("test", || (10, crate::Shares::default()))
}

#[tokio::test]
async fn a_claim_beside_the_queue_is_harmed_by_no_bad_operation() {
    let b = bench().await;
    let mut claiming = claiming(&b);
    let (kept, bad) = tokio::join!(b.store.accept(vec![arrival("c", &["a"])]), b.store.commit(Bad));
    assert!(kept.unwrap()[0].fresh && bad.is_err());
    assert_eq!(claiming.claimed().now_or_never().unwrap().unwrap().claimed.len(), 1);
}

#[tokio::test]
async fn a_claim_beside_the_queue_is_told_that_the_commit_failed() {
    let b = bench().await;
    let mut claiming = claiming(&b);
    let (kept, doomed) = tokio::join!(b.store.accept(vec![arrival("c", &["a"])]), b.store.commit(Doomed));
    assert!(kept.is_err() && doomed.is_err());
    assert!(matches!(claiming.claimed().now_or_never(), Some(Err(Error::Commit(_)))));
    b.accept("c", "a").await;
    b.claim_one().await;
}

#[tokio::test]
async fn a_refusal_does_not_fail_the_batch() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    b.clock.advance(LEASE);
    let (fenced, kept) =
        tokio::join!(b.store.record(&lease, entry(0, "zombie")), b.store.accept(vec![arrival("d", &["b"])]),);
    assert!(matches!(fenced, Err(Error::Fenced(_))));
    assert!(kept.unwrap()[0].fresh);
}

#[tokio::test]
async fn what_is_not_awaited_is_kept_with_what_is() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    b.store.decided_behind(&lease, &decision()).await.unwrap();
    b.store.record(&lease, entry(0, "v")).await.unwrap();
    let b = b.crashed().await;
    let claimed = b.claim_one().await;
    assert!(matches!(claimed.turn.stage, crate::Stage::Decided(kept) if kept == decision()));
}

async fn reserved(b: &Bench) -> chela_types::ReservationId {
    let (lease, turn, scopes, amount) = (None, None, vec![], Money::from_nanos(10));
    b.store
        .reserve(Reserve { lease, tenant: tenant(), turn, scopes, amount, model: "m".into() })
        .await
        .unwrap()
}

fn three() -> Settlement {
    Settlement {
        used: Used { cost: Money::from_nanos(3), ..Used::default() },
        call: None,
        state: SettledAs::Settled,
    }
}

/// Settled and still reserved.
async fn money(b: &Bench) -> (i64, i64) {
    let ledger = b.store.ledger(1).await.unwrap();
    (ledger.settled.nanos(), ledger.reserved.nanos())
}

/// Holds the writer until it is told to go on.
struct Held(Arc<Notify>);

impl Operation for Held {
    type Output = ();
    async fn run(&self, _: &mut Transaction<'_>) -> crate::Result<()> {
        self.0.notified().await;
        Ok(())
    }
}

/// A full queue once lost settlements, and their money was gone until the next start.
#[tokio::test]
async fn a_settlement_needs_no_place_in_the_queue() {
    let b = bench_with(|config| (config.commit_queue_max, config.commit_batch_max) = (1, 1)).await;
    let id = reserved(&b).await;
    let go = Arc::new(Notify::new());
    let (mut running, mut waiting) = (Box::pin(b.store.commit(Held(go.clone()))), Box::pin(reserved(&b)));
    while futures::poll!(&mut running).is_pending() && b.store.free_places() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut waiting).is_pending());
    assert_eq!(b.store.free_places(), 0, "the writer is held, and the queue is full");
    assert!(b.store.settle_behind(id, three()));
    go.notify_one();
    running.await.unwrap();
    waiting.await;
    assert_eq!(money(&b).await, (3, 10));
}

#[tokio::test]
async fn a_settlement_wakes_the_writer() {
    let b = bench().await;
    let id = reserved(&b).await;
    assert!(b.store.settle_behind(id, three()));
    while money(&b).await.1 > 0 {
        tokio::task::yield_now().await;
    }
    b.store.close().await.unwrap();
    assert!(!b.store.settle_behind(id, three()), "closed");
}

#[tokio::test]
async fn what_nobody_waits_for_survives_a_failed_commit_in_its_order() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    let id = reserved(&b).await;
    assert!(b.store.settle_behind(id, three()));
    let decision = decision();
    let (first, second, doomed) = tokio::join!(
        b.store.decided_behind(&lease, &decision),
        b.store.record_behind(&lease, entry(0, "v")),
        b.store.commit(Doomed),
    );
    assert!(first.is_ok() && second.is_ok() && doomed.is_err());
    assert_eq!(money(&b).await, (0, 10));
    assert!(matches!(b.store.commit(Doomed).await, Err(Error::Commit(_))), "and another one");
    b.store.record(&lease, entry(1, "w")).await.unwrap();
    assert_eq!(money(&b).await, (3, 0));
    let record = b.store.turn_record(lease.turn()).await.unwrap().unwrap();
    assert_eq!((record.decisions.len(), record.journal.len()), (1, 2));
}

#[tokio::test]
async fn what_a_failed_commit_left_keeps_no_place_from_its_lane() {
    let b = bench_with(|config| config.commit_wait = Duration::from_millis(200)).await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    b.store.accept(vec![Arrival { lane: "calm".to_owned(), ..arrival("d", &["b"]) }]).await.unwrap();
    b.store.inner.lanes.paced(&Pace::of(Duration::from_millis(10), Duration::from_millis(10)));
    // The first was what has come.
    has_written(&b, "", 10).await;
    let (left, doomed) = tokio::join!(b.store.record_behind(&lease, entry(0, "v")), b.store.commit(Doomed));
    assert!(left.is_ok() && doomed.is_err());
    b.store.record(&lease, entry(1, "w")).await.unwrap();
    let record = b.store.turn_record(lease.turn()).await.unwrap().unwrap();
    assert_eq!(record.journal.len(), 2);
}

#[tokio::test]
async fn what_failed_commits_may_leave_is_bounded_but_settlements_stay() {
    let b = bench_with(|config| config.commit_queue_max = 3).await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    let ids = [reserved(&b).await, reserved(&b).await];
    for (id, seq) in ids.into_iter().zip([0, 2]) {
        assert!(b.store.settle_behind(id, three()));
        b.store.record_behind(&lease, entry(seq, "v")).await.unwrap();
        b.store.record_behind(&lease, entry(seq + 1, "v")).await.unwrap();
        assert!(b.store.commit(Doomed).await.is_err());
    }
    b.accept("c", "b").await;
    assert_eq!(money(&b).await, (6, 0));
    let journal = b.store.turn_record(lease.turn()).await.unwrap().unwrap().journal;
    assert_eq!(journal.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [0, 1], "the oldest are kept");
}

#[tokio::test]
async fn a_settlement_outlives_a_statement_that_fails_too() {
    let b = bench().await;
    let id = reserved(&b).await;
    let ill =
        "CREATE TRIGGER ill BEFORE UPDATE OF state ON reservations BEGIN SELECT RAISE(ABORT, 'ill'); END";
    b.meddle(ill).await;
    assert!(b.store.settle_behind(id, three()));
    b.accept("c", "a").await;
    assert_eq!(money(&b).await, (0, 10));
    b.meddle("DROP TRIGGER ill").await;
    b.accept("c", "b").await;
    assert_eq!(money(&b).await, (3, 0));
}
