//! Answers of a gateway with scripted providers, as each format tells them.

use super::*;
use crate::front::said::{Ended, of_model};
use chela_egress::Egress;
use chela_gateway::{
    Budgets, Cache, Config, Each, Fail, Limit, ModelName, Provider, ProviderKind, ProviderLimits, Rule,
    Script, Tier, UnknownPrice, Window, defaults,
};
use chela_store::Store;
use chela_types::{Price, SystemClock, TenantId, TierId, Tokens};
use serde_json::json;
use std::collections::BTreeMap;
use tempfile::TempDir;

struct House {
    gateway: Gateway,
    client: Arc<Client>,
    _folder: TempDir,
}

fn rule(when: &str, say: &str) -> Rule {
    Rule { when: vec![when.into()], say: say.into(), ..Rule::default() }
}

fn script() -> Script {
    let fails = |when: &str, fail| Rule { fail: Some(fail), ..rule(when, "one two three four") };
    let tool = Rule {
        call: Some("look".into()),
        arguments: Some("{\"city\":\"Bonn\"}".into()),
        ..rule("weather", "I look.")
    };
    let rules = vec![
        fails("down", Fail::Unavailable),
        fails("limits", Fail::RateLimited),
        fails("forbidden", Fail::Refused),
        fails("broken", Fail::Cut),
        tool,
    ];
    Script { rules, default: Some(rule("", "Hello there.")) }
}

async fn house(of_key: &[&str]) -> House {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(chela_store::Config::new(folder.path()), Arc::new(SystemClock)).await.unwrap();
    let provider = Provider {
        name: "script".into(),
        kind: ProviderKind::Scripted(script()),
        prices: BTreeMap::from([("m".into(), Price::FREE.into())]),
        limits: ProviderLimits::standard(),
    };
    let tier = Tier {
        id: TierId::new("fast").unwrap(),
        chain: vec![ModelName { provider: "script".into(), model: "m".into() }],
        max_output: Tokens(100),
        first_token: None,
        cheaper: None,
        failover: Default::default(),
    };
    let limits = of_key.iter().map(|text| Limit::parse(text, Window::Day).unwrap()).collect();
    let config = Config {
        providers: vec![provider],
        tiers: vec![tier],
        agents: BTreeMap::new(),
        embedding: chela_gateway::Embedding::default(),
        budgets: Budgets { key: Each { all: limits, own: BTreeMap::new() }, ..Budgets::default() },
        cache: Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: Duration::ZERO,
    };
    let egress = Egress::new(chela_egress::Config::standard()).unwrap();
    let gateway = Gateway::new(config, store, &egress, Arc::new(SystemClock)).unwrap();
    let keys = "[api_key.ann]\nkey = \"env:ANN\"\ntiers = [\"fast\"]\n";
    let key = HeaderValue::from_static("the-rather-long-key-of-the-client-ANN");
    let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), key)]);
    let client = Clients::new(&client::tests::config(keys)).whose(&headers).unwrap();
    House { gateway, client, _folder: folder }
}

impl House {
    async fn ask(&self, wire: Wire, text: &str) -> Result<Saying, Refusal> {
        let tool = match wire {
            Wire::OpenAi => json!({"type": "function", "function": {"name": "look"}}),
            Wire::Anthropic => json!({"name": "look", "input_schema": {"type": "object"}}),
        };
        let messages = [json!({"role": "user", "content": text})];
        let body = json!({"model": "fast", "max_tokens": 50, "messages": messages, "tools": [tool]});
        let asked = wire.read(&body).unwrap();
        let call =
            self.client.call(&TenantId::default_tenant(), TierId::new("fast").unwrap(), asked).unwrap();
        Ok(of_model(self.gateway.complete(call).await?))
    }

    async fn whole(&self, wire: Wire, text: &str) -> Result<Ended, Refusal> {
        said::whole(self.ask(wire, text).await?).await
    }

    async fn told(&self, wire: Wire, text: &str) -> String {
        let saying = self.ask(wire, text).await.unwrap();
        let told: Vec<Told> = events(wire.teller(envelope()), "1".into(), saying).collect().await;
        told.into_iter().map(|told| format!("{} {}\n", told.event.unwrap_or_default(), told.data)).collect()
    }
}

fn envelope() -> Envelope {
    Envelope { id: "1".into(), created: 7, model: "fast".into(), include_usage: true }
}

#[tokio::test]
async fn an_answer_is_whole_and_a_cut_one_is_never_told_as_one() {
    let house = house(&[]).await;
    for (wire, end, failed) in [
        (Wire::OpenAi, " [DONE]\n", "\"type\":\"server_error\""),
        (Wire::Anthropic, "message_stop {\"type\":\"message_stop\"}\n", "\"type\":\"api_error\""),
    ] {
        let whole = wire.whole(&envelope(), &house.whole(wire, "hello").await.unwrap());
        assert!(whole.contains("Hello there."), "{whole}");
        let told = house.told(wire, "good day").await;
        assert!(told.contains("Hello ") && told.ends_with(end), "{told}");
        let called = house.told(wire, "the weather").await;
        assert!(called.contains("Bonn") && called.ends_with(end), "{called}");
        let cut = house.told(wire, "it is broken").await;
        assert!(cut.contains("one ") && cut.contains(failed) && !cut.contains(end), "{cut}");
    }
}

#[tokio::test]
async fn a_failure_before_the_first_word_has_the_status_of_its_kind() {
    let house = house(&[]).await;
    for (text, openai, anthropic) in
        [("it is down", 503, 529), ("it limits", 429, 429), ("forbidden", 400, 400)]
    {
        for (wire, status) in [(Wire::OpenAi, openai), (Wire::Anthropic, anthropic)] {
            let refusal = house.whole(wire, text).await.unwrap_err();
            assert_eq!(refusal.response(wire, "r").status(), status, "{text} {wire:?}");
        }
    }
}

#[tokio::test]
async fn a_key_has_a_budget_of_its_own_obeyed_and_violated() {
    let house = house(&["2 requests/day"]).await;
    for text in ["one", "two"] {
        house.whole(Wire::OpenAi, text).await.unwrap();
    }
    let refusal = house.whole(Wire::OpenAi, "three").await.unwrap_err();
    let Refusal::Gateway(Kind::OverBudget { scope, .. }) = &refusal else { panic!("{refusal:?}") };
    assert_eq!(scope, "key:ann/day/requests");
    let response = refusal.response(Wire::OpenAi, "r");
    assert!(response.status() == 429 && response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn the_same_question_is_answered_from_what_is_kept() {
    let house = house(&[]).await;
    let mut verdicts = Vec::new();
    for _ in 0..2 {
        let mut headers = HeaderMap::new();
        let ended = house.whole(Wire::Anthropic, "hello").await.unwrap();
        tell_apart(&mut headers, &ended.counted.unwrap());
        assert_eq!(headers["x-chela-model"], "script/m");
        assert_eq!(headers["x-chela-cost"], "0.000000000");
        verdicts.push(headers["x-chela-cache"].clone());
    }
    assert_eq!(verdicts, ["miss", "hit"]);
}

#[tokio::test]
async fn an_answer_that_has_not_begun_fails_in_its_stream() {
    let refused = async { Err(Refusal::Key) }.boxed();
    let told: Vec<Told> = events(Wire::OpenAi.teller(envelope()), "1".into(), later(refused)).collect().await;
    assert!(told.len() == 2 && told[1].data.contains("invalid_api_key"), "{told:?}");
}

#[test]
fn who_wants_no_kept_answer_says_so() {
    let headers =
        |value: &'static str| HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(value))]);
    assert!(!is_fresh(&HeaderMap::new()) && !is_fresh(&headers("max-age=0")));
    assert!(is_fresh(&headers("no-cache")) && is_fresh(&headers("private, no-store")));
    assert_eq!(dollars(Money::from_nanos(1_000_012_300)), "1.000012300");
}

/// One who stopped reading, without going, held a provider's place and its department's money for ever.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_holds_nothing_of_others() {
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    let endless = futures::stream::iter(0_u64..).map(move |_| {
        let _held = &held;
        Ok(said::Said::Text("word ".into()))
    });
    let begun = async { Ok(Begun { model: None, saying: endless.boxed() }) }.boxed();
    let seats = Arc::new(tokio::sync::Semaphore::new(1));
    let seat = Arc::clone(&seats).acquire_owned().await.unwrap();
    let response = streamed(Wire::OpenAi, "1".into(), begun, (envelope(), seat)).await.unwrap();
    tokio::time::sleep(2 * pace::UNREAD).await;
    assert!(weak.upgrade().is_none());
    assert_eq!(seats.available_permits(), 0, "its own seat is taken as long as its connection is there");
    drop(response);
    assert_eq!(seats.available_permits(), 1);
}
