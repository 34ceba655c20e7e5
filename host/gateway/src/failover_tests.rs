//! The chain's rules, with fake backends and paused time.

use super::*;
use crate::account::Account;
use crate::breaker::Breaker;
use crate::provider::{Ask, Backend, Piece, Pieces};
use crate::{Completed, Prompt, ProviderLimits, Role, TierFailover, Tool};
use chela_types::{
    AgentId, Blame, Fault, Finish, ModelCall, Money, Price, Rates, Retry, TenantId, TierId, Tokens,
};
use futures::StreamExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// A call with one prompt.
pub(crate) fn call(text: &str) -> Call {
    let (agent, tier) = (AgentId::new("support").unwrap(), TierId::new("fast").unwrap());
    let prompts = vec![Prompt::text(Role::User, text)];
    Call { agent_version: "1".into(), ..Call::new(TenantId::default_tenant(), agent, "u1", tier, prompts) }
}

/// A tool without parameters.
pub(crate) fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: None,
        parameters: serde_json::json!({"type": "object"}).into(),
        strict: None,
    }
}

/// What a fake backend does at each start.
#[derive(Clone)]
pub(crate) enum Act {
    /// Says these pieces.
    Say(Vec<Piece>),
    /// Says these, then fails.
    Break(Vec<Piece>, Kind),
    /// Fails at once.
    Fail(Kind, bool),
    /// Is silent, after sending or before.
    Hang(bool),
    /// Waits for its turn here, and never has it.
    Queue,
}

struct Fake {
    act: Act,
    asked: Arc<AtomicU32>,
}

impl Backend for Fake {
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match self.act.clone() {
                Act::Say(pieces) => Ok(futures::stream::iter(pieces.into_iter().map(Ok)).boxed()),
                Act::Break(pieces, kind) => {
                    let pieces = pieces.into_iter().map(Ok).chain([Err(Trouble::new(kind, true))]);
                    Ok(futures::stream::iter(pieces.collect::<Vec<_>>()).boxed())
                }
                Act::Fail(kind, billed) => Err(Trouble::new(kind, billed)),
                Act::Queue => {
                    ask.sent.waits(true);
                    std::future::pending().await
                }
                Act::Hang(sent) => {
                    if sent {
                        ask.sent.mark();
                    }
                    std::future::pending().await
                }
            }
        })
    }
}

pub(crate) const PRICE: Price = Price::flat(Rates {
    input: Money::from_nanos(1_000_000_000),
    cached: Money::ZERO,
    written: Money::ZERO,
    output: Money::from_nanos(2_000_000_000),
});

pub(crate) fn chain(acts: Vec<Act>) -> (Failover, Vec<Arc<AtomicU32>>) {
    let limits = ProviderLimits {
        first_token: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        total: Duration::from_secs(60),
        concurrent_max: 1,
        ..ProviderLimits::standard()
    };
    let (mut links, mut counts) = (Vec::new(), Vec::new());
    for (number, act) in acts.into_iter().enumerate() {
        let asked = Arc::new(AtomicU32::new(0));
        counts.push(asked.clone());
        let backend: Arc<dyn Backend> = Arc::new(Fake { act, asked });
        let (name, model) = (format!("p{number}/m"), "m".to_owned());
        let account = Arc::new(Account::new(&name, &limits));
        let breaker = Arc::new(Breaker::new(name.clone()));
        links.push(Arc::new(Link {
            name,
            model,
            tariff: PRICE.into(),
            image: Tokens(100),
            limits,
            backend,
            account,
            breaker,
            prefills: false,
        }));
    }
    let (failover, retries) = (TierFailover::default(), Arc::default());
    let plan = Arc::new(Plan { cheaper: None, links, max_output: Tokens(100), failover, retries });
    (Failover { plan, cooldown_max: Duration::from_secs(600) }, counts)
}

pub(crate) fn usage(input: u64, output: u64) -> Piece {
    Piece::Usage(Usage { input: Tokens(input), output: Tokens(output), ..Usage::default() })
}

pub(crate) fn whole(text: &str) -> Act {
    Act::Say(vec![Piece::Text(text.into()), usage(10, 3), Piece::Finish(Finish::Stop)])
}

pub(crate) fn down() -> Kind {
    Kind::Unavailable { code: "x".into(), retry_after: Duration::ZERO }
}

async fn run(failover: &Failover) -> Result<Completed, Error> {
    failover.complete(Arc::new(call("hello"))).await?.whole().await
}

fn classes(call: &ModelCall) -> Vec<&str> {
    call.attempts.iter().map(|attempt| attempt.class.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_class_decides_whether_the_next_is_asked() {
    for (kind, moves_on) in [
        (down(), true),
        (Kind::RateLimited { retry_after: Duration::ZERO }, true),
        (Kind::Auth { code: "x".into() }, true),
        (Kind::TooLong { code: "x".into() }, true),
        (Kind::BadResponse { what: "x" }, true),
        (Kind::TooSlow { after: Duration::ZERO }, true),
        (Kind::Denied, true),
        (Kind::Invalid { code: "x".into() }, false),
        (Kind::Refused, false),
    ] {
        let (failover, asked) = chain(vec![Act::Fail(kind.clone(), false), whole("two")]);
        let result = run(&failover).await;
        assert_eq!(asked[1].load(Ordering::SeqCst), u32::from(moves_on), "{kind}");
        match result {
            Ok(completed) => {
                assert_eq!(completed.text, "two");
                assert_eq!(classes(&completed.call), [kind.class(), "ok"]);
                assert_eq!(completed.call.model.as_deref(), Some("p1/m"));
            }
            Err(error) => assert_eq!(error.kind, kind),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_token_is_a_failure() {
    let (failover, _) = chain(vec![Act::Hang(true), whole("two")]);
    let before = Instant::now();
    let completed = run(&failover).await.unwrap();
    assert_eq!(Instant::now() - before, Duration::from_secs(5));
    assert_eq!(classes(&completed.call), ["too_slow", "ok"]);
    // The silent one may have worked: its bound is paid on top of the answer's own count.
    let bound = Rate { price: PRICE, input: call("hello").input_bound(), output: Tokens(100) }.bound();
    assert_eq!(completed.call.cost, bound.plus(Money::from_nanos(10 * 1000 + 3 * 2000)));
}

/// Overload here is no outage there.
#[tokio::test(start_paused = true)]
async fn who_waited_here_in_vain_says_nothing_of_the_model() {
    let (failover, asked) = chain(vec![Act::Queue, whole("two")]);
    for _ in 0..20 {
        let completed = run(&failover).await.unwrap();
        assert_eq!(classes(&completed.call), ["rate_limited", "ok"]);
        assert_eq!(completed.call.cost, Money::from_nanos(10 * 1000 + 3 * 2000));
    }
    assert_eq!(asked[0].load(Ordering::SeqCst), 20, "it is neither left alone nor rests");
}

#[tokio::test(start_paused = true)]
async fn what_never_left_costs_nothing() {
    let (failover, _) = chain(vec![Act::Hang(false), Act::Fail(down(), false)]);
    let error = run(&failover).await.unwrap_err();
    let record = error.call.unwrap();
    assert_eq!(classes(&record), ["too_slow", "unavailable"]);
    assert_eq!(record.cost, Money::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_break_before_any_text_moves_on() {
    let (failover, _) = chain(vec![Act::Break(vec![usage(10, 0)], down()), Act::Say(vec![]), whole("three")]);
    let completed = run(&failover).await.unwrap();
    assert_eq!(completed.text, "three");
    assert_eq!(classes(&completed.call), ["unavailable", "bad_response", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_break_after_text_is_told_and_nobody_else_is_asked() {
    for act in [
        Act::Break(vec![Piece::Text("half".into())], down()),
        Act::Say(vec![Piece::Text("half".into()), usage(10, 1)]),
    ] {
        let (failover, asked) = chain(vec![act, whole("two")]);
        let answer = failover.complete(Arc::new(call("hello"))).await.unwrap();
        let chunks: Vec<_> = answer.chunks.collect().await;
        assert_eq!(chunks.len(), 2);
        assert_eq!(*chunks[0].as_ref().unwrap(), Chunk::Text("half".into()));
        let error = chunks[1].as_ref().unwrap_err();
        assert_eq!(error.kind, Kind::Interrupted);
        assert!(error.call.as_ref().unwrap().cost > Money::ZERO);
        assert_eq!(asked[1].load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_in_the_middle_ends_the_answer() {
    let failover = slow(vec![(0, Piece::Text("half".into()))]);
    assert_eq!(run(&failover).await.unwrap_err().kind, Kind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_end_and_nothing_after_it() {
    let twice = Act::Break(
        vec![
            Piece::Text("a".into()),
            Piece::Finish(Finish::Stop),
            Piece::Text("b".into()),
            Piece::Finish(Finish::Length),
        ],
        down(),
    );
    let (failover, _) = chain(vec![twice]);
    let chunks: Vec<_> = failover.complete(Arc::new(call("hello"))).await.unwrap().chunks.collect().await;
    let ends = chunks.iter().filter(|chunk| !matches!(chunk, Ok(Chunk::Text(_)))).count();
    assert_eq!(ends, 1);
    assert!(matches!(chunks.last(), Some(Ok(Chunk::End(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_count_that_cannot_be_true_is_charged_at_the_bound() {
    let bound = Rate { price: PRICE, input: call("hello").input_bound(), output: Tokens(100) }.bound();
    for count in [None, Some(usage(0, 0)), Some(usage(10, 0)), Some(usage(u64::MAX, 1)), Some(usage(1, 101))]
    {
        let mut pieces = vec![Piece::Text("text".into()), Piece::Finish(Finish::Stop)];
        pieces.extend(count.clone());
        let (failover, _) = chain(vec![Act::Say(pieces)]);
        assert_eq!(run(&failover).await.unwrap().call.cost, bound, "{count:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_minimum_and_the_provider_rests() {
    let limited = |seconds| Act::Fail(Kind::RateLimited { retry_after: Duration::from_secs(seconds) }, false);
    let (failover, asked) = chain(vec![limited(30), limited(20)]);
    let error = run(&failover).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later(Duration::from_secs(20)));
    tokio::time::advance(Duration::from_secs(21)).await;
    let error = run(&failover).await.unwrap_err();
    // The first still rests (9 s) and was not asked; the second was.
    assert_eq!(error.retry(), Retry::Later(Duration::from_secs(9)));
    assert_eq!((asked[0].load(Ordering::SeqCst), asked[1].load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_rests_as_it_asks() {
    let wait = Duration::from_secs(30);
    let resting = Act::Fail(Kind::Unavailable { code: "x".into(), retry_after: wait }, false);
    let (failover, asked) = chain(vec![resting]);
    assert_eq!(run(&failover).await.unwrap_err().retry(), Retry::Later(wait));
    assert_eq!(run(&failover).await.unwrap_err().retry(), Retry::Later(wait));
    assert_eq!(asked[0].load(Ordering::SeqCst), 1);
    tokio::time::advance(wait).await;
    run(&failover).await.unwrap_err();
    assert_eq!(asked[0].load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_nothing_is_a_failure() {
    for said in [vec![], vec![Piece::Text("\n".into()), Piece::Text("  ".into())]] {
        for (finish, class, retry) in [
            (Finish::Stop, "bad_response", Retry::Later(Duration::ZERO)),
            // Asked again it would think as long again: the turn fails before it pays for that.
            (Finish::Length, "no_room", Retry::Never),
        ] {
            let mut pieces = said.clone();
            pieces.extend([usage(10, 3), Piece::Finish(finish)]);
            let (failover, _) = chain(vec![Act::Say(pieces.clone()), whole("two")]);
            let completed = run(&failover).await.unwrap();
            assert_eq!((completed.text.as_str(), classes(&completed.call)), ("two", vec![class, "ok"]));
            let (failover, _) = chain(vec![Act::Say(pieces)]);
            let error = run(&failover).await.unwrap_err();
            assert_eq!(error.retry(), retry);
            let told = Usage { input: Tokens(10), output: Tokens(3), ..Usage::default() };
            assert_eq!(error.call.unwrap().cost, PRICE.cost(&told), "what the provider counted");
        }
    }
}

/// Nobody has counted what was ended here: a count so far says nothing of what came after it.
#[tokio::test(start_paused = true)]
async fn blanks_without_end_are_charged_at_the_bound() {
    let (failover, _) = chain(vec![Act::Say(vec![usage(10, 1), Piece::Text(" ".repeat(13_000))])]);
    let error = run(&failover).await.unwrap_err();
    let bound = Rate { price: PRICE, input: call("hello").input_bound(), output: Tokens(100) }.bound();
    assert_eq!((&error.kind, error.call.as_ref().unwrap().cost), (&Kind::NoRoom, bound));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_thinks_and_thinks_leaves_time_for_the_next() {
    let thinks = Slow((0..1_000).map(|_| (5, Piece::Alive)).collect());
    let (mut failover, _) = chain(vec![whole("never"), whole("two")]);
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    let link = Arc::get_mut(&mut plan.links[0]).unwrap();
    link.backend = Arc::new(thinks);
    let began = tokio::time::Instant::now();
    assert_eq!(run(&failover).await.unwrap().text, "two");
    assert!(began.elapsed() <= failover.plan.links[1].limits.total / 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_begin_with_blank_text() {
    let said = [Piece::Text("\n\n".into()), Piece::Alive, Piece::Text("Hi".into()), usage(10, 3)];
    let (failover, _) = chain(vec![Act::Say([&said[..], &[Piece::Finish(Finish::Stop)]].concat())]);
    assert_eq!(run(&failover).await.unwrap().text, "\n\nHi");
}

/// Says these pieces, each after some seconds, and then nothing more on a connection that stays open.
struct Slow(Vec<(u64, Piece)>);

impl Backend for Slow {
    fn start(&self, _: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        let pieces = futures::stream::iter(self.0.clone()).then(async |(seconds, piece)| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(piece)
        });
        Box::pin(async move { Ok(pieces.chain(futures::stream::pending()).boxed()) })
    }
}

pub(crate) fn slow(pieces: Vec<(u64, Piece)>) -> Failover {
    let (mut failover, _) = chain(vec![whole("never")]);
    let plan = Arc::get_mut(&mut failover.plan).unwrap();
    Arc::get_mut(&mut plan.links[0]).unwrap().backend = Arc::new(Slow(pieces));
    failover
}

#[tokio::test(start_paused = true)]
async fn who_thinks_aloud_is_not_slow() {
    let text = || Piece::Text("text".into());
    let end = || [(0, usage(10, 3)), (0, Piece::Finish(Finish::Stop)), (0, Piece::End)];
    let said = |first: Vec<(u64, Piece)>| slow(first.into_iter().chain(end()).collect());
    assert_eq!(
        run(&said(vec![(4, Piece::Alive), (4, Piece::Alive), (4, text())])).await.unwrap().text,
        "text"
    );
    for silent in
        [vec![(6, text())], vec![(4, usage(10, 1)), (4, text())], vec![(4, Piece::Alive), (6, text())]]
    {
        let error = run(&said(silent.clone())).await.unwrap_err();
        assert!(matches!(error.kind, Kind::TooSlow { .. }), "{silent:?}: {error}");
    }
    let thoughts = vec![(4, Piece::Alive); 20];
    assert!(matches!(run(&said(thoughts)).await.unwrap_err().kind, Kind::TooSlow { .. }), "all has an end");
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_where_it_says_so() {
    let pieces = [Piece::Text("text".into()), usage(10, 3), Piece::Finish(Finish::Stop), Piece::End];
    let failover = slow(pieces.map(|piece| (0, piece)).to_vec());
    let before = Instant::now();
    let completed = run(&failover).await.unwrap();
    assert_eq!(completed.call.cost, Money::from_nanos(10 * 1000 + 3 * 2000));
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_cut_where_its_reservation_ends() {
    let bound = Rate { price: PRICE, input: call("hello").input_bound(), output: Tokens(100) }.bound();
    let long = || Piece::Text("ü".repeat(3_001));
    for (pieces, bytes) in [
        // 100 tokens have 12,800 bytes at most, and a character is not cut.
        (vec![long(), long(), long(), usage(10, 3), Piece::Finish(Finish::Stop)], 12_800),
        (vec![Piece::Text(format!("x{}", "ü".repeat(9_000)))], 12_799),
        (vec![Piece::Text("four".into()), usage(10, 101), Piece::Text("more".into())], 4),
    ] {
        let (failover, _) = chain(vec![Act::Say(pieces)]);
        let completed = run(&failover).await.unwrap();
        assert_eq!((completed.text.len(), completed.finish), (bytes, Finish::Length));
        assert_eq!(completed.call.cost, bound);
    }
    // It ends by itself, or has no count: nothing is cut.
    for count in [usage(10, 101), usage(u64::MAX, u64::MAX)] {
        let (failover, _) =
            chain(vec![Act::Say(vec![Piece::Text("four".into()), count, Piece::Finish(Finish::Stop)])]);
        let completed = run(&failover).await.unwrap();
        assert_eq!((completed.finish, completed.call.cost), (Finish::Stop, bound));
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_that_passes_is_the_one_told() {
    let auth = || Act::Fail(Kind::Auth { code: "x".into() }, false);
    for acts in [vec![auth(), Act::Fail(down(), false)], vec![Act::Fail(down(), false), auth()]] {
        let (failover, _) = chain(acts);
        let error = run(&failover).await.unwrap_err();
        assert_eq!(error.kind, down());
        assert_eq!((error.blame(), error.retry()), (Blame::Provider, Retry::Later(Duration::ZERO)));
    }
}
