//! Claims, leases, fences.

use super::*;
use crate::{Claiming, Claims, DeadLetter, MemoryScope, MemoryWrite, Reserve, Revision, Shares, Stage};
use chela_types::{Blame, Clock, Money, OutboxId};
use futures::FutureExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn a_conversation_is_worked_in_order_and_held_once() {
    let b = bench().await;
    let first = b.accept("c", "a").await;
    let second = b.accept("c", "b").await;
    b.accept("d", "x").await;
    let claimed = b.store.claim("test", 10).await.unwrap();
    assert_eq!(claimed.len(), 2);
    assert_eq!(claimed[0].lease.turn(), first.turn);
    assert!(matches!(claimed[0].turn.stage, Stage::Received));
    assert_eq!(claimed[0].turn.target.bound["channel"], "c");
    assert_eq!(claimed[0].turn.target.notes.as_deref(), Some("note"));
    assert!(b.store.claim("other", 10).await.unwrap().is_empty(), "both are held");
    b.accept("c", "late").await;
    assert!(b.store.claim("other", 10).await.unwrap().is_empty(), "a new message does not free it");
    let out = b.store.answered(&claimed[0].lease, answer("1")).await.unwrap();
    b.store.delivered(&claimed[0].lease, out.id, None).await.unwrap();
    let next = b.claim_one().await;
    assert_eq!(next.lease.turn(), second.turn);
    assert!(next.lease.token() > claimed[0].lease.token());
}

#[tokio::test]
async fn claims_are_limited_and_oldest_first() {
    let b = bench().await;
    for n in 0..5 {
        b.accept(&format!("c{n}"), &format!("k{n}")).await;
        b.clock.advance(Duration::from_millis(1));
    }
    let three = b.store.claim("test", 3).await.unwrap();
    let texts: Vec<_> = three.iter().map(|one| one.turn.message.text.as_str()).collect();
    assert_eq!(texts, ["text of k0", "text of k1", "text of k2"]);
    assert_eq!(b.store.claim("test", 3).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_lapsed_lease_is_claimed_with_a_higher_token_and_counts_a_crash() {
    let b = bench().await;
    b.accept("c", "a").await;
    let old = b.claim_one().await;
    assert_eq!(b.store.next_due().await.unwrap(), Some(old.lease.until()));
    b.clock.advance(LEASE - Duration::from_millis(1));
    let until = b.store.renew(std::slice::from_ref(&old.lease)).await.remove(0).unwrap();
    assert!(until > old.lease.until());
    b.clock.advance(LEASE);
    assert!(matches!(b.store.renew(std::slice::from_ref(&old.lease)).await[0], Err(Error::Fenced(_))));
    let new = b.claim_one().await;
    assert!(new.lease.token() > old.lease.token());
    assert_eq!((old.turn.crashes, new.turn.crashes), (0, 1));
}

/// Every write under a lease, tried with this one. Returns the names of those that were not refused.
async fn writes_not_refused(b: &Bench, lease: &crate::Lease, out: OutboxId) -> Vec<&'static str> {
    let s = &b.store;
    let write = MemoryWrite {
        agent: agent("a"),
        scope: MemoryScope::Agent,
        key: "k".into(),
        value: "v".into(),
        expected: None,
        void: vec![],
    };
    let reserve = Reserve {
        lease: Some(lease.clone()),
        tenant: tenant(),
        turn: Some(lease.turn()),
        scopes: vec![],
        amount: Money::ZERO,
        model: "m".into(),
    };
    let letter = |notice| DeadLetter { reason: "r".into(), blame: Blame::Plugin, notice };
    let event = crate::StreamEvent { session: "s".into(), event: "e".into() };
    let results = [
        ("renew", s.renew(std::slice::from_ref(lease)).await.remove(0).map(drop)),
        ("record", s.record(lease, entry(9, "")).await),
        ("memory_set", s.memory_set(lease, write, |_| entry(9, "")).await.map(drop)),
        ("reserve", s.reserve(reserve).await.map(drop)),
        ("answered", s.answered(lease, answer("zombie")).await.map(drop)),
        ("sending", s.sending(lease, out, None, None).await),
        ("delivered", s.delivered(lease, out, None).await),
        ("delivered_to_stream", s.delivered_to_stream(lease, out, event).await.map(drop)),
        ("defer", s.defer(lease, Millis(0), trouble(CountsAs::Try)).await),
        ("dead", s.dead(lease, letter(None)).await.map(drop)),
        ("dead with notice", s.dead(lease, letter(Some((agent("a"), Reply::text("n"))))).await.map(drop)),
        ("give_up_delivery", s.give_up_delivery(lease, out, "r").await),
        ("release", s.release(lease).await),
    ];
    results
        .into_iter()
        .filter(|(_, result)| !matches!(result, Err(Error::Fenced(_))))
        .map(|(n, _)| n)
        .collect()
}

#[tokio::test]
async fn a_stale_lease_is_refused_by_every_write() {
    let b = bench().await;
    let (old, out) = b.answered("c", "a").await;
    b.clock.advance(LEASE);
    assert_eq!(writes_not_refused(&b, &old.lease, out.id).await, [""; 0], "lapsed, nobody else has it");
    let new = b.claim_one().await;
    b.store.decided_behind(&old.lease, &decision()).await.unwrap();
    b.store.record_behind(&old.lease, entry(1, "zombie")).await.unwrap();
    let revision = Revision { void: 0..9, gone: vec![], entries: vec![entry(2, "zombie")] };
    b.store.revise_journal_behind(&old.lease, revision).await.unwrap();
    b.store.step_sent_behind(&old.lease, out.id, Some("zombie".into())).await.unwrap();
    assert_eq!(writes_not_refused(&b, &old.lease, out.id).await, [""; 0], "somebody else has it");
    let record = b.store.turn_record(new.lease.turn()).await.unwrap().unwrap();
    assert!(record.decisions.is_empty() && record.journal.is_empty());
    assert_eq!(record.outbox.unwrap().status, "kept");
    b.store.delivered(&new.lease, out.id, None).await.unwrap();
    assert_eq!(writes_not_refused(&b, &new.lease, out.id).await, [""; 0], "the turn is closed");
}

#[tokio::test]
async fn a_deferred_turn_waits_and_counts() {
    let b = bench().await;
    b.accept("c", "a").await;
    let until = Millis(1_060_000);
    let now = b.claim_one().await;
    b.store.defer(&now.lease, until, trouble(CountsAs::Try)).await.unwrap();
    b.accept("c", "b").await;
    assert!(b.store.claim("test", 1).await.unwrap().is_empty(), "the head is not due, and b is behind it");
    assert_eq!(b.store.next_due().await.unwrap(), Some(until));
    b.clock.advance(Duration::from_secs(60));
    let again = b.claim_one().await;
    assert_eq!(again.lease.turn(), now.lease.turn());
    assert_eq!((again.turn.tries, again.turn.crashes, again.turn.waits), (1, 0, 0));
    b.store.defer(&again.lease, Millis(0), trouble(CountsAs::Wait)).await.unwrap();
    b.clock.advance(Duration::from_millis(1));
    let third = b.claim_one().await;
    assert_eq!((third.turn.tries, third.turn.waits, third.turn.first_wait), (1, 1, Some(until)));
}

#[tokio::test]
async fn leases_are_renewed_together_and_answered_one_by_one() {
    let b = bench().await;
    for name in ["c", "d", "e"] {
        b.accept(name, name).await;
    }
    let mut leases: Vec<_> =
        b.store.claim("test", 10).await.unwrap().into_iter().map(|one| one.lease).collect();
    b.store.release(&leases[1]).await.unwrap();
    let again = b.claim_one().await.lease;
    b.clock.advance(LEASE / 2);
    let answers = b.store.renew(&leases).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    leases[1] = again;
    b.clock.advance(LEASE / 2);
    let answers = b.store.renew(&leases).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true], "it has lapsed");
}

#[tokio::test]
async fn when_something_is_next_due_is_never_said_too_late() {
    let b = bench().await;
    assert_eq!(b.store.next_due().await.unwrap(), None);
    b.accept("c", "a").await;
    b.accept("c", "b").await;
    assert!(b.store.next_due().await.unwrap().unwrap() <= Millis(1_000_000));
    let held = b.claim_one().await;
    let out = b.store.answered(&held.lease, answer("1")).await.unwrap();
    b.store.delivered(&held.lease, out.id, None).await.unwrap();
    assert!(b.store.next_due().await.unwrap().unwrap() <= Millis(1_000_000), "b is due");
    let held = b.claim_one().await;
    let until = Millis(1_005_000);
    b.store.defer(&held.lease, until, trouble(CountsAs::Wait)).await.unwrap();
    assert_eq!(b.store.next_due().await.unwrap(), Some(until));
    assert!(b.store.claim("test", 1).await.unwrap().is_empty());
    b.clock.advance(Duration::from_secs(5));
    let held = b.claim_one().await;
    let out = b.store.answered(&held.lease, answer("2")).await.unwrap();
    b.store.delivered(&held.lease, out.id, None).await.unwrap();
    b.clock.advance(LEASE);
    assert!(b.store.claim("test", 1).await.unwrap().is_empty());
    assert_eq!(b.store.next_due().await.unwrap(), None, "nothing waits");
}

#[tokio::test]
async fn a_release_gives_back_without_counting() {
    let b = bench().await;
    b.accept("c", "a").await;
    let held = b.claim_one().await;
    b.store.release(&held.lease).await.unwrap();
    let again = b.claim_one().await;
    assert_eq!((again.turn.tries, again.turn.crashes), (0, 0));
}

/// One row that could not be read once failed the whole claim after it was committed, again and again: everybody
/// who was due beside it was held by nobody.
#[tokio::test]
async fn a_turn_that_cannot_be_read_is_parked_and_harms_no_other() {
    let b = bench().await;
    let bad = b.accept("bad", "a").await.turn;
    b.accept("good", "b").await;
    let mut aside = b.aside().await;
    sqlx::query("UPDATE contents SET body = x'00' WHERE turn = (SELECT seq FROM turns WHERE id = $1)")
        .bind(bad.as_bytes().as_slice())
        .execute(&mut aside)
        .await
        .unwrap();
    let claimed = b.store.claim("test", 10).await.unwrap();
    assert_eq!(claimed.iter().map(|one| one.turn.message.text.as_str()).collect::<Vec<_>>(), ["text of b"]);
    let (error, crashes): (String, i64) =
        sqlx::query_as("SELECT last_error, crashes FROM turns WHERE id = $1")
            .bind(bad.as_bytes().as_slice())
            .fetch_one(&mut aside)
            .await
            .unwrap();
    assert_eq!((error.as_str(), crashes), ("a kept message cannot be read", 0));
    assert_eq!(b.store.counts().await.unwrap().leased, 1, "nobody holds it");
    b.clock.advance(Duration::from_mins(5));
    let again = b.store.claim("test", 10).await.unwrap();
    assert_eq!(again.len(), 1, "the other's lease lapsed");
    assert_eq!(again[0].turn.crashes, 1);
}

#[tokio::test]
async fn work_is_announced() {
    let b = bench().await;
    let work = b.store.work();
    b.accept("c", "a").await;
    work.notified().await;
    let held = b.claim_one().await;
    b.store.defer(&held.lease, Millis(0), trouble(CountsAs::Nothing)).await.unwrap();
    work.notified().await;
}

#[tokio::test]
async fn a_dead_letter_with_and_without_a_word() {
    let b = bench().await;
    b.accept("c", "a").await;
    b.accept("c", "b").await;
    let silent = b.claim_one().await;
    let letter = |notice| DeadLetter { reason: "3 tries".into(), blame: Blame::Plugin, notice };
    assert!(b.store.dead(&silent.lease, letter(None)).await.unwrap().is_none());
    let record = b.store.turn_record(silent.lease.turn()).await.unwrap().unwrap();
    assert_eq!((record.state, record.closed), (crate::TurnState::Dead, Some(Millis(1_000_000))));
    let told = b.claim_one().await;
    let notice = letter(Some((agent("support"), Reply::text("sorry"))));
    let out = b.store.dead(&told.lease, notice).await.unwrap().unwrap();
    assert!(out.notice);
    assert_eq!(b.store.counts().await.unwrap().dead, 1, "not before the word is delivered");
    let b = b.crashed().await;
    let again = b.claim_one().await;
    assert!(matches!(&again.turn.stage, Stage::Answered(kept) if *kept == out));
    assert_eq!(again.turn.sticky, None, "a notice is not an agent's answer");
    b.store.delivered(&again.lease, out.id, None).await.unwrap();
    assert_eq!(b.store.counts().await.unwrap().dead, 2);
}

#[tokio::test]
async fn a_flooded_lane_waits_behind_itself() {
    let b = bench().await;
    for number in 0..20 {
        let key = format!("f{number}");
        b.store.accept(vec![Arrival { lane: "flood".into(), ..arrival(&key, &[&key]) }]).await.unwrap();
    }
    b.store.accept(vec![Arrival { lane: "quiet".into(), ..arrival("q", &["q"]) }]).await.unwrap();
    let lanes = |claims: &Claims| claims.claimed.iter().map(|one| one.turn.lane.clone()).collect::<Vec<_>>();
    let running = [("flood".to_owned(), 5)].into();
    let shares = Shares { running, lane_max: Some(7), ..Shares::default() };
    let first = b.store.claim_fairly("test", free(2, &shares)).await.unwrap();
    let mut seen = lanes(&first);
    seen.sort();
    assert_eq!((seen, first.held_back), (vec!["flood".to_owned(), "quiet".to_owned()], false));
    let shares = Shares { running: [("flood".to_owned(), 6)].into(), ..shares };
    let second = b.store.claim_fairly("test", free(10, &shares)).await.unwrap();
    assert_eq!((lanes(&second), second.held_back), (vec!["flood".to_owned()], true));
    assert_eq!(b.store.claim("test", 100).await.unwrap().len(), 18, "who asks for no share gets what is due");
}

#[tokio::test]
async fn a_conversation_waits_in_the_lane_of_whoever_answered_last() {
    let b = bench().await;
    b.accept("c", "a").await;
    let claimed = b.claim_one().await;
    assert_eq!(claimed.turn.lane, "");
    let given = Answer { lane: Some("people".into()), ..answer("hello") };
    let out = b.store.answered(&claimed.lease, given).await.unwrap();
    b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    b.accept("c", "b").await;
    let claimed = b.claim_one().await;
    assert_eq!(claimed.turn.lane, "people");
    let out = b.store.answered(&claimed.lease, answer("again")).await.unwrap();
    b.store.delivered(&claimed.lease, out.id, None).await.unwrap();
    b.accept("c", "d").await;
    assert_eq!(b.claim_one().await.turn.lane, "people", "an agent of no department leaves it where it is");
}

/// So many are free, and this is what each lane has.
fn free(limit: usize, shares: &Shares) -> impl Fn() -> (usize, Shares) + Send + Sync + 'static {
    let shares = shares.clone();
    move || (limit, shares.clone())
}

fn claiming(b: &Bench) -> Claiming {
    b.store.claim_when_due("test", free(10, &Shares::default()))
}

/// What it has brought by now.
fn claimed(claiming: &mut Claiming) -> Vec<Claimed> {
    claiming.claimed().now_or_never().expect("the claim is made").unwrap().claimed
}

#[tokio::test]
async fn who_waits_has_a_message_in_the_commit_that_keeps_it() {
    let b = bench().await;
    let mut claiming = claiming(&b);
    let accepted = b.accept("c", "a").await;
    assert_eq!(b.crashed().await.claim_one().await.turn.crashes, 1, "the disk has the claim, too");
    let claims = claimed(&mut claiming);
    assert_eq!(claims[0].lease.turn(), accepted.turn);
    assert_eq!(b.store.next_due().await.unwrap(), Some(claims[0].lease.until()));
    let work = b.store.work();
    assert!(work.notified().now_or_never().is_none(), "nothing is left to be claimed");
    b.accept("d", "b").await;
    assert!(work.notified().now_or_never().is_some(), "nobody waited");
    b.claim_one().await;
}

#[tokio::test]
async fn who_waits_is_asked_for_his_places_when_something_comes() {
    let b = bench().await;
    let places = Arc::new(AtomicUsize::new(0));
    let free = Arc::clone(&places);
    let mut claiming =
        b.store.claim_when_due("test", move || (free.load(Ordering::Relaxed), Shares::default()));
    places.store(1, Ordering::Relaxed);
    b.store.accept(vec![arrival("c", &["a"]), arrival("d", &["b"])]).await.unwrap();
    assert_eq!(claimed(&mut claiming).len(), 1);
    b.claim_one().await;
}

#[tokio::test]
async fn a_claim_that_waits_can_be_taken_back_until_it_is_made() {
    let b = bench().await;
    assert!(claiming(&b).withdraw().await.unwrap().claimed.is_empty());
    b.accept("c", "a").await;
    b.claim_one().await;
    let made = claiming(&b);
    b.accept("d", "b").await;
    assert_eq!(made.withdraw().await.unwrap().claimed.len(), 1);
    drop(claiming(&b));
    b.accept("e", "c").await;
    b.claim_one().await;
    let mut waiting = claiming(&b);
    b.store.close().await.unwrap();
    assert!(matches!(waiting.claimed().await, Err(Error::Closed)));
}

#[tokio::test]
async fn who_waits_is_not_served_by_what_is_put_off() {
    let b = bench().await;
    b.accept("c", "a").await;
    let put_off = b.claim_one().await.lease;
    let mut claiming = claiming(&b);
    let later = b.clock.now().plus(Duration::from_secs(1));
    b.store.defer(&put_off, later, trouble(CountsAs::Nothing)).await.unwrap();
    assert!(claiming.claimed().now_or_never().is_none());
    assert!(b.store.work().notified().now_or_never().is_some(), "when the next one is due has changed");
    b.clock.advance(Duration::from_secs(1));
    b.accept("d", "b").await;
    assert_eq!(claimed(&mut claiming).len(), 2, "what is due by then comes along");
}

#[tokio::test]
async fn a_claim_that_knows_the_store_does_not_keep_it_open() {
    let b = bench().await;
    let known = b.store.clone();
    let claiming =
        b.store.claim_when_due("test", move || (usize::from(known.check_open().is_ok()), Shares::default()));
    let Bench { store, clock, folder } = b;
    drop((claiming, store));
    // Who has the folder lets go of it when all have let go of him.
    for _ in 0..100 {
        match open(&folder, &clock).await {
            Err(Error::Owned { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => return drop(opened.unwrap()),
        }
    }
    panic!("the store is still open");
}
