//! What comes after a message: changes of it while it waits, and the post that shows its answer being made.

use super::*;
use crate::{Change, Changed, DeadLetter, Progress, Receipt, ReceiptState, Stage, TurnState};
use chela_types::{Blame, Clock};

fn change(event: &str, post: &str, text: Option<&str>) -> Change {
    Change {
        tenant: tenant(),
        channel: ChannelId::new("slack").unwrap(),
        dedupe: vec![vec![event.to_owned()]],
        post: vec![post.to_owned()],
        sender: "U1".to_owned(),
        text: text.map(str::to_owned),
    }
}

async fn changed(b: &Bench, change: Change) -> Changed {
    b.store.change(vec![change]).await.unwrap()[0]
}

#[tokio::test]
async fn an_edit_changes_what_waits_and_lets_it_be_routed_anew() {
    let b = bench().await;
    b.accept("c", "a").await;
    // It was claimed, decided, and put off because its agent was busy.
    let claimed = b.claim_one().await;
    b.store.decided_behind(&claimed.lease, &decision()).await.unwrap();
    assert_eq!(changed(&b, change("e1", "a", Some("held"))).await, Changed::Late);
    b.store.defer(&claimed.lease, b.clock.now(), trouble(CountsAs::Nothing)).await.unwrap();
    assert_eq!(changed(&b, change("e2", "a", Some("new"))).await, Changed::Amended);
    assert_eq!(changed(&b, change("e2", "a", Some("repeated"))).await, Changed::Known);
    assert_eq!(
        changed(&b, change("e1", "a", Some("late"))).await,
        Changed::Known,
        "also one that came too late"
    );
    let foreign = Change { sender: "U2".to_owned(), ..change("e3", "a", Some("mine")) };
    assert_eq!(changed(&b, foreign).await, Changed::Foreign);
    assert_eq!(changed(&b, change("e4", "nothing", None)).await, Changed::Unknown);
    let elsewhere = Change { channel: ChannelId::new("other").unwrap(), ..change("e5", "a", None) };
    assert_eq!(changed(&b, elsewhere).await, Changed::Unknown, "keys are a channel's own");
    assert!(matches!(
        b.store.change(vec![Change { dedupe: Vec::new(), ..change("", "a", None) }]).await,
        Err(Error::Invalid(_))
    ));
    b.clock.advance(Duration::from_secs(1));
    let again = b.claim_one().await;
    assert_eq!(again.turn.message.text, "new");
    assert!(matches!(again.turn.stage, Stage::Received), "decided for other words: {:?}", again.turn.stage);
}

#[tokio::test]
async fn what_a_host_call_was_made_for_stays_as_it_was() {
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    b.store.record(&claimed.lease, entry(1, "1")).await.unwrap();
    b.store.release(&claimed.lease).await.unwrap();
    for text in [Some("new"), None] {
        assert_eq!(changed(&b, change(&format!("{text:?}"), "a", text)).await, Changed::Late);
    }
    // An answer that is kept, and a turn that ended without one, both held by nobody.
    let b = bench().await;
    let (claimed, _) = b.answered("d", "b").await;
    b.store.release(&claimed.lease).await.unwrap();
    assert_eq!(changed(&b, change("e", "b", None)).await, Changed::Late);
    let b = bench().await;
    b.accept("c", "a").await;
    let letter = DeadLetter { reason: "x".to_owned(), blame: Blame::Operator, notice: None };
    b.store.dead(&b.claim_one().await.lease, letter).await.unwrap();
    assert_eq!(changed(&b, change("e", "a", None)).await, Changed::Late);
}

#[tokio::test]
async fn a_withdrawn_message_leaves_its_conversation_to_the_others() {
    let b = bench().await;
    let [first, middle, last] = ["a", "b", "c"];
    for key in [first, middle, last] {
        b.accept("talk", key).await;
    }
    // Behind one that is held.
    let held = b.claim_one().await;
    assert_eq!(changed(&b, change("e1", middle, None)).await, Changed::Withdrawn);
    assert!(b.store.claim("test", 10).await.unwrap().is_empty(), "the lease stands");
    let out = b.store.answered(&held.lease, answer("hello")).await.unwrap();
    b.store.delivered(&held.lease, out.id, None).await.unwrap();
    let next = b.claim_one().await;
    assert_eq!(next.turn.message.text, "text of c");
    b.store.decided_behind(&next.lease, &decision()).await.unwrap();
    b.store.release(&next.lease).await.unwrap();
    // The only one, and at the head.
    assert_eq!(changed(&b, change("e2", last, None)).await, Changed::Withdrawn);
    assert!(b.store.claim("test", 10).await.unwrap().is_empty());
    assert_eq!(b.store.counts().await.unwrap().waiting, 0);
    let record = b.store.turn_record(next.lease.turn()).await.unwrap().unwrap();
    assert_eq!((record.state, record.message), (TurnState::Withdrawn, None));
    assert!(record.decisions.is_empty(), "nobody answers what was never said");
    // Told again, it is known; and whoever comes now is answered.
    assert!(!b.accept("talk", last).await.fresh);
    b.accept("talk", "d").await;
    let after = b.claim_one().await;
    assert_eq!(
        b.store.utterances(&after.lease, 10).await.unwrap().len(),
        2,
        "what was withdrawn was never said"
    );
}

#[tokio::test]
async fn a_progress_post_is_known_after_a_crash_unless_it_was_being_posted() {
    let posted = |seq| Progress::Posted { platform_id: "p1".to_owned(), seq };
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    assert_eq!(claimed.turn.progress, None);
    assert!(b.store.progress_begins(&claimed.lease).await.unwrap());
    assert!(!b.store.progress_begins(&claimed.lease).await.unwrap(), "one for each turn");
    let in_doubt = b.crashed().await;
    assert_eq!(in_doubt.claim_one().await.turn.progress, Some(Progress::Lost));
    b.store.progress(&claimed.lease, None).await.unwrap();
    assert!(b.store.progress_begins(&claimed.lease).await.unwrap(), "it was not posted after all");
    b.store.progress(&claimed.lease, Some(posted(1))).await.unwrap();
    b.store.progress_behind(&claimed.lease, posted(7)).await.unwrap();
    b.accept("d", "flush").await;
    let crashed = b.crashed().await;
    let claims = crashed.store.claim("test", 10).await.unwrap();
    let again = claims.iter().find(|claim| claim.turn.message.text == "text of a").unwrap();
    assert_eq!(again.turn.progress, Some(posted(7)));
    let settled = Progress::Settled { platform_id: "p1".to_owned() };
    crashed.store.progress(&again.lease, Some(settled.clone())).await.unwrap();
    crashed.clock.advance(LEASE);
    let later = crashed.store.claim("test", 10).await.unwrap();
    assert_eq!(later.iter().find_map(|claim| claim.turn.progress.clone()), Some(settled));
    // Whose lease is lost writes nothing.
    assert!(matches!(crashed.store.progress_begins(&again.lease).await, Err(Error::Fenced(_))));
    assert!(matches!(crashed.store.progress(&again.lease, None).await, Err(Error::Fenced(_))));
    assert!(matches!(
        crashed.store.progress(&again.lease, Some(Progress::Lost)).await,
        Err(Error::Fenced(_))
    ));
}

#[tokio::test]
async fn an_edit_is_never_ambiguous() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.store.editing_behind(&claimed.lease, out.id, Some("edit".into())).await.unwrap();
    b.accept("d", "flush").await;
    let b = b.crashed().await;
    assert_eq!(b.store.counts().await.unwrap().ambiguous, 0);
    let claims = b.store.claim("test", 10).await.unwrap();
    let again = claims.iter().find(|claim| claim.lease.turn() == claimed.lease.turn()).unwrap();
    b.store.delivered(&again.lease, out.id, Some("p1".into())).await.unwrap();
    let record = b.store.turn_record(again.lease.turn()).await.unwrap().unwrap();
    assert_eq!(record.outbox.unwrap().requests, 1);
}

#[tokio::test]
async fn receipts_are_kept_once_and_found_by_the_platforms_name() {
    let b = bench().await;
    let told = |state, platform_id: &str| Receipt {
        tenant: tenant(),
        channel: ChannelId::new("slack").unwrap(),
        platform_id: platform_id.to_owned(),
        state,
        detail: None,
    };
    let early = vec![told(ReceiptState::Delivered, "p1"), told(ReceiptState::Delivered, "p1")];
    assert_eq!(b.store.keep_receipts(early).await.unwrap(), 1);
    let (claimed, out) = b.answered("c", "a").await;
    b.store.delivered(&claimed.lease, out.id, Some("p1".into())).await.unwrap();
    b.clock.advance(Duration::from_secs(1));
    let later = vec![told(ReceiptState::Read, "p1"), told(ReceiptState::Failed, "p2")];
    assert_eq!(b.store.keep_receipts(later).await.unwrap(), 2);
    let record = b.store.turn_record(claimed.lease.turn()).await.unwrap().unwrap();
    let receipts = record.outbox.unwrap().receipts;
    let states: Vec<_> = receipts.iter().map(|receipt| receipt.state).collect();
    assert_eq!(states, [ReceiptState::Delivered, ReceiptState::Read]);
    b.clock.advance(Duration::from_secs(1));
    assert_eq!(b.store.keep_receipts(vec![told(ReceiptState::Delivered, "p1")]).await.unwrap(), 0);
    let record = b.store.turn_record(claimed.lease.turn()).await.unwrap().unwrap();
    assert_eq!(record.outbox.unwrap().receipts, receipts, "the first word about it counts");
}

#[tokio::test]
async fn a_notice_takes_the_place_of_an_answer_of_which_nothing_has_left() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    let sorry = || Reply::text("sorry");
    let notice = b
        .store
        .notice_instead(&claimed.lease, "cannot be said", Blame::Plugin, sorry())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((notice.reply.text.as_str(), notice.notice), ("sorry", true));
    assert_ne!(notice.id, out.id, "a platform that knows keys must not take it for the answer");
    b.store.sending(&claimed.lease, notice.id, None, None).await.unwrap();
    let again = b.store.notice_instead(&claimed.lease, "x", Blame::Plugin, sorry()).await.unwrap();
    assert_eq!(again, None, "once, and never after a byte has left");
    b.store.delivered(&claimed.lease, notice.id, None).await.unwrap();
    let record = b.store.turn_record(claimed.lease.turn()).await.unwrap().unwrap();
    assert_eq!((record.state, record.last_error.unwrap().0.as_str()), (TurnState::Dead, "cannot be said"));
}
