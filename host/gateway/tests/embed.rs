//! Vectors by in-process providers, with a real ledger.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

#[path = "faults/bomb.rs"]
mod bomb;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chela_egress::Egress;
use chela_gateway::{
    Budgets, Cache, Config, EMBED_INPUT_BYTES_MAX, EMBED_INPUTS_MAX, EmbedCall, Embedding, Error, Gateway,
    Kind, LEXICAL, LEXICAL_DIMS, Limit, ModelName, OpenAiWire, Provider, ProviderKind, ProviderLimits, Purse,
    UnknownPrice, Window, defaults,
};
use chela_store::{Budget, Reserve, SettledAs, Settlement, Store, Used};
use chela_types::{AgentId, Clock, ManualClock, Millis, Money, Price, Rates, TenantId, Tokens};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use url::Url;

const PRICE: Price = Price::flat(Rates {
    input: Money::from_nanos(20_000_000),
    cached: Money::from_nanos(20_000_000),
    written: Money::from_nanos(20_000_000),
    output: Money::ZERO,
});
const GOOD: &str = r#"{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0]}],"usage":{"prompt_tokens":7,"total_tokens":7}}"#;

type Seen = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

async fn provider(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Url, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let handler = post(move |headers: HeaderMap, body: Bytes| async move {
        log.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
        answer()
    });
    let app = Router::new()
        .route("/v1/embeddings", handler.clone())
        .route("/azure/openai/deployments/m/embeddings", handler);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

fn says(body: &'static str) -> impl Fn() -> Response + Clone + Send + Sync + 'static {
    move || ([("content-type", "application/json")], body).into_response()
}

fn openai(url: Url) -> ProviderKind {
    ProviderKind::OpenAi { url, key: Some("sk-hunter2".into()), wire: OpenAiWire::Chat }
}

struct House {
    _folder: tempfile::TempDir,
    gateway: Gateway,
    store: Store,
    clock: ManualClock,
}

async fn house(kinds: Vec<ProviderKind>, user: Option<Money>) -> House {
    let limits = ProviderLimits { total: Duration::from_millis(800), ..ProviderLimits::standard() };
    house_within(kinds, user, limits).await
}

/// These limits are the first provider's.
async fn house_within(kinds: Vec<ProviderKind>, user: Option<Money>, limits: ProviderLimits) -> House {
    let each = |(n, kind)| Provider {
        name: format!("p{n}"),
        kind,
        prices: BTreeMap::from([("m".to_owned(), PRICE.into())]),
        limits: ProviderLimits {
            requests_per_minute: limits.requests_per_minute.filter(|_| n == 0),
            ..limits
        },
    };
    let providers: Vec<Provider> = kinds.into_iter().enumerate().map(each).collect();
    let chain: Vec<ModelName> =
        providers.iter().map(|p| ModelName { provider: p.name.clone(), model: "m".into() }).collect();
    let user = user.map(|most| Limit { most: most.into(), window: Window::Day });
    let config = Config {
        providers,
        tiers: Vec::new(),
        agents: BTreeMap::new(),
        embedding: if chain.is_empty() { Embedding::Lexical } else { Embedding::Chain(chain) },
        budgets: Budgets { user: user.into_iter().collect(), ..Budgets::default() },
        cache: Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    };
    let clock = ManualClock::at(Millis(1_767_225_600_000));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(chela_store::Config::new(folder.path()), Arc::new(clock.clone())).await.unwrap();
    let egress =
        Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })
            .unwrap();
    let gateway = Gateway::new(config, store.clone(), &egress, Arc::new(clock.clone())).unwrap();
    House { _folder: folder, gateway, store, clock }
}

fn call(inputs: &[&str]) -> EmbedCall {
    EmbedCall {
        tenant: TenantId::default_tenant(),
        agent: AgentId::new("support").unwrap(),
        department: None,
        user: "u1".to_owned(),
        channel: None,
        turn: None,
        lease: None,
        purse: Purse::Turn,
        inputs: inputs.iter().map(|text| (*text).to_owned()).collect(),
        dims: None,
    }
}

/// What one model can cost at most for "one", "two".
fn bound() -> Money {
    PRICE.worst_case(Tokens(3 + 3 + 3 * 16), Tokens(0))
}

impl House {
    /// What the person used, once all that was queued is on the disk.
    async fn used(&self) -> Budget {
        let tenant = TenantId::default_tenant();
        let reserve = Reserve {
            lease: None,
            tenant: tenant.clone(),
            turn: None,
            scopes: vec![],
            amount: Money::ZERO,
            model: "flush".into(),
        };
        let id = self.store.reserve(reserve).await.unwrap();
        let nothing = Settlement { used: Used::default(), call: None, state: SettledAs::Released };
        self.store.settle(id, nothing).await.unwrap();
        self.store.budget(&tenant, "user:u1/day", Millis(self.clock.now().0)).await.unwrap()
    }
}

fn settled(amount: Money) -> Budget {
    Budget { settled: amount.nanos(), reserved: 0 }
}

#[tokio::test]
async fn vectors_come_in_order_and_are_charged_by_the_count() {
    let (url, seen) = provider(says(GOOD)).await;
    let house = house(vec![openai(url)], None).await;
    let made = house.gateway.embed(call(&["one", "two"])).await.unwrap();
    assert_eq!(made.vectors, vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
    assert_eq!((made.model.as_str(), made.call.tier.as_str()), ("p0/m", "embedding"));
    assert_eq!((made.call.usage.input, made.call.charged), (Tokens(7), Tokens(7)));
    assert_eq!((made.call.cost, made.call.reserved), (Money::from_nanos(7 * 20), bound()));
    assert_eq!(house.used().await, settled(Money::from_nanos(7 * 20)));
    let (headers, body) = &seen.lock().unwrap()[0];
    assert_eq!(headers["authorization"], "Bearer sk-hunter2");
    assert_eq!(body["input"][1], "two");
    assert_eq!((&body["model"], &body["encoding_format"]), (&"m".into(), &"float".into()));
}

#[tokio::test]
async fn azure_is_asked_for_its_deployment() {
    let (mut url, seen) = provider(says(GOOD)).await;
    url.set_path("/azure");
    let (key, api_version) = (Some("sk-hunter2".into()), Some("2024-10-21".to_owned()));
    let kind = ProviderKind::Azure { url, key, wire: OpenAiWire::Chat, api_version };
    let house = house(vec![kind], None).await;
    assert_eq!(house.gateway.embed(call(&["one", "two"])).await.unwrap().vectors.len(), 2);
    assert_eq!(seen.lock().unwrap()[0].0["api-key"], "sk-hunter2");
}

#[tokio::test]
async fn a_count_that_cannot_be_true_is_charged_at_the_bound() {
    for usage in ["{}", r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":0}"#, r#"{"prompt_tokens":1000000}"#] {
        let body = GOOD.replace(r#"{"prompt_tokens":7,"total_tokens":7}"#, usage);
        let body: &'static str = body.leak();
        let (url, _) = provider(says(body)).await;
        let house = house(vec![openai(url)], None).await;
        let made = house.gateway.embed(call(&["one", "two"])).await.unwrap();
        assert_eq!(made.call.cost, bound(), "{usage}");
        assert_eq!(house.used().await, settled(bound()), "{usage}");
    }
}

#[tokio::test]
async fn a_bad_answer_is_paid_for_and_the_next_model_is_asked() {
    let (bad, _) = provider(says(r#"{"data":[{"index":0,"embedding":[1,null]}]}"#)).await;
    let (good, _) = provider(says(GOOD)).await;
    let house = house(vec![openai(bad), openai(good)], None).await;
    let made = house.gateway.embed(call(&["one", "two"])).await.unwrap();
    let tried: Vec<&str> = made.call.attempts.iter().map(|attempt| attempt.class.as_str()).collect();
    assert_eq!((made.model.as_str(), tried), ("p1/m", vec!["bad_response", "ok"]));
    let expected = Money::from_nanos(bound().nanos() + 7 * 20);
    assert_eq!(made.call.cost, expected);
    assert_eq!(house.used().await, settled(expected));
}

/// One document, which is read as a whole: two gigabytes stay the two megabytes that came.
#[tokio::test]
async fn a_compression_bomb_is_not_unpacked() {
    for (encoding, body) in [("gzip", bomb::gzip()), ("deflate", bomb::deflate())] {
        let body = Bytes::from(body);
        let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
        let (bad, _) = provider(move || (headers, body.clone()).into_response()).await;
        let (good, _) = provider(says(GOOD)).await;
        let house = house(vec![openai(bad), openai(good)], None).await;
        let made = house.gateway.embed(call(&["one", "two"])).await.unwrap();
        assert_eq!(made.call.attempts[0].class, "bad_response", "{encoding}");
        assert_eq!(made.call.cost, Money::from_nanos(bound().nanos() + 7 * 20), "{encoding}");
    }
}

#[tokio::test]
async fn who_refuses_by_a_status_is_not_paid_and_rests_as_long_as_it_asks() {
    let refuse = || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "30")], "{}").into_response();
    let (url, seen) = provider(refuse).await;
    let house = house(vec![openai(url)], None).await;
    for _ in 0..2 {
        let error = house.gateway.embed(call(&["one", "two"])).await.unwrap_err();
        assert!(matches!(error.kind, Kind::RateLimited { .. }), "{error}");
        assert_eq!(error.call.unwrap().cost, Money::ZERO);
    }
    assert_eq!(seen.lock().unwrap().len(), 1, "it was left alone");
    assert_eq!(house.used().await, settled(Money::ZERO));
}

#[tokio::test]
async fn a_budget_without_room_asks_nobody() {
    let (url, seen) = provider(says(GOOD)).await;
    let house = house(vec![openai(url)], Some(Money::from_nanos(bound().nanos() - 1))).await;
    let error = house.gateway.embed(call(&["one", "two"])).await.unwrap_err();
    assert!(matches!(error.kind, Kind::OverBudget { .. }), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_is_silent_or_gives_up_is_charged_the_bound() {
    let (url, _) = provider(|| {
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        axum::body::Body::from_stream(never).into_response()
    })
    .await;
    let house = house(vec![openai(url)], None).await;
    let error = house.gateway.embed(call(&["one", "two"])).await.unwrap_err();
    assert!(matches!(error.kind, Kind::TooSlow { .. } | Kind::Unavailable { .. }), "{error}");
    assert_eq!(house.used().await, settled(bound()));
    let asked = house.gateway.embed(call(&["one", "two"]));
    assert!(tokio::time::timeout(Duration::from_millis(200), asked).await.is_err());
    assert_eq!(house.used().await, settled(Money::from_nanos(bound().nanos() * 2)));
}

#[tokio::test]
async fn without_a_provider_this_program_makes_them() {
    let house = house(Vec::new(), Some(Money::from_nanos(1))).await;
    let made =
        house.gateway.embed(call(&["Reset my password", "reset my password!", "canteen"])).await.unwrap();
    let product = |one: usize, other: usize| -> f32 {
        made.vectors[one].iter().zip(&made.vectors[other]).map(|(a, b)| a * b).sum()
    };
    assert!(made.vectors.iter().all(|vector| vector.len() == LEXICAL_DIMS));
    assert!(product(0, 1) > 0.99 && product(0, 2) < 0.3);
    assert_eq!((made.model.as_str(), made.call.cost), (LEXICAL, Money::ZERO));
}

#[tokio::test]
async fn vectors_are_as_long_as_was_asked_or_none() {
    let (url, seen) = provider(says(GOOD)).await;
    let house = house(vec![openai(url)], None).await;
    let of = |dims| EmbedCall { dims: Some(dims), ..call(&["one", "two"]) };
    assert_eq!(house.gateway.embed(of(2)).await.unwrap().vectors[0].len(), 2);
    let error = house.gateway.embed(of(3)).await.unwrap_err();
    assert!(matches!(error.kind, Kind::BadResponse { .. }), "{error}");
    house.gateway.embed(call(&["one", "two"])).await.unwrap();
    let seen: Vec<Value> = seen.lock().unwrap().iter().map(|(_, body)| body["dimensions"].clone()).collect();
    assert_eq!(seen, [json!(2), json!(3), Value::Null]);
}

#[tokio::test]
async fn this_program_makes_vectors_of_one_length() {
    let house = house(Vec::new(), None).await;
    let of = |dims| EmbedCall { dims: Some(dims), ..call(&["one"]) };
    assert_eq!(house.gateway.embed(of(LEXICAL_DIMS)).await.unwrap().vectors[0].len(), LEXICAL_DIMS);
    let error = house.gateway.embed(of(256)).await.unwrap_err();
    assert!(matches!(&error.kind, Kind::Invalid { code } if code.contains("512 dimensions")), "{error}");
    assert_eq!(house.gateway.embedding_chain(), [LEXICAL]);
}

#[tokio::test]
async fn what_no_provider_takes_is_refused_here() {
    let house = house(Vec::new(), None).await;
    let refused = async |inputs: &[&str]| -> Option<Error> { house.gateway.embed(call(inputs)).await.err() };
    let (most, more) = (vec!["a"; EMBED_INPUTS_MAX], vec!["a"; EMBED_INPUTS_MAX + 1]);
    let long = "a".repeat(EMBED_INPUT_BYTES_MAX + 1);
    let half = "a ".repeat(EMBED_INPUT_BYTES_MAX / 2);
    let all = vec![half.as_str(); 17];
    for (inputs, is_good) in [
        (&most[..], true),
        (&more[..], false),
        (&[][..], false),
        (&["a", " "][..], false),
        (&[long.as_str()][..], false),
        (&all[..], false),
    ] {
        let error = refused(inputs).await;
        assert_eq!(error.is_none(), is_good, "{}", inputs.len());
        assert!(error.is_none_or(|error| matches!(error.kind, Kind::Invalid { .. })));
    }
}

/// Attempts beyond the first have one budget: ten, and a fifth of the calls.
#[tokio::test]
async fn an_outage_of_all_makes_no_storm() {
    let too_long = || StatusCode::PAYLOAD_TOO_LARGE.into_response();
    let ((first, asked), (second, asked_next)) = (provider(too_long).await, provider(too_long).await);
    let house = house(vec![openai(first), openai(second)], None).await;
    for _ in 0..20 {
        house.gateway.embed(call(&["one"])).await.unwrap_err();
    }
    assert_eq!((asked.lock().unwrap().len(), asked_next.lock().unwrap().len()), (20, 14));
}

#[tokio::test]
async fn what_was_never_sent_uses_up_no_pace() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let (second, _) = provider(says(GOOD)).await;
    // One at once.
    let limits = ProviderLimits { requests_per_minute: Some(12), ..ProviderLimits::standard() };
    let house = house_within(vec![openai(closed), openai(second)], None, limits).await;
    for _ in 0..3 {
        let made = house.gateway.embed(call(&["one", "two"])).await.unwrap();
        let classes: Vec<_> = made.call.attempts.iter().map(|attempt| attempt.class.as_str()).collect();
        assert_eq!(classes, ["unavailable", "ok"]);
    }
}
