//! Who asks what is being asked already hears the same, and one call is made.

use super::*;
use crate::cache::tests::{ask, on};
use crate::{Cache, Model, failover};
use chela_types::{Money, Usage};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::join_all;
use proptest::prelude::*;
use std::sync::atomic::AtomicU32;

type Fed = Result<Chunk, Error>;

/// A model that says what it is fed; each call has a feeder of its own.
struct Fake {
    calls: AtomicU32,
    feeders: Mutex<Vec<UnboundedSender<Fed>>>,
    /// Opens a call only once something was fed.
    waits: bool,
}

impl Model for Fake {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let (feeder, fed): (_, UnboundedReceiver<Fed>) = unbounded();
        self.feeders.lock().push(feeder);
        Box::pin(async move {
            let mut fed = fed.peekable();
            if self.waits
                && let Some(Err(error)) = Pin::new(&mut fed).next_if(Result::is_err).await
            {
                return Err(error);
            }
            let begun = ModelCall { model: Some("p/m".into()), ..call.record() };
            let rate = Rate { price: failover::tests::PRICE, input: call.input_bound(), output: TOKENS };
            Ok(Answer { chunks: fed.boxed(), begun, rate })
        })
    }
}

const TOKENS: chela_types::Tokens = chela_types::Tokens(9);
const COST: Money = Money::from_nanos(77);

struct House {
    fake: Arc<Fake>,
    cached: Arc<crate::cache::Cached>,
}

fn house(waits: bool) -> House {
    let fake = Arc::new(Fake { calls: AtomicU32::new(0), feeders: Mutex::default(), waits });
    let cached = Arc::new(crate::cache::tests::over(Cache::standard(), fake.clone()));
    House { fake, cached }
}

fn text(text: &str) -> Fed {
    Ok(Chunk::Text(text.into()))
}

fn end(text: &str) -> Fed {
    let call = ModelCall { model: Some("p/m".into()), cost: COST, usage: Usage::default(), ..on().record() };
    Ok(Chunk::End(Box::new(Completed { text: text.into(), calls: Vec::new(), finish: Finish::Stop, call })))
}

impl House {
    fn calls(&self) -> u32 {
        self.fake.calls.load(Ordering::SeqCst)
    }

    /// To the newest call.
    fn feed(&self, fed: Fed) {
        self.fake.feeders.lock().last().unwrap().unbounded_send(fed).unwrap();
    }

    /// Nobody listens to the newest call.
    fn is_gone(&self) -> bool {
        self.fake.feeders.lock().last().unwrap().is_closed()
    }

    async fn joins(&self) -> Answer {
        self.cached.complete(Arc::new(on())).await.unwrap()
    }
}

async fn heard(answer: &mut Answer) -> String {
    match answer.chunks.next().await.unwrap().unwrap() {
        Chunk::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_who_ask_at_once_are_one_call_and_one_pays() {
    let house = Arc::new(house(true));
    let askers = (0..50).map(|_| {
        let cached = house.cached.clone();
        tokio::spawn(async move { ask(&cached, on()).await.unwrap() })
    });
    let askers: Vec<_> = askers.collect();
    let feeder = tokio::spawn({
        let house = house.clone();
        async move {
            while house.calls() == 0 {
                tokio::task::yield_now().await;
            }
            for word in ["one ", "two ", "three"] {
                house.feed(text(word));
                tokio::task::yield_now().await;
            }
            // All of them have to be there before it ends, or the last would have it from the cache.
            while house.cached.listeners(&on()) < 50 {
                tokio::task::yield_now().await;
            }
            house.feed(end("one two three"));
        }
    });
    feeder.await.unwrap();
    let all: Vec<Completed> = join_all(askers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(house.calls(), 1);
    assert!(all.iter().all(|one| one.text == "one two three" && one.call.model.as_deref() == Some("p/m")));
    let of = |verdict| all.iter().filter(move |one| one.call.cache == verdict);
    assert_eq!((of(CacheVerdict::Miss).count(), of(CacheVerdict::Joined).count()), (1, 49));
    assert_eq!(of(CacheVerdict::Miss).next().unwrap().call.cost, COST);
    assert!(of(CacheVerdict::Joined).all(|one| one.call.cost == Money::ZERO));
    assert_eq!(ask(&house.cached, on()).await.unwrap().call.cache, CacheVerdict::Hit);
}

#[tokio::test]
async fn who_comes_late_hears_what_was_said_and_then_the_rest() {
    let house = house(false);
    let mut first = house.joins().await;
    house.feed(text("one "));
    house.feed(text("two "));
    assert_eq!(heard(&mut first).await, "one ");
    let mut late = house.joins().await;
    assert_eq!((late.begun.cache, late.rate.bound()), (CacheVerdict::Joined, Money::ZERO));
    assert!(first.rate.bound() > Money::ZERO);
    // Who listens last moves it on as well.
    assert_eq!(heard(&mut late).await, "one ");
    assert_eq!(heard(&mut late).await, "two ");
    house.feed(text("three"));
    assert_eq!(heard(&mut late).await, "three");
    house.feed(end("one two three"));
    assert_eq!(late.whole().await.unwrap().text, "one two three");
    assert_eq!(heard(&mut first).await, "two ");
    let first = first.whole().await.unwrap();
    assert_eq!((first.text.as_str(), first.call.cost, house.calls()), ("one two three", COST, 1));
}

#[tokio::test]
async fn if_the_first_goes_the_others_hear_the_rest_and_with_the_last_it_ends() {
    let house = house(false);
    let first = house.joins().await;
    let mut second = house.joins().await;
    drop(first);
    house.feed(text("one"));
    assert_eq!(heard(&mut second).await, "one");
    assert!(!house.is_gone());
    drop(second);
    assert!(house.is_gone());
    let _anew = house.joins().await;
    assert_eq!(house.calls(), 2);
}

/// A future that has begun to wait, and is not asked again, must not keep the others waiting.
#[tokio::test]
async fn who_stops_listening_in_the_middle_holds_nobody_up() {
    let house = house(false);
    let mut first = house.joins().await;
    let mut second = house.joins().await;
    let waits = first.chunks.next();
    assert!(waits.now_or_never().is_none());
    let mut waits = Box::pin(second.chunks.next());
    assert!(futures::poll!(&mut waits).is_pending());
    house.feed(text("one"));
    house.feed(end("one"));
    let third = house.joins().await;
    assert_eq!(third.whole().await.unwrap().text, "one");
    drop(waits);
    assert_eq!(first.whole().await.unwrap().call.cost, COST, "and has it when it comes back");
}

#[tokio::test]
async fn a_failure_is_everybodys_and_the_next_one_asks_anew() {
    let house = house(true);
    let both = async { tokio::join!(ask(&house.cached, on()), ask(&house.cached, on())) };
    let fails = async {
        let record = ModelCall { cost: COST, ..on().record() };
        house.feed(Err(Error::new(Kind::Refused).with_call(record)));
    };
    let ((first, second), ()) = tokio::join!(both, fails);
    let (first, second) = (first.unwrap_err(), second.unwrap_err());
    assert_eq!((&first.kind, &second.kind), (&Kind::Refused, &Kind::Refused));
    let cost = |error: Error| error.call.unwrap().cost;
    assert_eq!((cost(first), cost(second), house.calls()), (COST, Money::ZERO, 1));
    // Told after the first words.
    let later = super::tests::house(false);
    let (mut first, second) = (later.joins().await, later.joins().await);
    later.feed(text("half"));
    later.feed(Err(Error::new(Kind::Interrupted)));
    assert_eq!(heard(&mut first).await, "half");
    assert_eq!(first.whole().await.unwrap_err().kind, Kind::Interrupted);
    assert_eq!(second.whole().await.unwrap_err().kind, Kind::Interrupted);
    let _anew = later.joins().await;
    assert_eq!(later.calls(), 2);
}

#[tokio::test]
async fn a_stream_that_stops_without_an_end_is_an_error_to_all() {
    let house = house(false);
    let (first, second) = (house.joins().await, house.joins().await);
    house.fake.feeders.lock().clear();
    assert_eq!(first.whole().await.unwrap_err().kind, Kind::Interrupted);
    assert_eq!(second.whole().await.unwrap_err().kind, Kind::Interrupted);
}

#[tokio::test]
async fn another_question_is_another_call_and_so_is_one_that_may_not_be_shared() {
    let house = house(false);
    let other = Call { agent_version: "2".into(), ..on() };
    let private = Call { cache: crate::CachePolicy::Off, ..on() };
    let mut calls = Vec::new();
    for call in [on(), other, private.clone(), private, on()] {
        calls.push(house.cached.complete(Arc::new(call)).await.unwrap());
    }
    assert_eq!(house.calls(), 4);
}

proptest! {
    /// Whoever listens when, and goes when: all who stay hear the whole answer, and one call is made.
    #[test]
    fn everybody_hears_the_same(steps in prop::collection::vec((0..6_usize, 0..5_usize), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let house = house(false);
            let mut listening = vec![(house.joins().await, String::new())];
            let (mut said, mut whole) = (0, String::new());
            for (step, one) in steps {
                match step {
                    0 => listening.push((house.joins().await, String::new())),
                    1 if listening.len() > 1 => drop(listening.remove(one % listening.len())),
                    2 => {
                        let word = format!("{said} ");
                        said += 1;
                        whole.push_str(&word);
                        house.feed(text(&word));
                    }
                    _ => {
                        let at = one % listening.len();
                        let (answer, heard) = &mut listening[at];
                        if let Some(Some(Ok(Chunk::Text(text)))) = answer.chunks.next().now_or_never() {
                            heard.push_str(&text);
                        }
                    }
                }
            }
            house.feed(end(&whole));
            for (mut answer, mut heard) in listening {
                let completed = loop {
                    match answer.chunks.next().await.unwrap().unwrap() {
                        Chunk::Text(text) => heard.push_str(&text),
                        Chunk::Tool(delta) => panic!("{delta:?}"),
                        Chunk::End(completed) => break completed,
                    }
                };
                assert_eq!((&heard, &completed.text), (&whole, &whole));
            }
            assert_eq!(house.calls(), 1);
        });
    }
}
