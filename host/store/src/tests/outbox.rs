//! Answers on their way out.

use super::*;
use crate::{DeadLetter, Phase, Stage};
use chela_types::{Blame, Clock};

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
    assert_eq!((out.kept, again.turn.crashes), (Millis(1_000_000), 1));
}

#[tokio::test]
async fn a_crash_while_sending_is_ambiguous_and_the_step_is_kept() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.store.sending(&claimed.lease, out.id, Some("one".into()), None).await.unwrap();
    b.store.step_sent_behind(&claimed.lease, out.id, Some("two".into())).await.unwrap();
    b.store.sending(&claimed.lease, out.id, Some("two".into()), None).await.unwrap();
    let b = b.crashed().await;
    assert_eq!(b.store.counts().await.unwrap().ambiguous, 1);
    let again = b.claim_one().await;
    let out = kept(&again).clone();
    assert_eq!((out.state.as_deref(), out.requests, out.ambiguous), (Some("two"), 2, 1));
    b.store.sending(&again.lease, out.id, None, None).await.unwrap();
    b.clock.advance(LEASE);
    let lapsed = b.claim_one().await;
    assert_eq!(kept(&lapsed).ambiguous, 2);
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
    b.store.sending(&claimed.lease, out.id, None, None).await.unwrap();
    b.store.step_sent_behind(&claimed.lease, out.id, Some("two".into())).await.unwrap();
    b.accept("d", "flush").await;
    let b = b.crashed().await;
    assert_eq!(b.store.counts().await.unwrap().ambiguous, 0);
    assert_eq!(b.store.phases().await.unwrap()[&Phase::StepSent], 1);
}

/// Whatever ends a send without an outcome.
#[derive(Debug, Clone, Copy)]
enum End {
    Deferred,
    Released,
    GivenUp,
    Dead,
}

#[tokio::test]
async fn a_send_without_an_outcome_is_ambiguous_whoever_ends_it() {
    for end in [End::Deferred, End::Released, End::GivenUp, End::Dead] {
        for outcome in [false, true] {
            let b = bench().await;
            let (Claimed { lease, .. }, out) = b.answered("c", "a").await;
            b.store.sending(&lease, out.id, None, None).await.unwrap();
            if outcome {
                b.store.step_sent_behind(&lease, out.id, None).await.unwrap();
            }
            let letter = DeadLetter { reason: "r".into(), blame: Blame::Plugin, notice: None };
            match end {
                End::Deferred => b.store.defer(&lease, Millis(9), trouble(CountsAs::Wait)).await.unwrap(),
                End::Released => b.store.release(&lease).await.unwrap(),
                End::GivenUp => b.store.give_up_delivery(&lease, out.id, "r").await.unwrap(),
                End::Dead => assert!(b.store.dead(&lease, letter).await.unwrap().is_none()),
            }
            let ambiguous = b.store.counts().await.unwrap().ambiguous;
            assert_eq!(ambiguous, u64::from(!outcome), "{end:?}, outcome known: {outcome}");
        }
    }
}

/// Tries, crashes, waits and when it first waited.
fn counted(claimed: &Claimed) -> (u32, u32, u32, Option<Millis>) {
    let turn = &claimed.turn;
    (turn.tries, turn.crashes, turn.waits, turn.first_wait)
}

#[tokio::test]
async fn delivery_has_counters_of_its_own() {
    let b = bench().await;
    b.accept("c", "a").await;
    let deferred = async |counts_as| {
        b.clock.advance(Duration::from_secs(1));
        let claimed = b.claim_one().await;
        b.store.defer(&claimed.lease, Millis(0), trouble(counts_as)).await.unwrap();
    };
    deferred(CountsAs::Try).await;
    deferred(CountsAs::Wait).await;
    b.clock.advance(Duration::from_secs(1));
    b.claim_one().await;
    b.clock.advance(LEASE);
    let working = b.claim_one().await;
    assert_eq!(counted(&working), (1, 1, 1, Some(Millis(1_002_000))));
    b.store.answered(&working.lease, answer("hi")).await.unwrap();

    b.store.defer(&working.lease, Millis(0), trouble(CountsAs::Nothing)).await.unwrap();
    b.clock.advance(Duration::from_millis(1));
    let first = b.claim_one().await;
    assert_eq!(counted(&first), (0, 0, 0, None), "an answer begins anew");
    b.clock.advance(LEASE);
    assert_eq!(counted(&b.claim_one().await), (0, 1, 0, None));
    let b = b.crashed().await;
    let again = b.claim_one().await;
    assert_eq!(counted(&again), (0, 2, 0, None));
    b.store.defer(&again.lease, Millis(0), trouble(CountsAs::Wait)).await.unwrap();
    b.clock.advance(Duration::from_secs(1));
    let waited = b.claim_one().await;
    let at = b.clock.now();
    assert_eq!(counted(&waited), (0, 2, 1, Some(Millis(at.0 - 1_000))));
    b.store.defer(&waited.lease, Millis(0), trouble(CountsAs::Try)).await.unwrap();

    let record = b.store.turn_record(waited.lease.turn()).await.unwrap().unwrap();
    assert_eq!((record.tries, record.crashes, record.waits), (2, 3, 2), "both stages together");
    assert_eq!(record.first_wait, Some(Millis(1_002_000)));
    assert_eq!(record.last_error.unwrap().0, "trap");
}

#[tokio::test]
async fn a_dead_letters_notice_begins_anew() {
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    b.store.defer(&claimed.lease, Millis(0), trouble(CountsAs::Try)).await.unwrap();
    b.clock.advance(Duration::from_millis(1));
    let notice = Some((agent("support"), Reply::text("sorry")));
    let letter = DeadLetter { reason: "r".into(), blame: Blame::Plugin, notice };
    b.store.dead(&b.claim_one().await.lease, letter).await.unwrap();
    b.clock.advance(LEASE);
    assert_eq!(counted(&b.claim_one().await), (0, 1, 0, None));
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
