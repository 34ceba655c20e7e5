//! Which tier, and what the record says of it; with a real store, as budgets are.

use super::*;
use crate::difficulty::Scorer;
use crate::failover::tests::{PRICE, call};
use crate::{
    Cache, Completed, Config, Gateway, Image, Limit, ModelName, Part, Prompt, Provider, ProviderKind,
    ProviderLimits, Role, Rule, Script, Tier, UnknownPrice, Window, defaults,
};
use chela_egress::Egress;
use chela_store::Store;
use chela_types::{ManualClock, Millis, ModelCall, Money, Tokens};
use std::time::Duration;

const LONG: usize = 900;

struct House {
    _folder: tempfile::TempDir,
    gateway: Gateway,
}

fn id(name: &str) -> TierId {
    TierId::new(name).unwrap()
}

/// Of the agent that `call` asks for.
fn agent(policy: TierPolicy) -> BTreeMap<AgentId, AgentTier> {
    BTreeMap::from([(call("").agent, AgentTier { tier: id("smart"), policy })])
}

fn calibrated(threshold: f64) -> TierPolicy {
    // As it is read from a file.
    let file = crate::difficulty::tests::by_length(threshold).to_toml().unwrap();
    TierPolicy::Calibrated { cheap: id("fast"), scorer: Arc::new(Scorer::parse(&file).unwrap()) }
}

async fn house(agents: BTreeMap<AgentId, AgentTier>, budgets: Budgets) -> House {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Millis(1_767_225_600_000));
    let store = Store::open(chela_store::Config::new(folder.path()), Arc::new(clock.clone())).await.unwrap();
    let rule = Rule { say: "yes".into(), ..Rule::default() };
    let provider = Provider {
        name: "p".into(),
        kind: ProviderKind::Scripted(Script { rules: vec![rule], default: None }),
        prices: BTreeMap::from([("m".to_owned(), PRICE.into())]),
        limits: ProviderLimits::standard(),
    };
    let tier = |name: &str, max_output: u64, cheaper: Option<&str>| Tier {
        id: id(name),
        chain: vec![ModelName { provider: "p".into(), model: "m".into() }],
        max_output: Tokens(max_output),
        first_token: None,
        failover: Default::default(),
        cheaper: cheaper.map(id),
    };
    let config = Config {
        providers: vec![provider],
        tiers: vec![tier("fast", 50, None), tier("smart", 500, None), tier("wide", 900, Some("fast"))],
        agents,
        embedding: Default::default(),
        budgets,
        cache: Cache { enabled: false, ..Cache::standard() },
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    };
    let egress = Egress::new(chela_egress::Config::standard()).unwrap();
    House { _folder: folder, gateway: Gateway::new(config, store, &egress, Arc::new(clock)).unwrap() }
}

impl House {
    async fn ask(&self, call: Call) -> ModelCall {
        let completed: Completed = self.gateway.complete(call).await.unwrap().whole().await.unwrap();
        completed.call
    }
}

fn asking(tier: &str, text: &str) -> Call {
    Call { tier: id(tier), ..call(text) }
}

fn told(record: &ModelCall) -> (&str, Option<&str>, Option<&str>) {
    (record.tier.as_str(), record.asked.as_ref().map(TierId::as_str), record.why.as_deref())
}

#[tokio::test]
async fn a_policy_chooses_and_the_record_tells_it() {
    let long = "a".repeat(LONG);
    for (policy, wish, text, expected) in [
        (TierPolicy::Fixed, "wide", "hi", ("smart", None, Some("fixed"))),
        (TierPolicy::Fixed, "unheard-of", "hi", ("smart", None, Some("fixed"))),
        (TierPolicy::Wish, "fast", "hi", ("fast", None, Some("wish"))),
        (calibrated(0.71), "smart", "hi", ("fast", None, Some("calibrated 0.947 ≥ 0.710"))),
        (calibrated(0.71), "fast", long.as_str(), ("smart", None, Some("calibrated 0.057 < 0.710"))),
        (calibrated(1.0), "smart", "hi", ("smart", None, Some("calibrated 0.947 < 1.000"))),
        (calibrated(0.0), "smart", long.as_str(), ("fast", None, Some("calibrated 0.057 ≥ 0.000"))),
    ] {
        let house = house(agent(policy), Budgets::default()).await;
        let record = house.ask(asking(wish, text)).await;
        assert_eq!(told(&record), expected, "{wish}");
    }
    // An agent that nobody wrote down asks as it did before.
    let house = house(BTreeMap::new(), Budgets::default()).await;
    assert_eq!(told(&house.ask(asking("wide", "hi")).await), ("wide", None, None));
    assert!(house.gateway.may_wish(&call("").agent));
}

#[tokio::test]
async fn what_is_set_aside_is_the_worst_case_of_the_tier_that_was_chosen() {
    let house = house(agent(calibrated(0.71)), Budgets::default()).await;
    assert!(!house.gateway.may_wish(&call("").agent));
    let long = "a".repeat(LONG);
    for (text, output) in [("hi", 50), (long.as_str(), 500)] {
        let bound = PRICE.worst_case(call(text).input_bound(), Tokens(output));
        assert_eq!(house.ask(asking("smart", text)).await.reserved, bound, "{text}");
    }
}

#[tokio::test]
async fn what_the_scorer_cannot_see_goes_to_the_dearer_tier() {
    let image = Part::Image(Image::from_address("data:image/png;base64,iVBORw0KGgo=").unwrap());
    let prompts = vec![Prompt { role: Role::User, parts: vec![image, Part::Text("hi".into())] }];
    let house = house(agent(calibrated(0.0)), Budgets::default()).await;
    let record = house.ask(Call { prompts, ..asking("fast", "") }).await;
    assert_eq!(told(&record), ("smart", None, Some("calibrated unread")));
}

#[tokio::test]
async fn whoever_watches_waiting_times_asks_for_faster_or_smarter_tiers() {
    let asked = call("").agent;
    let of_two = house(agent(calibrated(0.71)), Budgets::default()).await;
    let long = "a".repeat(LONG);
    let press = |house: &House, pressure| assert!(house.gateway.press(&asked, pressure));
    press(&of_two, Pressure::Lower);
    assert_eq!(told(&of_two.ask(asking("smart", &long)).await), ("fast", Some("smart"), Some("sla")));
    press(&of_two, Pressure::Raise);
    assert_eq!(told(&of_two.ask(asking("smart", "hi")).await), ("smart", Some("fast"), Some("sla")));
    press(&of_two, Pressure::None);
    assert_eq!(told(&of_two.ask(asking("smart", "hi")).await).0, "fast");
    let wishing = house(agent(TierPolicy::Wish), Budgets::default()).await;
    press(&wishing, Pressure::Lower);
    assert_eq!(told(&wishing.ask(asking("wide", "hi")).await), ("fast", Some("wide"), Some("sla")));
    // No faster one is known, and a wish is not raised.
    assert_eq!(told(&wishing.ask(asking("smart", "hi")).await), ("smart", None, Some("wish")));
    press(&wishing, Pressure::Raise);
    assert_eq!(told(&wishing.ask(asking("fast", "hi")).await), ("fast", None, Some("wish")));
    let other = AgentId::new("nobody").unwrap();
    assert!(!wishing.gateway.press(&other, Pressure::Lower));
}

#[tokio::test]
async fn a_budget_that_is_nearly_used_up_asks_for_the_cheaper_tier() {
    let long = "a".repeat(LONG);
    let cost =
        house(agent(calibrated(0.71)), Budgets::default()).await.ask(asking("smart", &long)).await.cost;
    let most = Limit { most: Money::from_nanos(cost.nanos() * 1_000).into(), window: Window::Day };
    for (lower_at, is_lowered) in [(Some(1), true), (Some(90), false), (None, false)] {
        let budgets = Budgets { user: vec![most], thresholds: vec![], lower_at, ..Budgets::default() };
        let house = house(agent(calibrated(0.71)), budgets).await;
        house.gateway.press(&call("").agent, Pressure::Raise);
        // Ten of them are a hundredth; the ledger is read behind the calls.
        let mut last = house.ask(asking("smart", &long)).await;
        assert_eq!(last.tier.as_str(), "smart");
        let patience = if is_lowered { 100 } else { 20 };
        for _ in 0..patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
            last = house.ask(asking("smart", &long)).await;
            if last.tier.as_str() == "fast" {
                break;
            }
        }
        let expected = if is_lowered { "fast" } else { "smart" };
        assert_eq!(last.tier.as_str(), expected, "{lower_at:?}: money has the last word");
        let why = last.why.unwrap();
        assert_eq!(why.starts_with("budget ") && why.ends_with(" ≥ 1"), is_lowered, "{why}");
        assert_eq!(last.asked.is_some(), is_lowered);
    }
}

#[tokio::test]
async fn a_cheaper_tier_that_does_not_exist_is_refused_at_the_start() {
    let policy = TierPolicy::Calibrated {
        cheap: id("nowhere"),
        scorer: Arc::new(crate::difficulty::tests::by_length(0.5)),
    };
    let house = house(BTreeMap::new(), Budgets::default()).await;
    let error = super::super::gateway::agents(agent(policy), &house.gateway.plans).unwrap_err();
    assert!(error.to_string().contains("cheap_tier"), "{error}");
}
