//! A model that fails is left alone, and comes back by one call that finds out.

use super::*;
use crate::Model as _;
use crate::config::ModelName;
use crate::failover::tests::{Act, call, chain, whole};
use crate::provider::Piece;
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use tokio::time::advance;

fn breaker() -> Arc<Breaker> {
    Arc::new(Breaker::new("p/m".into()))
}

fn down() -> Kind {
    Kind::Unavailable { code: "x".into(), retry_after: Duration::ZERO }
}

fn fails(breaker: &Arc<Breaker>, times: usize) {
    (0..times).for_each(|_| breaker.admit().unwrap().failed(&down()));
}

fn answers(breaker: &Arc<Breaker>, times: usize) {
    (0..times).for_each(|_| breaker.admit().unwrap().answered());
}

fn is_open(breaker: &Arc<Breaker>) -> bool {
    matches!(&*breaker.state.lock(), State::Open { .. })
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_half_of_the_newest_calls_fail_and_they_are_five() {
    for (answered, failed, opens) in
        [(0, 4, false), (0, 5, true), (5, 5, true), (6, 5, false), (15, 9, false)]
    {
        let breaker = breaker();
        answers(&breaker, answered);
        fails(&breaker, failed);
        assert_eq!(is_open(&breaker), opens, "{answered} answered, {failed} failed");
    }
    let breaker = breaker();
    answers(&breaker, 1_000);
    fails(&breaker, 9);
    assert!(!is_open(&breaker));
    fails(&breaker, 1);
    assert!(is_open(&breaker), "what was long ago does not outweigh twenty calls");
}

#[tokio::test(start_paused = true)]
async fn what_is_a_minute_old_is_forgotten() {
    let breaker = breaker();
    fails(&breaker, 4);
    advance(MEMORY + Duration::from_millis(1)).await;
    fails(&breaker, 4);
    assert!(!is_open(&breaker));
    fails(&breaker, 1);
    assert!(is_open(&breaker));
}

#[tokio::test(start_paused = true)]
async fn one_call_finds_out_and_closes_it_or_doubles_the_pause() {
    let breaker = breaker();
    fails(&breaker, 5);
    let mut pause = PAUSE;
    for _ in 0..8 {
        assert_eq!(breaker.admit().unwrap_err(), pause);
        advance(pause - Duration::from_millis(1)).await;
        assert_eq!(breaker.admit().unwrap_err(), Duration::from_millis(1));
        advance(Duration::from_millis(1)).await;
        let mut probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one is enough");
        probe.failed(&Kind::TooSlow { after: Duration::ZERO });
        pause = (pause * 2).min(PAUSE_MAX);
    }
    assert_eq!(pause, PAUSE_MAX);
    advance(pause).await;
    breaker.admit().unwrap().began();
    fails(&breaker, 4);
    assert!(!is_open(&breaker), "it begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_leaves_its_place_to_another() {
    let breaker = breaker();
    fails(&breaker, 5);
    advance(PAUSE).await;
    drop(breaker.admit().unwrap());
    breaker.admit().unwrap().failed(&Kind::RateLimited { retry_after: Duration::ZERO });
    breaker.admit().unwrap().answered();
    assert!(!is_open(&breaker));
}

#[tokio::test(start_paused = true)]
async fn the_kind_says_whether_the_model_is_down() {
    let code = || "x".to_owned();
    for (kind, opens) in [
        (down(), true),
        (Kind::TooSlow { after: Duration::ZERO }, true),
        (Kind::BadResponse { what: "x" }, true),
        (Kind::Interrupted, true),
        (Kind::Auth { code: code() }, true),
        (Kind::RateLimited { retry_after: Duration::ZERO }, false),
        (Kind::Invalid { code: code() }, false),
        (Kind::TooLong { code: code() }, false),
        (Kind::NoRoom, false),
        (Kind::Refused, false),
        (Kind::Denied, false),
    ] {
        let breaker = breaker();
        (0..50).filter_map(|_| breaker.admit().ok()).for_each(|mut trial| trial.failed(&kind));
        assert_eq!(is_open(&breaker), opens, "{kind}");
    }
}

/// A minute without the first model, and a thousand calls in it: the first is asked as often as it is tried again.
#[tokio::test(start_paused = true)]
async fn an_outage_is_no_storm() {
    let (failover, asked) = chain(vec![Act::Fail(down(), true), whole("two")]);
    for _ in 0..1_000 {
        let answer = failover.complete(Arc::new(call("hello"))).await.unwrap();
        assert_eq!(answer.whole().await.unwrap().text, "two");
        advance(Duration::from_millis(60)).await;
    }
    let [first, second] = [&asked[0], &asked[1]].map(|asked| asked.load(Ordering::SeqCst));
    // Five, and then after 5, 15 and 35 s.
    assert_eq!((first, second), (8, 1_000));
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_off_open_it_and_the_call_says_how_long() {
    let half = Act::Break(vec![Piece::Text("half".into())], down());
    let (failover, asked) = chain(vec![half]);
    let run = async || failover.complete(Arc::new(call("hello"))).await?.whole().await;
    for _ in 0..5 {
        assert_eq!(run().await.unwrap_err().kind, Kind::Interrupted);
    }
    let error = run().await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable { code: "left alone".into(), retry_after: PAUSE });
    let record = error.call.unwrap();
    assert_eq!((asked[0].load(Ordering::SeqCst), record.attempts.len()), (5, 1));
    assert_eq!(record.cost, chela_types::Money::ZERO, "who is not asked costs nothing");
}

#[test]
fn tiers_that_name_the_same_model_share_it() {
    use crate::{Config, Provider, ProviderKind, ProviderLimits, Script, Tier, UnknownPrice, defaults};
    let name = |model: &str| ModelName { provider: "p".into(), model: model.into() };
    let tier = |id: &str, models: [&str; 2]| Tier {
        id: chela_types::TierId::new(id).unwrap(),
        chain: models.map(name).to_vec(),
        max_output: chela_types::Tokens(9),
        first_token: None,
        cheaper: None,
        failover: Default::default(),
    };
    let kind = ProviderKind::Scripted(Script { rules: vec![], default: None });
    let limits = ProviderLimits::standard();
    let config = Config {
        providers: vec![Provider { name: "p".into(), kind, prices: Default::default(), limits }],
        tiers: vec![tier("fast", ["a", "b"]), tier("smart", ["b", "c"])],
        agents: Default::default(),
        embedding: Default::default(),
        budgets: Default::default(),
        cache: crate::Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    };
    let egress = chela_egress::Egress::new(chela_egress::Config::standard()).unwrap();
    let clock: crate::plan::SharedClock = Arc::new(chela_types::SystemClock);
    let (plans, _) =
        crate::plan::plans(&config, &crate::provider::backends(&config, &egress, &clock)).unwrap();
    let mut links = plans.values().flat_map(|plan| &plan.links).collect::<Vec<_>>();
    links.sort_by(|a, b| a.name.cmp(&b.name));
    let same = |a: usize, b: usize| Arc::ptr_eq(&links[a].breaker, &links[b].breaker);
    assert_eq!([links[1].name.as_str(), links[2].name.as_str()], ["p/b", "p/b"]);
    assert!(same(1, 2) && !same(0, 1) && !same(2, 3));
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Answer(usize),
    Fail(usize),
    Drop(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Begin),
        2 => (0..8_usize).prop_map(Step::Answer),
        4 => (0..8_usize).prop_map(Step::Fail),
        1 => (0..8_usize).prop_map(Step::Drop),
        1 => (0..130_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever comes when: there is one probe at most, and it is never lost for ever.
    #[test]
    fn there_is_one_probe_at_most_and_always_another(steps in prop::collection::vec(step(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let breaker = breaker();
            let mut trials: Vec<Trial> = Vec::new();
            for step in steps {
                let taken = |trials: &mut Vec<Trial>, at: usize| (at < trials.len()).then(|| trials.remove(at));
                match step {
                    Step::Begin => trials.extend(breaker.admit().ok()),
                    Step::Answer(at) => if let Some(mut trial) = taken(&mut trials, at) { trial.answered() },
                    Step::Fail(at) => if let Some(mut trial) = taken(&mut trials, at) { trial.failed(&down()) },
                    Step::Drop(at) => drop(taken(&mut trials, at)),
                    Step::Wait(seconds) => advance(Duration::from_secs(seconds)).await,
                }
                assert!(trials.iter().filter(|trial| trial.is_probe).count() <= 1);
            }
            drop(trials);
            advance(PAUSE_MAX).await;
            breaker.admit().expect("somebody may find out").answered();
            assert!(!is_open(&breaker));
        });
    }
}
