//! Answers on their way out.

use super::*;
use crate::{Phase, Stage};

fn kept(claimed: &Claimed) -> &crate::Outgoing {
    match &claimed.turn.stage {
        Stage::Answered(outgoing) => outgoing,
        other => panic!("not answered: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_survives_and_the_first_one_stands() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    let second = b.store.answered(&claimed.lease, answer("another")).await.unwrap();
    assert_eq!(second, out);
    let b = b.crashed().await;
    let again = b.claim_one().await;
    assert_eq!(kept(&again), &out);
    assert_eq!(again.turn.crashes, 1);
}

#[tokio::test]
async fn a_crash_while_sending_is_ambiguous_and_the_step_is_kept() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.store.sending(&claimed.lease, out.id, Some("one".into())).await.unwrap();
    b.store.step_sent_behind(&claimed.lease, out.id, Some("two".into())).await.unwrap();
    b.store.sending(&claimed.lease, out.id, Some("two".into())).await.unwrap();
    let b = b.crashed().await;
    assert_eq!(b.store.counts().await.unwrap().ambiguous, 1);
    let again = b.claim_one().await;
    let out = kept(&again).clone();
    assert!(out.ambiguous);
    assert_eq!((out.state.as_deref(), out.tries), (Some("two"), 2));
    b.store.sending(&again.lease, out.id, None).await.unwrap();
    b.clock.advance(LEASE);
    let lapsed = b.claim_one().await;
    assert_eq!(b.store.counts().await.unwrap().ambiguous, 2, "a lapsed lease leaves the same doubt");
    b.store.delivered(&lapsed.lease, out.id, Some("ts1".into())).await.unwrap();
    let record = b.store.turn_record(lapsed.lease.turn()).await.unwrap().unwrap();
    let outbox = record.outbox.unwrap();
    assert_eq!((outbox.ambiguous, outbox.platform_id.as_deref()), (2, Some("ts1")));
}

#[tokio::test]
async fn a_step_that_was_answered_is_not_ambiguous() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.store.sending(&claimed.lease, out.id, None).await.unwrap();
    b.store.step_sent_behind(&claimed.lease, out.id, Some("two".into())).await.unwrap();
    b.accept("d", "flush").await;
    let b = b.crashed().await;
    assert_eq!(b.store.counts().await.unwrap().ambiguous, 0);
    assert_eq!(b.store.phases().await.unwrap()[&Phase::StepSent], 1);
}

#[tokio::test]
async fn a_failed_send_says_itself_whether_it_is_ambiguous() {
    let b = bench().await;
    for (key, ambiguous, total) in [("a", false, 0), ("b", true, 1)] {
        let (claimed, out) = b.answered(key, key).await;
        b.store.sending(&claimed.lease, out.id, None).await.unwrap();
        let trouble = Trouble { ambiguous, ..trouble(CountsAs::Wait) };
        b.store.defer(&claimed.lease, Millis(9_000_000), trouble).await.unwrap();
        assert_eq!(b.store.counts().await.unwrap().ambiguous, total);
    }
}

#[tokio::test]
async fn what_cannot_be_delivered_frees_the_conversation() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.accept("c", "b").await;
    assert!(matches!(
        b.store.delivered(&claimed.lease, chela_types::OutboxId::new(), None).await,
        Err(Error::Invalid(_))
    ));
    b.store.give_up_delivery(&claimed.lease, out.id, "channel_not_found").await.unwrap();
    assert_eq!(b.store.counts().await.unwrap().undelivered, 1);
    assert_ne!(b.claim_one().await.lease.turn(), claimed.lease.turn());
}
