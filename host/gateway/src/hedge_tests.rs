//! The next model beside the first: one answer, and both charged.

use super::tests::{Act, call, chain, down, slow, usage, whole};
use super::*;
use crate::Completed;
use crate::provider::{Ask, Backend, Piece, Pieces};
use chela_types::{Finish, Money};
use futures::StreamExt;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

const AFTER: Duration = Duration::from_secs(2);

/// Says one text after a time, and notes when somebody stops listening before its end.
struct Late {
    after: Duration,
    text: &'static str,
    cancelled: Arc<AtomicU32>,
}

/// Counts when it is dropped while it is not over.
struct Guard(Arc<AtomicU32>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Backend for Late {
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        ask.sent.mark();
        let guard = Mutex::new(Some(Guard(self.cancelled.clone())));
        Box::pin(async move {
            tokio::time::sleep(self.after).await;
            let pieces = [Piece::Text(self.text.into()), usage(10, 3), Piece::Finish(Finish::Stop)];
            let end = futures::stream::once(async move {
                std::mem::forget(guard.lock().take());
                Ok(Piece::End)
            });
            Ok(futures::stream::iter(pieces.map(Ok)).chain(end).boxed())
        })
    }
}

/// A chain whose first two models say something so late.
fn hedged(first: Duration, second: Duration) -> (Failover, [Arc<AtomicU32>; 2]) {
    let (mut failover, _) = chain(vec![whole("never"), whole("never"), whole("three")]);
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    plan.failover.hedge_after = Some(AFTER);
    let cancelled = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    for (index, (after, text)) in [(first, "one"), (second, "two")].into_iter().enumerate() {
        let late = Late { after, text, cancelled: cancelled[index].clone() };
        Arc::get_mut(&mut plan.links[index]).unwrap().backend = Arc::new(late);
    }
    (failover, cancelled)
}

async fn run(failover: &Failover) -> Result<Completed, Error> {
    failover.complete(Arc::new(call("hello"))).await?.whole().await
}

fn attempts(record: &chela_types::ModelCall) -> Vec<(&str, &str)> {
    record.attempts.iter().map(|attempt| (attempt.model.as_str(), attempt.class.as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn who_says_the_first_text_wins_and_both_are_charged() {
    let seconds = Duration::from_secs;
    for (first, second, text, record, took) in [
        (seconds(1), seconds(1), "one", vec![("p0/m", "ok")], seconds(1)),
        (seconds(4), seconds(1), "two", vec![("p0/m", "hedged"), ("p1/m", "ok")], seconds(3)),
        (seconds(3), seconds(4), "one", vec![("p1/m", "lost"), ("p0/m", "ok")], seconds(3)),
    ] {
        let (failover, cancelled) = hedged(first, second);
        let began = Instant::now();
        let completed = run(&failover).await.unwrap();
        assert_eq!((completed.text.as_str(), attempts(&completed.call)), (text, record.clone()));
        assert_eq!(began.elapsed(), took);
        let bound = failover.plan.rate(&failover.plan.links[0], &call("hello")).bound();
        let answered = Money::from_nanos(10 * 1000 + 3 * 2000);
        let is_hedged = record.len() == 2;
        assert_eq!(completed.call.cost, if is_hedged { bound.plus(answered) } else { answered });
        assert!(completed.call.cost <= failover.plan.worst_case(&call("hello")).cost);
        let seen: u32 = cancelled.iter().map(|one| one.load(Ordering::SeqCst)).sum();
        assert_eq!(seen, u32::from(is_hedged), "the other is told that nobody listens");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_fails_harms_nobody_and_a_first_that_fails_waits_for_it() {
    let seconds = Duration::from_secs;
    let (mut failover, _) = hedged(seconds(4), seconds(1));
    let failing = chain(vec![Act::Fail(down(), false)]).0;
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    Arc::get_mut(&mut plan.links[1]).unwrap().backend = failing.plan.links[0].backend.clone();
    let completed = run(&failover).await.unwrap();
    assert_eq!(attempts(&completed.call), [("p1/m", "unavailable"), ("p0/m", "ok")]);
    // The first is silent until it is too slow, the hedge until a little later.
    let (failover, _) = hedged(seconds(60), seconds(4));
    let completed = run(&failover).await.unwrap();
    assert_eq!(attempts(&completed.call), [("p0/m", "too_slow"), ("p1/m", "ok")]);
}

/// With few calls each of them is hedged, and nothing else would ever tell that the first hangs.
#[tokio::test(start_paused = true)]
async fn a_first_that_is_always_overtaken_is_left_alone() {
    let (failover, _) = hedged(Duration::from_secs(60), Duration::from_secs(1));
    let often = [(9, "hedged"); 5];
    // Then it is left alone, found out about by one call, and left alone for longer.
    for (wait, class) in often.into_iter().chain([(0, "unavailable"), (9, "hedged"), (9, "unavailable")]) {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let completed = run(&failover).await.unwrap();
        assert_eq!(attempts(&completed.call), [("p0/m", class), ("p1/m", "ok")]);
    }
    assert!(failover.plan.links[1].admit(1).is_ok(), "who came second or first has not failed");
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_when_the_call_fails_for_good_is_dropped() {
    let (mut failover, _) = hedged(Duration::from_secs(4), Duration::from_secs(1));
    let refusing = chain(vec![Act::Fail(Kind::Refused, false)]).0;
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    Arc::get_mut(&mut plan.links[1]).unwrap().backend = refusing.plan.links[0].backend.clone();
    let record = run(&failover).await.unwrap_err().call.unwrap();
    assert_eq!(attempts(&record), [("p1/m", "refused"), ("p0/m", "dropped")]);
    assert_eq!(record.cost, failover.plan.rate(&failover.plan.links[0], &call("hello")).bound());
}

#[tokio::test(start_paused = true)]
async fn nobody_who_rests_is_asked_beside_another() {
    let (failover, _) = hedged(Duration::from_secs(4), Duration::from_secs(1));
    let resting = &failover.plan.links[1];
    let limited = Kind::RateLimited { retry_after: Duration::from_secs(60) };
    resting.admit(1).unwrap().failed(&Trouble::new(limited, false), Duration::from_secs(600));
    let completed = run(&failover).await.unwrap();
    // The third is asked in its place.
    assert_eq!(attempts(&completed.call), [("p1/m", "rate_limited"), ("p0/m", "hedged"), ("p2/m", "ok")]);
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_the_calls_is_hedged_at_most() {
    let (failover, cancelled) = hedged(Duration::from_secs(4), Duration::from_secs(1));
    let failover = Arc::new(failover);
    let calls = (0..100).map(|_| {
        let failover = Arc::clone(&failover);
        tokio::spawn(async move { run(&failover).await.unwrap().text })
    });
    let texts = futures::future::join_all(calls.collect::<Vec<_>>()).await;
    let hedged = texts.iter().filter(|text| text.as_deref().unwrap() == "two").count();
    assert_eq!((hedged, cancelled[0].load(Ordering::SeqCst)), (11, 11));
}

#[tokio::test(start_paused = true)]
async fn without_the_key_nobody_is_asked_beside_another() {
    let failover =
        slow(vec![(4, Piece::Text("one".into())), (0, Piece::Finish(Finish::Stop)), (0, Piece::End)]);
    assert_eq!(attempts(&run(&failover).await.unwrap().call), [("p0/m", "ok")]);
}
