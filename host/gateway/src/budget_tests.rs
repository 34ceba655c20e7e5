//! Budgets with a real store: never exceeded, never forgotten.

use crate::escrow::Escrow;
use crate::failover::tests::{PRICE, call};
use crate::ledger::Purses;
use crate::watch::Watch;
use crate::{
    Answer, Budgets, Cache, CachePolicy, Call, Chunk, Completed, Config, Each, Error, Fail, Gateway, Kind,
    Limit, Model, ModelName, Provider, ProviderKind, ProviderLimits, Rule, Script, Tier, UnknownPrice,
    Window, defaults,
};
use chela_egress::Egress;
use chela_store::{Budget, Raise, Reserve, SettledAs, Settlement, Store, Used};
use chela_types::{
    CacheVerdict, ChannelId, Clock, DepartmentId, ManualClock, Millis, Money, Price, Quantity, TenantId,
    TierId, Tokens,
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
    let prices = BTreeMap::from([("m".to_owned(), PRICE.into())]);
    let limits = ProviderLimits::standard();
    let provider = Provider { name: "p".into(), kind: ProviderKind::Scripted(script), prices, limits };
    let chain = vec![ModelName { provider: "p".into(), model: "m".into() }];
    let id = TierId::new("fast").unwrap();
    Config {
        providers: vec![provider],
        tiers: vec![Tier {
            id,
            chain,
            max_output: Tokens(OUTPUT),
            first_token: None,
            cheaper: None,
            failover: Default::default(),
        }],
        agents: BTreeMap::new(),
        embedding: Default::default(),
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

fn limit(amount: Money) -> Vec<Limit> {
    vec![Limit { most: amount.into(), window: Window::Day }]
}

fn all<K>(limits: Vec<Limit>) -> Each<K> {
    Each { all: limits, own: BTreeMap::new() }
}

/// So much is settled, in dollars, and nothing is set aside.
fn settled(amount: Money) -> Budget {
    Budget { settled: amount.nanos(), reserved: 0 }
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

    /// Everything queued before this is on the disk after it, and nothing lies in slices.
    async fn flush(&self) {
        self.gateway.drain().await;
        let reserve = Reserve {
            lease: None,
            tenant: TenantId::default_tenant(),
            turn: None,
            scopes: vec![],
            amount: Money::ZERO,
            model: "flush".into(),
        };
        let id = self.store.reserve(reserve).await.unwrap();
        let nothing = Settlement { used: Used::default(), call: None, state: SettledAs::Released };
        self.store.settle(id, nothing).await.unwrap();
    }

    /// A day's in dollars.
    async fn budget(&self, scope: &str) -> Budget {
        self.window(&format!("{scope}/day"), Window::Day).await
    }

    async fn window(&self, scope: &str, window: Window) -> Budget {
        let start = window.start(self.clock.now(), &TimeZone::UTC);
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
        assert_eq!(house.budget(scope).await, settled(cost), "{scope}");
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
                assert!(now.settled + now.reserved <= limits.nanos(), "{now:?}");
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
    assert_eq!(house.budget("agent:support").await, settled(paid));
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
    let of = |limits: [Vec<Limit>; 5]| {
        let [agent, user, channel, department, global] = limits;
        let (agent, channel, department) = (all(agent), all(channel), all(department));
        Budgets { agent, user, channel, department, global, ..Budgets::default() }
    };
    let scopes = ["agent:support", "user:u1", "channel:slack", "department:people", "global"];
    let of_enough = || of(std::array::from_fn(|_| enough.clone()));
    let mut cases = vec![(of_enough(), None)];
    for (one, scope) in scopes.into_iter().enumerate() {
        let limits = std::array::from_fn(|at| if at == one { small.clone() } else { enough.clone() });
        cases.push((of(limits), Some(format!("{scope}/day"))));
    }
    // What one has of its own stands above what all have, and may be nothing.
    let own = |limits| Each { all: small.clone(), own: BTreeMap::from([(people.clone(), limits)]) };
    let has_own = |limits| Budgets { department: own(limits), ..of_enough() };
    cases.push((has_own(enough.clone()), None));
    cases.push((has_own(Vec::new()), None));
    let less = Each { all: enough.clone(), own: BTreeMap::from([(people.clone(), small.clone())]) };
    cases.push((Budgets { department: less, ..of_enough() }, Some("department:people/day".to_owned())));
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
        assert_eq!(house.budget(scope).await, settled(cost), "{scope}");
    }
}

#[tokio::test]
async fn of_ten_who_ask_the_same_at_once_one_pays() {
    let rule = Rule { first_ms: 20, ..says("one two three") };
    let house = house(rule, Budgets::default()).await;
    let on = || Call { cache: CachePolicy::exact("k"), ..call("hello") };
    let asked = futures::future::join_all((0..10).map(|_| house.ask(on()))).await;
    let all: Vec<_> = asked.into_iter().map(Result::unwrap).collect();
    assert!(all.iter().all(|one| one.text == "one two three"));
    let joined = all.iter().filter(|one| one.call.cache == CacheVerdict::Joined).count();
    let cost: Money = all.iter().map(|one| one.call.cost).sum();
    assert_eq!((joined, cost), (9, Money::from_nanos(2 * 1000 + 4 * 2000)));
    house.flush().await;
    assert_eq!(house.budget("user:u1").await, settled(cost));
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

fn parsed(text: &str) -> Limit {
    Limit::parse(text, Window::Day).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn a_limit_is_read_from_its_words() {
    for (text, shown, scope) in [
        ("20.00", "$20.00/day", "a/day"),
        ("0.5/hour", "$0.50/hour", "a/hour"),
        ("20000 tokens/week", "20000 tokens/week", "a/week/tokens"),
        ("1 requests / minute", "1 request/minute", "a/minute/requests"),
        ("3 tokens", "3 tokens/day", "a/day/tokens"),
    ] {
        let limit = parsed(text);
        assert_eq!((limit.to_string().as_str(), limit.scope("a").as_str()), (shown, scope), "{text}");
    }
    for wrong in [
        "",
        "0",
        "-1",
        "+5 tokens",
        "1.5 tokens",
        "5 words",
        "5/fortnight",
        "5/",
        "/day",
        "1e3",
        "5 tokens/day/x",
    ] {
        assert_eq!(Limit::parse(wrong, Window::Day), None, "{wrong}");
    }
}

/// A person who may ask three times a minute and use so many tokens an hour, within what a day may cost.
#[tokio::test]
async fn one_scope_has_budgets_of_several_windows_and_units() {
    let tokens = i64::try_from(call("hello").input_bound().0 + OUTPUT).unwrap();
    let user = vec![
        parsed("3 requests/minute"),
        Limit { most: Quantity::from(Tokens(0)), window: Window::Hour },
        parsed("1.00/day"),
    ];
    let mut budgets = Budgets { user, ..Budgets::default() };
    budgets.user[1].most.amount = tokens + 4 * 6;
    let house = house(says("one two three"), budgets).await;
    // Six tokens each: two in for one word, four out for three words.
    for _ in 0..3 {
        house.ask(call("hello")).await.unwrap();
    }
    let refused = async || match house.ask(call("hello")).await.unwrap_err().kind {
        Kind::OverBudget { scope, limit, used, again } => (scope, limit.amount, used.amount, again.as_secs()),
        other => panic!("{other}"),
    };
    assert_eq!(refused().await, ("user:u1/minute/requests".to_owned(), 3, 3, 60));
    house.clock.advance(Duration::from_secs(59));
    assert_eq!(
        refused().await,
        ("user:u1/minute/requests".to_owned(), 3, 3, 1),
        "refused ones count nothing"
    );
    house.clock.advance(Duration::from_secs(1));
    house.ask(call("hello")).await.unwrap();
    house.ask(call("hello")).await.unwrap();
    // What lies in slices is used as well, for whoever asks.
    let (scope, limit, used, again) = refused().await;
    assert_eq!((scope.as_str(), limit, again), ("user:u1/hour/tokens", tokens + 24, 3_540));
    assert!((30..=limit).contains(&used), "{used}");
    house.flush().await;
    assert_eq!(house.window("user:u1/hour/tokens", Window::Hour).await, Budget { settled: 30, reserved: 0 });
    let minute = house.window("user:u1/minute/requests", Window::Minute).await;
    assert_eq!(minute, Budget { settled: 2, reserved: 0 });
    assert_eq!(house.budget("user:u1").await, settled(times(Money::from_nanos(10_000), 5)));
    assert_eq!(house.budget("agent:support").await, settled(times(Money::from_nanos(10_000), 5)));
}

/// What costs nothing is counted in tokens all the same, and at the bound if nobody counted.
#[tokio::test]
async fn a_free_model_has_a_budget_in_tokens() {
    let bound = i64::try_from(call("hello").input_bound().0 + OUTPUT).unwrap();
    for (rule, charged) in [(says("one two three"), 6), (fails(Fail::Cut), bound), (fails(Fail::Refused), 0)]
    {
        let user = vec![parsed("100000 tokens/hour"), parsed("9 requests/day")];
        let budgets = Budgets { user, ..Budgets::default() };
        let mut house = house(rule.clone(), budgets.clone()).await;
        let mut free = config(Script { rules: vec![rule.clone()], default: None }, budgets);
        free.providers[0].prices.clear();
        let egress = Egress::new(chela_egress::Config::standard()).unwrap();
        house.gateway =
            Gateway::new(free, house.store.clone(), &egress, Arc::new(house.clock.clone())).unwrap();
        let _ = house.ask(call("hello")).await;
        house.flush().await;
        let tokens = house.window("user:u1/hour/tokens", Window::Hour).await;
        assert_eq!(tokens, Budget { settled: charged, reserved: 0 }, "{rule:?}");
        let requests = house.window("user:u1/day/requests", Window::Day).await;
        assert_eq!(requests.settled, i64::from(charged > 0), "{rule:?}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_was_asked_for_is_no_request() {
    let user = vec![parsed("1 requests/minute")];
    let house = house(says("hi"), Budgets { user, ..Budgets::default() }).await;
    let on = || Call { cache: CachePolicy::exact("k"), ..call("hello") };
    house.ask(on()).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(house.ask(on()).await.unwrap().call.cache, CacheVerdict::Hit);
    }
    assert!(house.ask(call("hello")).await.is_ok(), "the minute's request is still there");
}

/// Two tiers by one model; the dearer one may say ten times as much.
async fn with_cheaper(budgets: Budgets, cheaper: Option<&str>) -> House {
    let script = Script { rules: vec![says("hi")], default: None };
    let mut house = house(says("hi"), Budgets::default()).await;
    let mut config = config(script, budgets);
    let fast = TierId::new("fast").unwrap();
    let smart = Tier {
        id: TierId::new("smart").unwrap(),
        max_output: Tokens(OUTPUT * 10),
        cheaper: cheaper.map(|name| TierId::new(name).unwrap()),
        ..config.tiers[0].clone()
    };
    assert_eq!(config.tiers[0].id, fast);
    config.tiers.push(smart);
    let egress = Egress::new(chela_egress::Config::standard()).unwrap();
    house.gateway =
        Gateway::new(config, house.store.clone(), &egress, Arc::new(house.clock.clone())).unwrap();
    house
}

#[tokio::test]
async fn a_cheaper_tier_takes_the_place_of_one_that_a_budget_has_no_room_for() {
    let smart = || Call { tier: TierId::new("smart").unwrap(), ..call("hello") };
    let dear = PRICE.worst_case(call("hello").input_bound(), Tokens(OUTPUT * 10));
    let small = || Budgets { user: limit(times(bound(), 1)), ..Budgets::default() };
    let house = with_cheaper(small(), Some("fast")).await;
    let completed = house.ask(smart()).await.unwrap();
    let record = &completed.call;
    assert_eq!((record.tier.as_str(), record.asked.as_ref().map(TierId::as_str)), ("fast", Some("smart")));
    assert_eq!(record.reserved, bound());
    // When that is used up as well, the refusal is that of the tier that was asked.
    let error = house.ask(smart()).await.unwrap_err();
    assert_eq!(error.call.as_ref().map(|call| call.tier.as_str()), Some("smart"));
    assert!(matches!(error.kind, Kind::OverBudget { .. }), "{error}");
    // Where there is room, or none is configured, nothing changes.
    let house = with_cheaper(Budgets { user: limit(dear), ..Budgets::default() }, Some("fast")).await;
    let record = house.ask(smart()).await.unwrap().call;
    assert_eq!((record.tier.as_str(), record.asked), ("smart", None));
    let house = with_cheaper(small(), None).await;
    assert!(matches!(house.ask(smart()).await.unwrap_err().kind, Kind::OverBudget { .. }));
}

#[tokio::test]
async fn a_raise_is_seen_by_the_next_call() {
    let house = house(says("hi"), Budgets { user: limit(bound()), ..Budgets::default() }).await;
    house.ask(call("hello")).await.unwrap();
    assert!(house.ask(call("hello")).await.is_err());
    let raise = Raise {
        scope: "user:u1/day".into(),
        by: bound().into(),
        until: Millis(house.clock.now().0 + 60_000),
        who: "ann".into(),
        why: "the fair".into(),
    };
    house.store.raise_budget(&TenantId::default_tenant(), raise).await.unwrap();
    house.ask(call("hello")).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    assert!(house.ask(call("hello")).await.is_err());
}

/// Shares are told once, the refusal as the last of them, and a raise or another day begin anew.
#[tokio::test(start_paused = true)]
async fn used_shares_are_told_once() {
    let cost = Money::from_nanos(2 * 1000 + 4 * 2000);
    let room = bound().plus(times(cost, 9));
    let house = house(says("one two three"), Budgets { user: limit(room), ..Budgets::default() }).await;
    let told = async || {
        house.flush().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        house.flush().await;
        let events = house.store.newest_events(&TenantId::default_tenant(), None, 99).await.unwrap();
        events.iter().map(|event| event.happened.detail["percent"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    let (mut spent, mut refused) = (Money::ZERO, 0);
    for _ in 0..40 {
        match house.ask(call("hello")).await {
            Ok(completed) => spent = spent.plus(completed.call.cost),
            Err(_) => refused += 1,
        }
        let share = spent.nanos() * 100 / room.nanos();
        let expected: Vec<u64> = [(50, share >= 50), (80, share >= 80), (100, refused > 0)]
            .iter()
            .filter(|one| one.1)
            .map(|one| one.0)
            .collect();
        seen = told().await;
        assert_eq!(seen, expected, "{share} %");
    }
    assert!(refused > 1 && seen.contains(&100), "{seen:?}");
}

#[tokio::test]
async fn an_abandoned_answer_is_charged_at_the_bound() {
    let house = house(says("one two three four"), Budgets::default()).await;
    let mut answer = house.gateway.complete(call("hello")).await.unwrap();
    assert_eq!(answer.chunks.next().await.unwrap().unwrap(), Chunk::Text("one ".into()));
    assert!(house.budget("ledger").await.reserved >= bound().nanos());
    drop(answer);
    // The provider may go on to its limit, whoever listens.
    assert_eq!(house.row().await, (SettledAs::Unknown, bound()));
    assert_eq!(house.budget("user:u1").await, settled(bound()));
}

#[tokio::test]
async fn an_abandoned_answer_from_the_cache_costs_nothing() {
    let house = house(says("hi"), Budgets::default()).await;
    let on = Call { cache: CachePolicy::exact("k"), ..call("hello") };
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
        assert_eq!(record.lost, BTreeMap::from([("p/m".to_owned(), bound())]), "{rule:?}");
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
        budgets: Arc::default(),
        purses: Arc::new(Purses {
            store: house.store.clone(),
            escrow: Escrow::new(house.store.clone()),
            watch: Watch::new(house.store.clone(), vec![], None),
        }),
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
    let on = Call { cache: CachePolicy::exact("k"), ..call("hello") };
    let first = house.ask(on.clone()).await.unwrap();
    let second = house.ask(on).await.unwrap();
    assert_eq!(
        (second.call.cache, second.call.cost, second.text),
        (CacheVerdict::Hit, Money::ZERO, first.text)
    );
    house.flush().await;
    assert_eq!(house.budget("user:u1").await, settled(first.call.cost));
}

#[tokio::test]
async fn a_kept_answer_is_there_where_a_budget_is_used_up() {
    let on = |text: &str| Call { cache: CachePolicy::exact("k"), ..call(text) };
    let house = house(says("hi"), Budgets { user: limit(bound()), ..Budgets::default() }).await;
    let first = house.ask(on("hello")).await.unwrap();
    let error = house.ask(on("hallo")).await.unwrap_err();
    assert!(matches!(error.kind, Kind::OverBudget { .. }), "{error}");
    let again = house.ask(on("hello")).await.unwrap();
    let record = &again.call;
    assert_eq!((record.cache, record.cost, record.reserved), (CacheVerdict::Hit, Money::ZERO, Money::ZERO));
    assert_eq!((again.text, record.saved), (first.text, first.call.cost));
    house.flush().await;
    assert_eq!(house.budget("user:u1").await, settled(first.call.cost));
    let rows = house.store.ledger(10).await.unwrap().rows;
    let of_it =
        |row: &&chela_store::LedgerRow| row.call.as_ref().is_some_and(|call| call.saved > Money::ZERO);
    assert_eq!(rows.iter().filter(of_it).map(|row| row.cost).collect::<Vec<_>>(), [Money::ZERO]);
}

/// No other tier is paid for what the one that was asked has answered.
#[tokio::test]
async fn a_kept_answer_goes_before_a_cheaper_tier() {
    let on = || Call { tier: TierId::new("smart").unwrap(), cache: CachePolicy::exact("k"), ..call("hello") };
    let dear = PRICE.worst_case(call("hello").input_bound(), Tokens(OUTPUT * 10));
    let house = with_cheaper(Budgets { user: limit(dear), ..Budgets::default() }, Some("fast")).await;
    assert_eq!(house.ask(on()).await.unwrap().call.cache, CacheVerdict::Miss);
    let again = house.ask(on()).await.unwrap().call;
    assert_eq!((again.cache, again.tier.as_str(), again.asked), (CacheVerdict::Hit, "smart", None));
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
        (&|c: &mut Config| c.tiers[0].cheaper = TierId::new("none").ok(), "cheaper: there is no tier `none`"),
        (&|c: &mut Config| c.tiers[0].cheaper = TierId::new("fast").ok(), "leads back to itself"),
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

/// Many ask the same of a model that is silent, and lose patience: nobody was asked for them.
#[tokio::test]
async fn who_joins_and_gives_up_before_the_first_word_pays_nothing() {
    let house = house(says("never"), Budgets::default()).await;
    let asked = Arc::new(Notify::new());
    let cached = crate::cache::tests::over(Cache::standard(), Arc::new(Stuck(asked.clone())));
    let layer = super::Budget {
        budgets: Arc::default(),
        purses: Arc::new(Purses {
            store: house.store.clone(),
            escrow: Escrow::new(house.store.clone()),
            watch: Watch::new(house.store.clone(), vec![], None),
        }),
        plans: house.gateway.plans.clone(),
        clock: Arc::new(house.clock.clone()),
        below: Arc::new(cached),
    };
    let ask = |user: &str| {
        let call = Call { user: user.into(), cache: CachePolicy::exact("k"), ..call("hello") };
        layer.complete(Arc::new(call))
    };
    let mut first = ask("first");
    tokio::select! {
        answer = &mut first => panic!("{answer:?}"),
        () = asked.notified() => {}
    }
    {
        let mut second = ask("second");
        // It joins once its money is set aside.
        for _ in 0..1_000 {
            assert!(futures::poll!(&mut second).is_pending());
            tokio::task::yield_now().await;
        }
    }
    drop(first);
    house.flush().await;
    let ledger = house.store.ledger(10).await.unwrap();
    let mut rows: Vec<_> = ledger.rows.iter().filter(|row| row.model != "flush").collect();
    rows.sort_by_key(|row| row.cost);
    let rows: Vec<_> = rows.into_iter().map(|row| (row.state, row.cost)).collect();
    assert_eq!(rows, [(SettledAs::Released, Money::ZERO), (SettledAs::Unknown, bound())]);
}
