//! What becomes of a turn, as a function of its counters; and that a run leaves its place however it ends.

use std::panic::AssertUnwindSafe;

use chela_types::{AgentId, ChannelId, OutboxId};
use futures::FutureExt;

use super::*;
use crate::testing::Bench;

const HOUR: Duration = Duration::from_secs(3_600);

fn config() -> DeliveryConfig {
    DeliveryConfig {
        tries_max: 3,
        crashes_max: 10,
        wait_max: 24 * HOUR,
        unknown_max: 10,
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(300),
        notice: "sorry".to_owned(),
        steps_max: 8,
    }
}

fn channel() -> ChannelId {
    ChannelId::new("slack").unwrap()
}

fn again(turn: &Turn, error: &Error, now: Millis) -> (Duration, CountsAs) {
    match verdict(&config(), turn, error, now) {
        Verdict::Again { after, counts_as } => (after, counts_as),
        other => panic!("{other:?}"),
    }
}

fn sent(turn: &Turn, ambiguous: u32) -> Turn {
    let outgoing = Outgoing {
        id: OutboxId::new(),
        agent: AgentId::new("support").unwrap(),
        reply: Reply::text("hello"),
        notice: false,
        state: None,
        ambiguous,
        kept: Millis(0),
        requests: 0,
        adapter: None,
    };
    Turn { stage: Stage::Answered(outgoing), ..turn.clone() }
}

#[tokio::test]
async fn whatever_a_platform_asks_for_the_turn_comes_to_an_end() {
    let turn = Bench::new().await.claimed.turn;
    let error = Error::Undelivered { channel: channel(), reason: String::new(), after: Some(Duration::MAX) };
    let (after, counts_as) = again(&sent(&turn, 0), &error, Millis(0));
    assert_eq!((after, counts_as), (24 * HOUR, CountsAs::Wait));
    let waited = Turn { first_wait: Some(Millis(0)), waits: 1, ..sent(&turn, 0) };
    let now = Millis(0).plus(23 * HOUR);
    assert_eq!(again(&waited, &error, now).0, HOUR);
    assert_eq!(verdict(&config(), &waited, &error, Millis(0).plus(24 * HOUR)), Verdict::GiveUpDelivery);
}

#[tokio::test]
async fn an_agent_that_asks_again_and_again_comes_to_an_end() {
    let turn = Bench::new().await.claimed.turn;
    let minute = Duration::from_secs(60);
    let error = Error::AskedAgain { agent: AgentId::new("support").unwrap(), after: minute };
    let waited = Turn { first_wait: Some(Millis(0)), waits: 30, ..turn.clone() };
    assert_eq!(
        again(&waited, &error, Millis(0).plus(HOUR)),
        (minute, CountsAs::Wait),
        "as it asked, no later"
    );
    assert_eq!(verdict(&config(), &waited, &error, Millis(0).plus(24 * HOUR)), Verdict::Dead);
    assert_eq!(error.blame(), Blame::Plugin);
}

#[tokio::test]
async fn sends_of_unknown_outcome_are_repeated_ever_more_rarely_and_not_for_ever() {
    let turn = Bench::new().await.claimed.turn;
    let error = Error::Unknown { channel: channel(), reason: String::new(), after: None };
    let mut total = Duration::ZERO;
    let mut last = Duration::ZERO;
    for unknown in 0..9 {
        let (after, counts_as) = again(&sent(&turn, unknown), &error, Millis(0));
        assert_eq!(counts_as, CountsAs::Wait);
        assert!(after >= last, "{unknown}: {after:?} after {last:?}");
        (total, last) = (total + after, after);
    }
    assert!(total > 10 * HOUR, "an outage of a night is outlived: {total:?}");
    assert_eq!(verdict(&config(), &sent(&turn, 9), &error, Millis(0)), Verdict::GiveUpDelivery);
}

#[tokio::test]
async fn a_plugin_has_its_tries_and_an_outage_takes_none_of_them() {
    let turn = Bench::new().await.claimed.turn;
    let plugin = Error::reported("agent `a`".to_owned(), "no", false);
    let outage = Error::reported("agent `a`".to_owned(), "no", true);
    let tried = Turn { tries: 2, ..turn.clone() };
    assert_eq!(verdict(&config(), &tried, &plugin, Millis(0)), Verdict::Dead);
    assert_eq!(again(&tried, &outage, Millis(0)).1, CountsAs::Wait);
    assert_eq!(
        again(&turn, &outage.if_outage(false), Millis(0)).1,
        CountsAs::Try,
        "nothing failed but itself"
    );
}

#[tokio::test]
async fn a_run_that_panics_leaves_its_place() {
    let (running, slots, freed) = (Running::default(), Arc::new(Semaphore::new(1)), Arc::new(Notify::new()));
    let lease = Bench::new().await.claimed.lease;
    let place = Place {
        running: running.clone(),
        key: Running::key(&lease),
        slots: Arc::clone(&slots),
        slot: Some(Arc::clone(&slots).try_acquire_owned().unwrap()),
        freed: Arc::clone(&freed),
        held_back: Arc::default(),
    };
    let waiting = tokio::spawn(std::future::pending::<()>());
    running.0.lock().enter(Run { lease, task: waiting.abort_handle(), lane: String::new() });
    let run = async move {
        let _place = place;
        panic!("as a bug would");
    };
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    assert!(ended.is_err());
    assert!(running.0.lock().leases().is_empty(), "its lease is renewed no more");
    assert_eq!(slots.available_permits(), 1);
    freed.notified().await;
}
