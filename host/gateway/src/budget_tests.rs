//! Budgets with a real store: never exceeded, never forgotten.

use crate::failover::tests::{PRICE, call};
use crate::{
    Answer, Budgets, Cache, CachePolicy, Call, Chunk, Completed, Config, Each, Error, Fail, Gateway, Kind,
    Limit, Model, ModelName, Provider, ProviderKind, ProviderLimits, Rule, Script, Tier, UnknownPrice,
    Window, defaults,
};
use chela_egress::Egress;
use chela_store::{Budget, Reserve, SettledAs, Settlement, Store};
use chela_types::{
    CacheVerdict, ChannelId, Clock, DepartmentId, ManualClock, Millis, Money, Price, TenantId, TierId, Tokens,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const OUTPUT: u64 = 50;

struct House {
    _folder: tempfile::TempDir,
    clock: ManualClock,
    store: Store,
    gateway: Gateway,
}

fn config(script: Script, budgets: Budgets) -> Config {
    let prices = BTreeMap::from([("m".to_owned(), PRICE)]);
    let limits = ProviderLimits::standard();
    let provider = Provider { name: "p".into(), kind: ProviderKind::Scripted(script), prices, limits };
    let chain = vec![ModelName { provider: "p".into(), model: "m".into() }];
    let id = TierId::new("fast").unwrap();
    Config {
        providers: vec![provider],
        tiers: vec![Tier { id, chain, max_output: Tokens(OUTPUT), first_token: None }],
        budgets,
        cache: Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    }
}

async fn house(rule: Rule, budgets: Budgets) -> House {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Millis(1_767_225_600_000)); // 2026-01-01T00:00:00Z
    let store = Store::open(chela_store::Config::new(folder.path()), Arc::new(clock.clone())).await.unwrap();
    let egress = Egress::new(chela_egress::Config::standard()).unwrap();
    let script = Script { rules: vec![rule], default: None };
    let gateway =
        Gateway::new(config(script, budgets), store.clone(), &egress, Arc::new(clock.clone())).unwrap();
    House { _folder: folder, clock, store, gateway }
}

fn says(text: &str) -> Rule {
    Rule { say: text.into(), ..Rule::default() }
}

fn fails(fail: Fail) -> Rule {
    Rule { say: "one two three four".into(), fail: Some(fail), ..Rule::default() }
}

fn limit(amount: Money) -> Option<Limit> {
    Some(Limit { amount, window: Window::Day })
}

fn all<K>(limit: Option<Limit>) -> Each<K> {
    Each { all: limit, own: BTreeMap::new() }
}

/// What one call of `call("hello")` can cost at most.
fn bound() -> Money {
    PRICE.worst_case(call("hello").input_bound(), Tokens(OUTPUT))
}

fn times(amount: Money, times: i64) -> Money {
    Money::from_nanos(amount.nanos() * times)
}

impl House {
    async fn ask(&self, call: Call) -> Result<Completed, Error> {
        self.gateway.complete(call).await?.whole().await
    }

    /// Everything queued before this is on the disk after it.
    async fn flush(&self) {
        let reserve = Reserve {
            lease: None,
            tenant: TenantId::default_tenant(),
            turn: None,
            scopes: vec![],
            amount: Money::ZERO,
            model: "flush".into(),
        };
        let id = self.store.reserve(reserve).await.unwrap();
        let nothing = Settlement { cost: Money::ZERO, call: None, state: SettledAs::Released };
        self.store.settle(id, nothing).await.unwrap();
    }

    async fn budget(&self, scope: &str) -> Budget {
        let start = Window::Day.start(self.clock.now(), &TimeZone::UTC);
        self.store.budget(&TenantId::default_tenant(), scope, start).await.unwrap()
    }

    /// The state and cost of the only call.
    async fn row(&self) -> (SettledAs, Money) {
        self.flush().await;
        let ledger = self.store.ledger(10).await.unwrap();
        let rows: Vec<_> = ledger.rows.iter().filter(|row| row.model != "flush").collect();
        assert_eq!(rows.len(), 1);
        (rows[0].state, rows[0].cost)
    }
}

#[tokio::test]
async fn an_answer_is_charged_by_the_providers_count() {
    let house = house(says("one two three"), Budgets::default()).await;
    let completed = house.ask(call("hello")).await.unwrap();
    // Two tokens in for one word, four out for three words.
    let cost = Money::from_nanos(2 * 1000 + 4 * 2000);
    assert_eq!((completed.call.cost, completed.call.reserved), (cost, bound()));
    assert_eq!(house.row().await, (SettledAs::Settled, cost));
    for scope in ["agent:support", "user:u1"] {
        assert_eq!(house.budget(scope).await, Budget { settled: cost, reserved: Money::ZERO }, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_never_exceed_a_budget() {
    let rule = Rule { chunk_ms: 1, ..says("one two three four five six") };
    let limits = times(bound(), 7);
    let house = Arc::new(house(rule, Budgets { agent: all(limit(limits)), ..Budgets::default() }).await);
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move {
                let result = house.ask(call("hello")).await;
                let now = house.budget("agent:support").await;
                assert!(now.settled.plus(now.reserved) <= limits, "{now:?}");
                result
            })
        })
        .collect();
    let (mut paid, mut answered) = (Money::ZERO, 0);
    for caller in callers {
        match caller.await.unwrap() {
            Ok(completed) => {
                paid = paid.plus(completed.call.cost);
                answered += 1;
            }
            Err(error) => assert!(matches!(error.kind, Kind::OverBudget { .. }), "{error}"),
        }
    }
    house.flush().await;
    assert_eq!(house.budget("agent:support").await, Budget { settled: paid, reserved: Money::ZERO });
    assert!((7..100).contains(&answered), "{answered}");
}

#[tokio::test]
async fn all_budgets_must_pass() {
    let small = limit(Money::from_nanos(bound().nanos() - 1));
    let enough = limit(bound());
    let people = DepartmentId::new("people").unwrap();
    let call = || Call {
        department: Some(people.clone()),
        channel: Some(ChannelId::new("slack").unwrap()),
        ..call("hello")
    };
    let of = |limits: [Option<Limit>; 5]| {
        let [agent, user, channel, department, global] = limits;
        let (agent, channel, department) = (all(agent), all(channel), all(department));
        Budgets { agent, user, channel, department, global, ..Budgets::default() }
    };
    let scopes = ["agent:support", "user:u1", "channel:slack", "department:people", "global"];
    let mut cases = vec![(of([enough; 5]), None)];
    for (one, scope) in scopes.into_iter().enumerate() {
        let limits = std::array::from_fn(|at| if at == one { small } else { enough });
        cases.push((of(limits), Some(scope)));
    }
    // What one has of its own stands above what all have, and may be nothing.
    let own = |limit| Each { all: small, own: BTreeMap::from([(people.clone(), limit)]) };
    let has_own = |limit| Budgets { department: own(limit), ..of([enough; 5]) };
    cases.push((has_own(enough), None));
    cases.push((has_own(None), None));
    let less = Each { all: enough, own: BTreeMap::from([(people.clone(), small)]) };
    cases.push((Budgets { department: less, ..of([enough; 5]) }, Some("department:people")));
    for (budgets, scope) in cases {
        let house = house(says("hi"), budgets).await;
        match (house.ask(call()).await, scope) {
            (Ok(_), None) => {}
            (Err(Error { kind: Kind::OverBudget { scope: refused, .. }, .. }), Some(scope)) => {
                assert_eq!(refused, scope)
            }
            (result, scope) => panic!("{scope:?}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn who_has_no_limit_is_counted_all_the_same() {
    let house = house(says("one two three"), Budgets::default()).await;
    let (department, channel) = (DepartmentId::new("people").ok(), ChannelId::new("slack").ok());
    let cost = house.ask(Call { department, channel, ..call("hello") }).await.unwrap().call.cost;
    house.flush().await;
    assert!(cost > Money::ZERO);
    for scope in ["agent:support", "user:u1", "channel:slack", "department:people"] {
        assert_eq!(house.budget(scope).await, Budget { settled: cost, reserved: Money::ZERO }, "{scope}");
    }
}

#[tokio::test]
async fn of_ten_who_ask_the_same_at_once_one_pays() {
    let rule = Rule { first_ms: 20, ..says("one two three") };
    let house = house(rule, Budgets::default()).await;
    let on = || Call { cache: CachePolicy::On { knowledge_version: "k".into() }, ..call("hello") };
    let asked = futures::future::join_all((0..10).map(|_| house.ask(on()))).await;
    let all: Vec<_> = asked.into_iter().map(Result::unwrap).collect();
    assert!(all.iter().all(|one| one.text == "one two three"));
    let joined = all.iter().filter(|one| one.call.cache == CacheVerdict::Joined).count();
    let cost: Money = all.iter().map(|one| one.call.cost).sum();
    assert_eq!((joined, cost), (9, Money::from_nanos(2 * 1000 + 4 * 2000)));
    house.flush().await;
    assert_eq!(house.budget("user:u1").await, Budget { settled: cost, reserved: Money::ZERO });
}

/// At half past ten in the evening of New York it is the next day in UTC.
#[tokio::test]
async fn a_budgets_day_is_that_of_its_zone() {
    let zone = TimeZone::get("America/New_York").unwrap();
    let house = house(says("hi"), Budgets { user: limit(bound()), zone, ..Budgets::default() }).await;
    house.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert!(house.ask(call("hello")).await.is_ok());
    house.clock.advance(Duration::from_secs(2 * 60 * 60 + 59 * 60));
    assert!(matches!(house.ask(call("hello")).await.unwrap_err().kind, Kind::OverBudget { .. }));
    house.clock.advance(Duration::from_secs(60));
    assert!(house.ask(call("hello")).await.is_ok(), "it is midnight there");
}

#[tokio::test]
async fn a_new_day_has_a_new_budget() {
    let house = house(says("hi"), Budgets { user: limit(bound()), ..Budgets::default() }).await;
    assert!(house.ask(call("hello")).await.is_ok());
    assert!(matches!(house.ask(call("hello")).await.unwrap_err().kind, Kind::OverBudget { .. }));
    house.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert!(house.ask(call("hello")).await.is_ok());
}

#[tokio::test]
async fn an_abandoned_answer_is_charged_at_the_bound() {
    let house = house(says("one two three four"), Budgets::default()).await;
    let mut answer = house.gateway.complete(call("hello")).await.unwrap();
    assert_eq!(answer.chunks.next().await.unwrap().unwrap(), Chunk::Text("one ".into()));
    assert_eq!(house.budget("user:u1").await.reserved, bound());
    drop(answer);
    // The provider may go on to its limit, whoever listens.
    assert_eq!(house.row().await, (SettledAs::Unknown, bound()));
    assert_eq!(house.budget("user:u1").await, Budget { settled: bound(), reserved: Money::ZERO });
}

#[tokio::test]
async fn an_abandoned_answer_from_the_cache_costs_nothing() {
    let house = house(says("hi"), Budgets::default()).await;
    let on = Call { cache: CachePolicy::On { knowledge_version: "k".into() }, ..call("hello") };
    let first = house.ask(on.clone()).await.unwrap();
    drop(house.gateway.complete(on).await.unwrap());
    house.flush().await;
    let ledger = house.store.ledger(2).await.unwrap();
    assert_eq!((ledger.settled, ledger.reserved), (first.call.cost, Money::ZERO));
}

/// Two models: the first answers by `rule`, the second is down.
async fn pair(rule: Rule) -> House {
    let mut house = house(says(""), Budgets::default()).await;
    let mut config = config(Script { rules: vec![rule], default: None }, Budgets::default());
    let down = ProviderKind::Scripted(Script { rules: vec![fails(Fail::Unavailable)], default: None });
    config.providers.push(Provider { name: "q".into(), kind: down, ..config.providers[0].clone() });
    config.tiers[0].chain.push(ModelName { provider: "q".into(), model: "m".into() });
    config.providers[0].limits.first_token = Duration::from_millis(50);
    let egress = Egress::new(chela_egress::Config::standard()).unwrap();
    let clock = Arc::new(house.clock.clone());
    house.gateway = Gateway::new(config, house.store.clone(), &egress, clock).unwrap();
    house
}

#[tokio::test]
async fn only_those_who_may_have_worked_are_charged() {
    for rule in [fails(Fail::Hang), fails(Fail::Cut)] {
        let house = pair(rule.clone()).await;
        let error = house.ask(call("hello")).await.unwrap_err();
        let record = error.call.unwrap();
        assert_eq!((record.reserved, record.cost), (times(bound(), 2), bound()), "{rule:?}");
        assert_eq!(house.row().await, (SettledAs::Unknown, bound()), "{rule:?}");
    }
}

/// Says when it was asked, and nothing else.
struct Stuck(Arc<Notify>);

impl Model for Stuck {
    fn complete(&self, _: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        self.0.notify_one();
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_before_the_first_word_is_charged_in_full() {
    let house = house(says("never"), Budgets::default()).await;
    let asked = Arc::new(Notify::new());
    let layer = super::Budget {
        budgets: Budgets::default(),
        store: house.store.clone(),
        plans: house.gateway.plans.clone(),
        clock: Arc::new(house.clock.clone()),
        below: Arc::new(Stuck(asked.clone())),
    };
    tokio::select! {
        answer = layer.complete(Arc::new(call("hello"))) => panic!("{answer:?}"),
        () = asked.notified() => {}
    }
    assert_eq!(house.row().await, (SettledAs::Unknown, bound()));
}

#[tokio::test]
async fn what_never_reached_a_provider_is_given_back() {
    for fail in [Fail::Unavailable, Fail::RateLimited, Fail::Refused] {
        let house = house(fails(fail), Budgets::default()).await;
        let error = house.ask(call("hello")).await.unwrap_err();
        assert_eq!(error.call.unwrap().reserved, bound());
        assert_eq!(house.row().await, (SettledAs::Released, Money::ZERO), "{fail:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_charged_in_full() {
    let house = house(fails(Fail::Cut), Budgets::default()).await;
    let error = house.ask(call("hello")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Interrupted);
    assert_eq!(error.call.unwrap().cost, bound());
    assert_eq!(house.row().await, (SettledAs::Unknown, bound()));
}

#[tokio::test]
async fn an_answer_from_the_cache_costs_nothing() {
    let house = house(says("hi"), Budgets::default()).await;
    let on = Call { cache: CachePolicy::On { knowledge_version: "k".into() }, ..call("hello") };
    let first = house.ask(on.clone()).await.unwrap();
    let second = house.ask(on).await.unwrap();
    assert_eq!(
        (second.call.cache, second.call.cost, second.text),
        (CacheVerdict::Hit, Money::ZERO, first.text)
    );
    house.flush().await;
    assert_eq!(house.budget("user:u1").await, Budget { settled: first.call.cost, reserved: Money::ZERO });
}

#[tokio::test]
async fn the_output_limit_is_the_one_that_was_paid_for() {
    let long = "word ".repeat(500);
    let house = house(says(&long), Budgets::default()).await;
    for (asked, expected) in [(None, OUTPUT), (Some(Tokens(10)), 10), (Some(Tokens(1_000_000)), OUTPUT)] {
        let completed = house.ask(Call { max_output: asked, ..call("hello") }).await.unwrap();
        assert_eq!(completed.finish, chela_types::Finish::Length);
        assert!(completed.call.usage.output.0 <= expected, "{:?}", completed.call.usage);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_names_the_key() {
    let house = house(says("hi"), Budgets::default()).await;
    let egress =
        Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })
            .unwrap();
    let refuse = |change: &dyn Fn(&mut Config)| {
        let mut config = config(Script::default(), Budgets::default());
        change(&mut config);
        Gateway::new(config, house.store.clone(), &egress, Arc::new(house.clock.clone())).map(|_| ())
    };
    let url = || defaults::OPENAI_URL.parse().unwrap();
    let openai = || ProviderKind::OpenAi { url: url(), key: None, wire: crate::OpenAiWire::Chat };
    for (change, part) in [
        (&(|c: &mut Config| c.providers.clear()) as &dyn Fn(&mut Config), "provider `p` is not configured"),
        (&|c: &mut Config| c.tiers[0].chain.clear(), "chain is empty"),
        (&|c: &mut Config| c.tiers.push(c.tiers[0].clone()), "there twice"),
        (
            &|c: &mut Config| {
                c.providers[0].kind = openai();
                c.providers[0].prices.clear();
            },
            "[provider.p.price.\"m\"]",
        ),
    ] {
        let error = refuse(change).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let assumed = refuse(&|c: &mut Config| {
        c.providers[0].kind = openai();
        c.providers[0].prices.clear();
        c.unknown_price = UnknownPrice::Assume(Price::FREE);
    });
    assert!(assumed.is_ok());
}
