//! The whole gateway against in-process providers that send recorded bytes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chela_egress::Egress;
use chela_gateway::{
    Budgets, Cache, Call, Chunk, Completed, Config, Error, Gateway, Kind, ModelName, OpenAiWire, Prompt,
    Provider, ProviderKind, ProviderLimits, Role, Tier, Tool, ToolChoice, UnknownPrice, defaults,
};
use chela_store::Store;
use chela_types::{
    AgentId, Fault, Finish, Money, Price, Rates, Retry, SystemClock, TenantId, TierId, Tokens, Usage,
};
use futures::StreamExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use url::Url;

const OPENAI: &str = include_str!("wire/openai-text.sse");
const ANTHROPIC: &str = include_str!("wire/anthropic-basic.sse");
const RESPONSES: &str = include_str!("wire/responses-tools.jsonl");
const REFUSAL: &str = include_str!("wire/anthropic-refusal.sse");
const PRICE: Price = Price::flat(Rates {
    input: Money::from_nanos(1_000_000_000),
    cached: Money::ZERO,
    written: Money::ZERO,
    output: Money::from_nanos(2_000_000_000),
});

type Seen = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// A provider that answers every request in the same way.
async fn provider(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Url, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let handler = post(move |headers: HeaderMap, body: Bytes| async move {
        log.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
        answer()
    });
    let app = Router::new()
        .route("/v1/chat/completions", handler.clone())
        .route("/v1/responses", handler.clone())
        .route("/azure/openai/deployments/m/chat/completions", handler.clone())
        .route("/v1/messages", handler);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

fn sse(body: impl Into<Body>) -> Response {
    ([("content-type", "text/event-stream")], body.into()).into_response()
}

/// The first half of a stream, then the connection breaks. The pause between lets the server send the half.
fn cut(text: &'static str, at: usize) -> Response {
    let pieces = futures::stream::iter([Ok(Bytes::from(&text[..at]))]).chain(futures::stream::once(async {
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    }));
    sse(Body::from_stream(pieces))
}

fn openai(url: Url) -> ProviderKind {
    ProviderKind::OpenAi { url, key: Some("sk-hunter2".into()), wire: OpenAiWire::Chat }
}

fn anthropic(url: Url) -> ProviderKind {
    ProviderKind::Anthropic { url, key: Some("sk-hunter2".into()), prompt_cache: true }
}

struct House {
    _folder: tempfile::TempDir,
    gateway: Gateway,
    store: Store,
}

async fn house(kinds: Vec<ProviderKind>) -> House {
    let limits = ProviderLimits { first_token: Duration::from_millis(500), ..ProviderLimits::standard() };
    let providers: Vec<Provider> = kinds
        .into_iter()
        .enumerate()
        .map(|(n, kind)| Provider {
            name: format!("p{n}"),
            kind,
            prices: BTreeMap::from([("m".to_owned(), PRICE.into())]),
            limits,
        })
        .collect();
    let chain = providers.iter().map(|p| ModelName { provider: p.name.clone(), model: "m".into() }).collect();
    let config = Config {
        providers,
        tiers: vec![Tier {
            id: TierId::new("fast").unwrap(),
            chain,
            max_output: Tokens(200),
            first_token: None,
            cheaper: None,
            failover: Default::default(),
        }],
        agents: Default::default(),
        embedding: Default::default(),
        budgets: Budgets::default(),
        cache: Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(chela_store::Config::new(folder.path()), Arc::new(SystemClock)).await.unwrap();
    let egress =
        Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })
            .unwrap();
    let gateway = Gateway::new(config, store.clone(), &egress, Arc::new(SystemClock)).unwrap();
    House { _folder: folder, gateway, store }
}

fn call() -> Call {
    let (agent, tier) = (AgentId::new("support").unwrap(), TierId::new("fast").unwrap());
    let prompts = vec![
        Prompt::text(Role::User, "Hello, I have a question about the capital of a country in Europe."),
        Prompt::text(Role::Assistant, "Ask."),
        Prompt::text(Role::User, "What is the capital of the UK?"),
    ];
    Call {
        system: Some("Be brief.".into()),
        temperature: Some(0.5),
        ..Call::new(TenantId::default_tenant(), agent, "u1", tier, prompts)
    }
}

/// What one model can cost at most for [`call`].
fn bound() -> Money {
    PRICE.worst_case(call().input_bound(), Tokens(200))
}

impl House {
    async fn ask(&self) -> Result<Completed, Error> {
        self.gateway.complete(call()).await?.whole().await
    }
}

fn classes(attempts: &[chela_types::Attempt]) -> Vec<(&str, &str)> {
    attempts.iter().map(|attempt| (attempt.model.as_str(), attempt.class.as_str())).collect()
}

#[tokio::test]
async fn openai_is_asked_and_read() {
    let (url, seen) = provider(|| sse(OPENAI)).await;
    let completed = house(vec![openai(url)]).await.ask().await.unwrap();
    assert_eq!(
        (completed.text.as_str(), completed.finish),
        ("The capital of the UK is London.", Finish::Stop)
    );
    assert_eq!(completed.call.usage, Usage { input: Tokens(78), output: Tokens(9), ..Usage::default() });
    assert_eq!(completed.call.cost, Money::from_nanos(78 * 1000 + 9 * 2000));
    let (headers, body) = &seen.lock().unwrap()[0];
    assert_eq!(headers["authorization"], "Bearer sk-hunter2");
    assert_eq!(
        (&body["model"], &body["stream"], &body["max_tokens"]),
        (&"m".into(), &true.into(), &200.into())
    );
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!(body["messages"][0]["role"], "system");
    assert_eq!(body["messages"][3]["content"], "What is the capital of the UK?");
    assert_eq!(body["temperature"], 0.5);
}

#[tokio::test]
async fn anthropic_is_asked_and_read() {
    let (url, seen) = provider(|| sse(ANTHROPIC)).await;
    let completed = house(vec![anthropic(url)]).await.ask().await.unwrap();
    assert_eq!((completed.text.as_str(), completed.finish), ("Hello there!", Finish::Stop));
    assert_eq!(completed.call.usage, Usage { input: Tokens(11), output: Tokens(6), ..Usage::default() });
    let (headers, body) = &seen.lock().unwrap()[0];
    assert_eq!(
        (&headers["x-api-key"], &headers["anthropic-version"]),
        (&"sk-hunter2".parse().unwrap(), &"2023-06-01".parse().unwrap())
    );
    assert_eq!((&body["system"], &body["max_tokens"]), (&"Be brief.".into(), &200.into()));
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn responses_are_asked_and_read() {
    let body: String = RESPONSES.lines().map(|line| format!("data: {line}\n\n")).collect();
    let (url, seen) = provider(move || sse(body.clone())).await;
    let kind = ProviderKind::OpenAi { url, key: Some("sk-hunter2".into()), wire: OpenAiWire::Responses };
    let tool = |name: &str| Tool {
        name: name.into(),
        description: None,
        parameters: serde_json::json!({"type": "object"}).into(),
        strict: None,
    };
    let call = Call { tools: vec![tool("weather"), tool("clock")], ..call() };
    let completed = house(vec![kind]).await.gateway.complete(call).await.unwrap().whole().await.unwrap();
    assert_eq!((completed.text.as_str(), completed.finish), ("I look.", Finish::ToolCalls));
    let names: Vec<&str> = completed.calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["weather", "clock"]);
    let (headers, body) = &seen.lock().unwrap()[0];
    assert_eq!(headers["authorization"], "Bearer sk-hunter2");
    assert_eq!((&body["max_output_tokens"], &body["instructions"]), (&200.into(), &"Be brief.".into()));
}

#[tokio::test]
async fn azure_is_asked_for_its_deployment() {
    let (mut url, seen) = provider(|| sse(OPENAI)).await;
    url.set_path("/azure");
    let (key, api_version) = (Some("sk-hunter2".into()), Some("2024-10-21".to_owned()));
    let kind = ProviderKind::Azure { url, key, wire: OpenAiWire::Chat, api_version };
    let completed = house(vec![kind]).await.ask().await.unwrap();
    assert_eq!(completed.finish, Finish::Stop);
    let (headers, body) = &seen.lock().unwrap()[0];
    assert_eq!((&headers["api-key"], headers.get("authorization")), (&"sk-hunter2".parse().unwrap(), None));
    assert_eq!(body["max_completion_tokens"], 200);
}

/// What is wrong in itself is asked of nobody, and costs nothing.
#[tokio::test]
async fn a_call_that_cannot_be_sent_is_refused() {
    let (url, seen) = provider(|| sse(OPENAI)).await;
    let house = house(vec![openai(url)]).await;
    let call = Call { tool_choice: ToolChoice::Required, ..call() };
    let error = house.gateway.complete(call).await.unwrap_err();
    assert_eq!((error.kind.class(), error.retry()), ("invalid", Retry::Never));
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(house.store.ledger(10).await.unwrap().settled, Money::ZERO);
}

#[tokio::test]
async fn the_next_provider_takes_over_until_the_first_text() {
    let overloaded = "event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n";
    let before_text = OPENAI.find("{\"content\":\"The\"").unwrap();
    let never = || sse(Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()));
    type Answer = Box<dyn Fn() -> Response + Send + Sync>;
    let cases: Vec<(Answer, &str)> = vec![
        (Box::new(|| StatusCode::SERVICE_UNAVAILABLE.into_response()), "unavailable"),
        (Box::new(|| StatusCode::UNAUTHORIZED.into_response()), "auth"),
        (Box::new(move || sse(overloaded)), "unavailable"),
        (Box::new(move || cut(OPENAI, before_text)), "unavailable"),
        (Box::new(move || sse(&OPENAI[..before_text])), "bad_response"),
        (Box::new(|| sse("data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n")), "bad_response"),
        (Box::new(|| sse("<html>not a model</html>\n\ndata: <html>\n\n")), "bad_response"),
        (Box::new(never), "too_slow"),
    ];
    for (answer, class) in cases {
        let answer = Arc::new(answer);
        let (first, _) = provider(move || answer()).await;
        let (second, _) = provider(|| sse(ANTHROPIC)).await;
        let completed = house(vec![openai(first), anthropic(second)]).await.ask().await.unwrap();
        assert_eq!(completed.text, "Hello there!");
        assert_eq!(classes(&completed.call.attempts), [("p0/m", class), ("p1/m", "ok")]);
        assert_eq!(completed.call.model.as_deref(), Some("p1/m"));
    }
}

#[tokio::test]
async fn after_the_first_text_a_break_is_told() {
    let in_text = OPENAI.find("London").unwrap();
    let (first, _) = provider(move || cut(OPENAI, in_text)).await;
    let (second, seen) = provider(|| sse(ANTHROPIC)).await;
    let house = house(vec![openai(first), anthropic(second)]).await;
    let answer = house.gateway.complete(call()).await.unwrap();
    let chunks: Vec<_> = answer.chunks.collect().await;
    let (last, texts) = chunks.split_last().unwrap();
    let text: String = texts
        .iter()
        .map(|chunk| match chunk {
            Ok(Chunk::Text(text)) => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(text, "The capital of the UK is");
    let error = last.as_ref().unwrap_err();
    assert_eq!((&error.kind, error.retry()), (&Kind::Interrupted, Retry::Later(Duration::ZERO)));
    assert_eq!(error.call.as_ref().unwrap().cost, bound(), "the second was not asked");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_and_is_obeyed() {
    let limited = || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "30")], "{}").into_response();
    let (url, seen) = provider(limited).await;
    let house = house(vec![openai(url)]).await;
    for _ in 0..3 {
        let error = house.ask().await.unwrap_err();
        let Retry::Later(wait) = error.retry() else { panic!("{error:?}") };
        assert!(Duration::from_secs(20) < wait && wait <= Duration::from_secs(30), "{wait:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_says_when_to_come_back_and_is_obeyed() {
    let down = || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "30")], "{}").into_response();
    let (url, seen) = provider(down).await;
    let house = house(vec![openai(url)]).await;
    for _ in 0..3 {
        let Retry::Later(wait) = house.ask().await.unwrap_err().retry() else { panic!("never") };
        assert!(Duration::from_secs(20) < wait && wait <= Duration::from_secs(30), "{wait:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// A server that keeps the connection once held the answer back until the idle time was over.
#[tokio::test]
async fn an_answer_ends_at_its_mark_though_the_connection_stays() {
    for (kind, text) in [(openai as fn(Url) -> ProviderKind, OPENAI), (anthropic, ANTHROPIC)] {
        let whole =
            move || futures::stream::iter([text, "\n\n"].map(|part| Ok::<_, std::io::Error>(part.into())));
        let open = move || Body::from_stream(whole().chain(futures::stream::pending::<Result<Bytes, _>>()));
        let (url, _) = provider(move || sse(open())).await;
        let house = house(vec![kind(url)]).await;
        let completed = tokio::time::timeout(Duration::from_secs(10), house.ask()).await.unwrap().unwrap();
        assert!(completed.call.cost < bound(), "its count came before the mark");
    }
}

#[tokio::test]
async fn a_count_that_is_none_is_charged_at_the_bound() {
    let body = OPENAI.replace("\"completion_tokens\":9", "\"completion_tokens\":-1");
    assert_ne!(body, OPENAI);
    let (url, _) = provider(move || sse(body.clone())).await;
    assert_eq!(house(vec![openai(url)]).await.ask().await.unwrap().call.cost, bound());
}

#[tokio::test]
async fn a_refusal_by_somebody_who_may_bill_it_is_charged() {
    for (code, class) in [("content_filter", "refused"), ("context_length_exceeded", "too_long")] {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        let (url, _) = provider(move || (StatusCode::BAD_REQUEST, body.clone()).into_response()).await;
        let error = house(vec![openai(url)]).await.ask().await.unwrap_err();
        assert_eq!((error.kind.class(), error.call.unwrap().cost), (class, bound()));
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_asked_of_nobody_else() {
    let (first, _) = provider(|| sse(REFUSAL)).await;
    let (second, seen) = provider(|| sse(OPENAI)).await;
    let error = house(vec![anthropic(first), openai(second)]).await.ask().await.unwrap_err();
    assert_eq!((&error.kind, error.retry()), (&Kind::Refused, Retry::Never));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_provider_that_is_not_there_costs_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let house = house(vec![openai(url)]).await;
    let error = house.ask().await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable { code: "connect".into(), retry_after: Duration::ZERO });
    assert_eq!(error.call.as_ref().unwrap().cost, Money::ZERO);
    assert!(!format!("{error:?}").contains("hunter2"));
    let ledger = house.store.ledger(10).await.unwrap();
    assert_eq!(ledger.settled, Money::ZERO);
}

#[tokio::test]
async fn an_error_tells_the_code_and_not_the_words() {
    let body = r#"{"error":{"message":"You sent: my secret diary","type":"invalid_request_error","code":"bad_thing"}}"#;
    let (url, _) = provider(move || (StatusCode::BAD_REQUEST, body).into_response()).await;
    let error = house(vec![openai(url)]).await.ask().await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid { code: "bad_thing invalid_request_error".into() });
    assert!(!format!("{error:?} {error}").contains("diary"));
}
