//! Words that go by their age, and what stays of them.

use super::versions::digest;
use super::*;
use chela_types::Clock;

use crate::{Purged, StreamEvent, TurnState};

/// A message that was answered now, by a journal of one entry under this version.
async fn told(b: &Bench, key: &str, tenant: &TenantId) -> Claimed {
    let mut arrival = arrival(key, &[key]);
    arrival.tenant = tenant.clone();
    arrival.message.received = b.clock.now();
    b.store.accept(vec![arrival]).await.unwrap();
    let claimed = b.claim_one().await;
    b.store.decided_behind(&claimed.lease, &decision()).await.unwrap();
    let recorded = Entry { version: Some(digest(key)), ..entry(1, key) };
    b.store.record(&claimed.lease, recorded).await.unwrap();
    let out = b.store.answered(&claimed.lease, answer(&format!("answer to {key}"))).await.unwrap();
    b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    claimed
}

fn other() -> TenantId {
    TenantId::new("other").unwrap()
}

async fn words(b: &Bench, turn: TurnId) -> (bool, bool, usize) {
    let record = b.store.turn_record(turn).await.unwrap().unwrap();
    (record.message.is_some(), record.reply.is_some(), record.journal.len())
}

const ALL: (bool, bool, usize) = (true, true, 1);
const NONE: (bool, bool, usize) = (false, false, 0);

#[tokio::test]
async fn old_words_go_and_the_account_of_what_happened_stays() {
    let b = bench().await;
    let old = told(&b, "old", &tenant()).await.lease.turn();
    let theirs = told(&b, "theirs", &other()).await.lease.turn();
    b.accept("open", "open").await;
    let open = b.claim_one().await.lease;
    let at = b.clock.now();
    b.clock.advance(Duration::from_millis(1));
    let young = told(&b, "young", &tenant()).await.lease.turn();
    let mut waiting = arrival("waiting", &["waiting"]);
    waiting.message.received = b.clock.now();
    b.store.accept(vec![waiting]).await.unwrap();
    assert_eq!(b.store.purge_turns(&tenant(), at, 0, 99).await.unwrap(), Purged { turns: 0, next: None });
    let before = b.clock.now();
    assert_eq!(b.store.purge_turns(&tenant(), before, 0, 99).await.unwrap(), Purged { turns: 1, next: None });
    assert_eq!(words(&b, old).await, NONE);
    assert_eq!([words(&b, theirs).await, words(&b, young).await], [ALL; 2]);
    assert!(words(&b, open.turn()).await.0, "an open turn is not old");
    let record = b.store.turn_record(old).await.unwrap().unwrap();
    assert_eq!((record.state, record.decisions.len()), (TurnState::Delivered, 1));
    assert_eq!(record.outbox.unwrap().status, "delivered");
    assert!(!b.accept("old", "old").await.fresh, "what came once is known for ever");
    let mut aside = b.aside().await;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM contents WHERE turn = $1) + (SELECT count(*) FROM journal WHERE turn = $1)",
    )
    .bind(1)
    .fetch_one(&mut aside)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_purge_goes_on_where_its_last_part_ended() {
    let b = bench().await;
    let mut turns = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        turns.push(told(&b, key, &tenant()).await.lease);
    }
    b.clock.advance(Duration::from_millis(1));
    let (mut next, mut parts) = (Some(0), Vec::new());
    while let Some(from) = next {
        let part = b.store.purge_turns(&tenant(), b.clock.now(), from, 2).await.unwrap();
        parts.push(part.turns);
        next = part.next;
    }
    assert_eq!(parts, [2, 2, 1]);
    for lease in &turns {
        assert_eq!(words(&b, lease.turn()).await, NONE);
    }
}

/// A clock that was ahead for a while must not keep what came after it.
#[tokio::test]
async fn a_turn_of_a_clock_that_was_set_back_hides_no_other() {
    let b = bench().await;
    let ahead = told(&b, "ahead", &tenant()).await.lease.turn();
    let mut aside = b.aside().await;
    let later = "UPDATE turns SET received_at = received_at + 60000, closed_at = closed_at + 60000";
    sqlx::query(later).execute(&mut aside).await.unwrap();
    let after = told(&b, "after", &tenant()).await.lease.turn();
    let last = told(&b, "last", &tenant()).await.lease.turn();
    b.clock.advance(Duration::from_secs(1));
    let part = b.store.purge_turns(&tenant(), b.clock.now(), 0, 2).await.unwrap();
    let rest = b.store.purge_turns(&tenant(), b.clock.now(), part.next.unwrap(), 2).await.unwrap();
    assert_eq!((part.turns, rest), (1, Purged { turns: 1, next: None }));
    assert_eq!([words(&b, ahead).await, words(&b, after).await, words(&b, last).await], [ALL, NONE, NONE]);
}

#[tokio::test]
async fn a_version_goes_after_the_journals_that_name_it() {
    let b = bench().await;
    super::versions::left_behind(&b, &["old"]).await;
    told(&b, "old", &tenant()).await;
    b.clock.advance(Duration::from_millis(1));
    assert_eq!(b.store.purge_versions(&tenant(), b.clock.now()).await.unwrap(), 0);
    b.store.purge_turns(&tenant(), b.clock.now(), 0, 99).await.unwrap();
    assert_eq!(b.store.purge_versions(&tenant(), b.clock.now()).await.unwrap(), 1);
}

#[tokio::test]
async fn an_answer_whose_words_are_gone_is_not_given_again_in_response() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    b.store.delivered_in_response(&claimed.lease, out.id).await.unwrap();
    let turn = claimed.lease.turn();
    assert!(b.store.answer_in_response(turn).await.unwrap().is_some());
    b.clock.advance(Duration::from_millis(1));
    b.store.purge_turns(&tenant(), b.clock.now(), 0, 99).await.unwrap();
    assert!(b.store.answer_in_response(turn).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_session_showed_goes_and_its_numbers_go_on() {
    let b = bench().await;
    let show = async |session: &str, text: &str| {
        let event = StreamEvent { session: session.into(), event: text.into() };
        b.store.append_event(&tenant(), event).await.unwrap()
    };
    for text in ["one", "two"] {
        show("s", text).await;
        show("t", text).await;
    }
    b.clock.advance(Duration::from_millis(1));
    show("t", "three").await;
    let before = b.clock.now();
    assert_eq!(b.store.purge_stream_events(&other(), before, 99).await.unwrap(), 0);
    for (limit, purged) in [(3, 3), (99, 1), (99, 0)] {
        assert_eq!(b.store.purge_stream_events(&tenant(), before, limit).await.unwrap(), purged);
    }
    assert_eq!(b.store.events_after(&tenant(), "s", 0, 9).await.unwrap(), []);
    assert_eq!(b.store.events_after(&tenant(), "t", 0, 9).await.unwrap(), [(3, "three".to_owned())]);
    assert_eq!(show("s", "three").await, 3, "a page that comes back misses nothing");
    let mut aside = b.aside().await;
    let kept: Vec<String> =
        sqlx::query_scalar("SELECT event FROM stream_events ORDER BY 1").fetch_all(&mut aside).await.unwrap();
    assert_eq!(kept, ["", "three", "three"]);
}
