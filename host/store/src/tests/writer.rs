//! Group commit: neighbours do not harm each other, and nobody is told of what is not kept.

use super::*;
use crate::writer::{Operation, Transaction};
use chela_types::{Blame, Fault, Retry};

/// Breaks the batch with a failing statement, after a write that must not stay.
struct Bad;

impl Operation for Bad {
    type Output = ();
    async fn run(&self, tx: &mut Transaction<'_>) -> crate::Result<()> {
        let wrong = "INSERT INTO budgets VALUES ('t', 'bad', 0, 0, 0); INSERT INTO budgets VALUES (NULL)";
        sqlx::query(wrong).execute(&mut *tx.connection).await?;
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
        sqlx::query(orphan).execute(&mut *tx.connection).await?;
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
