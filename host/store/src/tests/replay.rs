//! Recorded turns, frames, and reading beside a host that runs.

use super::versions::{digest, keep};
use super::*;
use crate::{Change, Recorded, Stage, TurnState};
use chela_types::{Blame, Speaker};
use std::process::Command;

/// A message that came in then, answered with a journal of two entries, the later one written first.
async fn told(b: &Bench, key: &str, received: i64) -> Claimed {
    let mut arrival = arrival(key, &[key]);
    arrival.message.received = Millis(received);
    b.store.accept(vec![arrival]).await.unwrap();
    let claimed = b.claim_one().await;
    let recorded = Entry { version: Some(digest(key)), ..entry(1, key) };
    b.store.record(&claimed.lease, recorded).await.unwrap();
    b.store.record(&claimed.lease, entry(0, "clock")).await.unwrap();
    let out = b.store.answered(&claimed.lease, answer(&format!("answer to {key}"))).await.unwrap();
    b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    claimed
}

async fn page(b: &Bench, since: i64, after: i64, limit: usize) -> Vec<Recorded> {
    b.store.recorded(&tenant(), Millis(since), after, limit).await.unwrap()
}

fn texts(turns: &[Recorded]) -> Vec<&str> {
    turns.iter().map(|turn| turn.message.as_ref().map_or("", |message| message.text.as_str())).collect()
}

#[tokio::test]
async fn recorded_turns_come_in_pages_in_the_order_of_arrival() {
    let b = bench().await;
    // One of them says that it came in later than those after it.
    for (key, received) in [("a", 10), ("b", 20), ("c", 50), ("d", 30), ("e", 20), ("f", 40)] {
        told(&b, key, received).await;
    }
    b.accept("g", "open").await;
    let mut theirs = arrival("h", &["theirs"]);
    theirs.tenant = TenantId::new("other").unwrap();
    b.store.accept(vec![theirs]).await.unwrap();
    let text = |keys: &[&str]| keys.iter().map(|key| format!("text of {key}")).collect::<Vec<_>>();
    assert_eq!(texts(&page(&b, 0, 0, 99).await), text(&["a", "b", "c", "d", "e", "f"]));
    assert_eq!(texts(&page(&b, 25, 0, 99).await), text(&["c", "d", "f"]));
    let first = page(&b, 20, 0, 2).await;
    assert_eq!(texts(&first), text(&["b", "c"]));
    let second = page(&b, 20, first[1].seq, 2).await;
    assert_eq!(texts(&second), text(&["d", "e"]));
    let third = page(&b, 20, second[1].seq, 2).await;
    assert_eq!(texts(&third), text(&["f"]));
    assert!(page(&b, 20, third[0].seq, 2).await.is_empty());
    assert!(page(&b, 51, 0, 2).await.is_empty());
    for (since, count) in [(0, 6), (20, 5), (51, 0)] {
        assert_eq!(b.store.count_recorded(&tenant(), Millis(since)).await.unwrap(), count);
    }
    assert_eq!(b.store.count_recorded(&TenantId::new("other").unwrap(), Millis(0)).await.unwrap(), 0, "open");
}

#[tokio::test]
async fn a_recorded_turn_has_all_that_was_said_of_it() {
    let b = bench().await;
    let claimed = told(&b, "a", 10).await;
    told(&b, "b", 11).await;
    let found = page(&b, 0, 0, 9).await.remove(0);
    assert_eq!((found.id, found.conversation), (claimed.lease.turn(), claimed.lease.conversation()));
    assert_eq!((found.received, found.state), (Millis(10), TurnState::Delivered));
    assert_eq!(found.channel.as_str(), "slack");
    assert_eq!(found.message, Some(claimed.turn.message));
    assert_eq!(found.reply.unwrap().text, "answer to a");
    assert_eq!(found.entries, [entry(0, "clock"), Entry { version: Some(digest("a")), ..entry(1, "a") }]);
}

#[tokio::test]
async fn turns_are_recorded_however_they_ended_and_without_words_once_those_are_purged() {
    let b = bench().await;
    b.accept("c", "dead").await;
    let letter = crate::DeadLetter { reason: "r".into(), blame: Blame::Plugin, notice: None };
    b.store.dead(&b.claim_one().await.lease, letter).await.unwrap();
    b.accept("c", "gone").await;
    let withdrawn = Change {
        tenant: tenant(),
        channel: ChannelId::new("slack").unwrap(),
        dedupe: vec![vec!["event".to_owned()]],
        post: vec!["gone".to_owned()],
        sender: "U1".to_owned(),
        text: None,
    };
    b.store.change(vec![withdrawn]).await.unwrap();
    let purged = told(&b, "purged", 999).await;
    let mut aside = b.aside().await;
    sqlx::query("DELETE FROM contents WHERE turn = $1")
        .bind(purged.lease.seq)
        .execute(&mut aside)
        .await
        .unwrap();
    let found = page(&b, 0, 0, 9).await;
    let states: Vec<_> = found.iter().map(|turn| (turn.state, turn.message.is_some())).collect();
    assert_eq!(
        states,
        [(TurnState::Dead, true), (TurnState::Withdrawn, false), (TurnState::Delivered, false)]
    );
    assert!(found.iter().all(|turn| turn.reply.is_none() && turn.entries.is_empty()));
}

#[tokio::test]
async fn what_was_said_before_a_recorded_turn_is_found_by_its_number() {
    let b = bench().await;
    for key in ["a", "b"] {
        b.accept("talk", key).await;
        let claimed = b.claim_one().await;
        let out = b.store.answered(&claimed.lease, answer(key)).await.unwrap();
        b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    }
    let second = page(&b, 0, 0, 9).await.remove(1);
    let said = b.store.utterances_of(second.conversation, second.seq, 9).await.unwrap();
    let said: Vec<_> = said.iter().map(|one| (one.speaker, one.text.as_str())).collect();
    assert_eq!(said, [(Speaker::Person, "text of a"), (Speaker::Agent, "a")]);
}

#[tokio::test]
async fn an_entry_is_replaced_at_its_place() {
    let b = bench().await;
    b.accept("c", "a").await;
    let lease = b.claim_one().await.lease;
    b.store.record(&lease, entry(0, "v")).await.unwrap();
    b.store.record(&lease, entry(1, "old")).await.unwrap();
    let new = Entry {
        function: "clock.now".into(),
        arguments: digest("other"),
        at: Millis(6),
        version: Some(digest("a")),
        ..entry(1, "new")
    };
    b.store.rerecord_behind(&lease, new.clone()).await.unwrap();
    b.store.rerecord_behind(&lease, entry(2, "first there")).await.unwrap();
    b.store.record(&lease, entry(3, "flush")).await.unwrap();
    let wanted = [entry(0, "v"), new, entry(2, "first there"), entry(3, "flush")];
    assert_eq!(b.store.journal(&lease).await.unwrap(), wanted);
    b.clock.advance(LEASE);
    let current = b.claim_one().await.lease;
    b.store.rerecord_behind(&lease, entry(1, "too late")).await.unwrap();
    b.store.record(&current, entry(4, "flush")).await.unwrap();
    assert_eq!(b.store.journal(&current).await.unwrap()[..4], wanted, "whose lease is lost replaces nothing");
}

#[tokio::test]
async fn a_frame_is_kept_once() {
    let b = bench().await;
    b.store.keep_frame_behind(&tenant(), digest("a"), "{}".into()).await.unwrap();
    b.store.keep_frame_behind(&tenant(), digest("a"), "another".into()).await.unwrap();
    b.accept("c", "flush").await;
    let b = b.crashed().await;
    assert_eq!(b.store.frame(&tenant(), digest("a")).await.unwrap().as_deref(), Some("{}"));
    assert_eq!(b.store.frame(&tenant(), digest("b")).await.unwrap(), None);
    assert_eq!(b.store.frame(&TenantId::new("other").unwrap(), digest("a")).await.unwrap(), None);
}

fn adapter(claimed: &Claimed) -> Option<Digest> {
    match &claimed.turn.stage {
        Stage::Answered(outgoing) => outgoing.adapter,
        other => panic!("not answered: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_remembers_which_adapter_began_to_send_it() {
    let b = bench().await;
    let (claimed, out) = b.answered("c", "a").await;
    assert_eq!(out.adapter, None);
    b.store.sending(&claimed.lease, out.id, None, Some(digest("one"))).await.unwrap();
    b.store.step_sent_behind(&claimed.lease, out.id, Some("step".into())).await.unwrap();
    b.store.sending(&claimed.lease, out.id, Some("step".into()), None).await.unwrap();
    b.store.editing_behind(&claimed.lease, out.id, Some("step".into())).await.unwrap();
    b.accept("d", "flush").await;
    let b = b.crashed().await;
    let claims = b.store.claim("test", 10).await.unwrap();
    let again = claims.into_iter().find(|claim| claim.lease.turn() == claimed.lease.turn()).unwrap();
    assert_eq!(adapter(&again), Some(digest("one")));
    b.store.sending(&again.lease, out.id, None, Some(digest("two"))).await.unwrap();
    let kept = b.store.answered(&again.lease, answer("another")).await.unwrap();
    assert_eq!(kept.adapter, Some(digest("two")));
}

#[tokio::test]
async fn a_notice_in_an_answers_place_has_no_adapter() {
    let b = bench().await;
    let (claimed, _) = b.answered("c", "a").await;
    let mut aside = b.aside().await;
    sqlx::query("UPDATE outbox SET adapter = zeroblob(32)").execute(&mut aside).await.unwrap();
    let sorry = Reply::text("sorry");
    let notice = b.store.notice_instead(&claimed.lease, "r", Blame::Plugin, sorry).await.unwrap().unwrap();
    assert_eq!(notice.adapter, None);
}

/// Set in the process that looks on.
const BESIDE: &str = "CHELA_TEST_BESIDE";

/// Another process is what it is for, so this test runs itself again in one.
#[tokio::test]
async fn whoever_looks_on_sees_what_a_running_host_commits() {
    if let Some(folder) = std::env::var_os(BESIDE) {
        let store = Store::open_beside(folder.as_ref()).await.unwrap();
        let found = store.recorded(&tenant(), Millis(0), 0, 9).await.unwrap();
        assert_eq!(texts(&found), ["text of a"]);
        store.close().await.unwrap();
        return;
    }
    let b = bench().await;
    let beside = Store::open_beside(b.folder.path()).await.unwrap();
    assert_eq!(beside.count_recorded(&tenant(), Millis(0)).await.unwrap(), 0);
    told(&b, "a", 10).await;
    assert_eq!(beside.count_recorded(&tenant(), Millis(0)).await.unwrap(), 1);
    let name = "tests::replay::whoever_looks_on_sees_what_a_running_host_commits";
    let program = std::env::current_exe().unwrap();
    let ran = Command::new(program).args(["--exact", name]).env(BESIDE, b.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    keep(&b, &["a"]).await;
    assert_eq!(beside.versions(&tenant(), None, 9).await.unwrap().len(), 1);
    assert!(matches!(beside.accept(vec![arrival("c", &["x"])]).await, Err(Error::ReadOnly)));
    assert!(matches!(Store::open_read_only(b.folder.path()).await, Err(Error::Owned { .. })));
    // It is in nobody's way, and goes on.
    b.store.close().await.unwrap();
    let store = open(&b.folder, &b.clock).await.unwrap();
    let b = Bench { store, ..b };
    told(&b, "b", 11).await;
    assert_eq!(beside.count_recorded(&tenant(), Millis(0)).await.unwrap(), 2);
    let nothing = TempDir::new().unwrap();
    assert!(matches!(Store::open_beside(nothing.path()).await, Err(Error::Missing { .. })));
}
