//! What trickles is as good as down; and an outage is no storm.

use super::tests::{Act, call, chain, down, usage, whole};
use super::*;
use crate::Completed;
use crate::provider::{Ask, Backend, Piece, Pieces};
use crate::speed::{PROBE, WINDOW};
use chela_types::Fault as _;
use chela_types::{Finish, Money, Retry};
use futures::StreamExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says a text of so many characters again and again, after so long each time; so often, and then ends.
#[derive(Clone)]
struct Trickle {
    chars: usize,
    every: Duration,
    times: usize,
}

impl Backend for Trickle {
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        ask.sent.mark();
        let Self { chars, every, times } = self.clone();
        let texts = futures::stream::iter(0..times).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok(Piece::Text("x".repeat(chars)))
        });
        let end = [usage(10, 3), Piece::Finish(Finish::Stop), Piece::End].map(Ok);
        Box::pin(async move { Ok(texts.chain(futures::stream::iter(end)).boxed()) })
    }
}

/// The first of the chain trickles; ten characters a second are asked of all.
fn trickling(first: Trickle, others: Vec<Act>) -> (Failover, Vec<Arc<AtomicU32>>) {
    let acts = std::iter::once(whole("never")).chain(others).collect();
    let (mut failover, asked) = chain(acts);
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    for link in &mut plan.links {
        Arc::get_mut(link).unwrap().limits.min_chars_per_s = Some(10);
    }
    Arc::get_mut(&mut plan.links[0]).unwrap().backend = Arc::new(first);
    (failover, asked)
}

async fn run(failover: &Failover) -> Result<Completed, Error> {
    failover.complete(Arc::new(call("hello"))).await?.whole().await
}

fn classes(record: &chela_types::ModelCall) -> Vec<&str> {
    record.attempts.iter().map(|attempt| attempt.class.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_start_that_trickles_is_never_shown() {
    let slow = Trickle { chars: 7, every: Duration::from_secs(1), times: 30 };
    let (failover, _) = trickling(slow, vec![whole("two")]);
    let began = Instant::now();
    let completed = run(&failover).await.unwrap();
    assert_eq!((completed.text.as_str(), classes(&completed.call)), ("two", vec!["too_slow", "ok"]));
    assert_eq!(began.elapsed(), Duration::from_secs(1) + PROBE);
    let bound = failover.plan.rate(&failover.plan.links[0], &call("hello")).bound();
    assert!(completed.call.cost > bound, "it was sent, and is charged");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_comes_fast_is_shown_as_soon_as_that_is_seen() {
    for (chars, every, shown) in [(30, 1_000, 1_000), (10, 900, 2_700), (31, 100, 100)] {
        let fast = Trickle { chars, every: Duration::from_millis(every), times: 30 };
        let (failover, asked) = trickling(fast, vec![whole("two")]);
        let began = Instant::now();
        let mut answer = failover.complete(Arc::new(call("hello"))).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(shown), "{chars} every {every} ms");
        let Some(Ok(Chunk::Text(text))) = answer.chunks.next().await else { panic!("no text") };
        assert!(text.len() >= 30);
        assert_eq!(answer.whole().await.unwrap().text.len(), chars * 30);
        assert_eq!(asked[1].load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_answer_is_no_slow_one() {
    let short = Trickle { chars: 2, every: Duration::from_millis(1), times: 1 };
    let (failover, asked) = trickling(short, vec![whole("two")]);
    assert_eq!(run(&failover).await.unwrap().text, "xx");
    assert_eq!(asked[1].load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_is_not_probed_but_told_as_broken_off() {
    let slow = Trickle { chars: 9, every: Duration::from_secs(1), times: 50 };
    let (failover, _) = trickling(slow.clone(), vec![]);
    let began = Instant::now();
    let answer = failover.complete(Arc::new(call("hello"))).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1), "its first text is shown at once");
    assert_eq!(answer.whole().await.unwrap_err().kind, Kind::Interrupted);
    assert_eq!(began.elapsed(), Duration::from_secs(1) + WINDOW);
    // Fast enough, it comes to its end.
    let fast = Trickle { chars: 10, ..slow };
    assert_eq!(run(&trickling(fast, vec![]).0).await.unwrap().text.len(), 500);
}

/// Any number of calls at once while nobody answers: no more attempts than calls, a fifth, and ten.
#[tokio::test(start_paused = true)]
async fn an_outage_of_all_models_is_no_storm() {
    const CALLS: u32 = 1_000;
    let fails = || Act::Fail(down(), false);
    for (acts, answered) in [
        (vec![fails(), fails(), fails()], false),
        (vec![Act::Hang(true), Act::Hang(true), Act::Hang(true)], false),
        (vec![fails(), whole("two"), whole("three")], true),
        (vec![Act::Hang(true), whole("two"), whole("three")], true),
    ] {
        let (failover, asked) = chain(acts);
        let failover = Arc::new(failover);
        let calls = (0..CALLS).map(|_| {
            let failover = Arc::clone(&failover);
            tokio::spawn(async move { run(&failover).await })
        });
        for ended in futures::future::join_all(calls.collect::<Vec<_>>()).await {
            match ended.unwrap() {
                Ok(completed) => assert_eq!((answered, completed.text.as_str()), (true, "two")),
                Err(error) => {
                    assert!(!answered, "{error}");
                    assert!(matches!(error.retry(), Retry::Later(_)), "{error}");
                }
            }
        }
        let made: u32 = asked.iter().map(|asked| asked.load(Ordering::SeqCst)).sum();
        let most = if answered { 2 * CALLS } else { CALLS + CALLS / 5 + 10 };
        assert!(made <= most, "{made} attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_beyond_the_budget_is_told_when_to_come_back() {
    let (failover, asked) = chain(vec![Act::Fail(down(), false), Act::Fail(down(), false)]);
    for _ in 0..100 {
        // Nothing is left alone in this test, so that every call wants two attempts.
        let mut failover = Failover { plan: Arc::clone(&failover.plan), ..failover };
        failover.cooldown_max = Duration::ZERO;
        let _ = run(&failover).await;
    }
    let made: Vec<u32> = asked.iter().map(|asked| asked.load(Ordering::SeqCst)).collect();
    assert_eq!(made, [5, 5], "the breaker is before the budget");
    let (plan, soon) = (&failover.plan, Instant::now() + Duration::from_secs(1));
    for _ in 0..1_000 {
        let Ok(retry) = plan.retries.take(soon).await else { break };
        drop(retry);
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    let error = run(&failover).await.unwrap_err();
    let Retry::Later(wait) = error.retry() else { panic!("{error}") };
    assert!(wait >= Duration::from_secs(5), "{wait:?}");
    assert_eq!(error.call.as_ref().unwrap().cost, Money::ZERO);
}
