//! A model provider that speaks OpenAI's chat completions and sends a bill.
//!
//! Its log is the provider's side of the ledger: a call is billed as soon as the tokens are made, whether or
//! not anyone still listens. Answers are deterministic, so that a test can foretell them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::post};
use bytes::Bytes;
use chela_types::{Clock, Millis, Money, Price, Tokens, Usage};
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::socket::{Scissors, Server, serve};
use super::{Error, Fault, Faults, Log, bearer, is_json, refused};

/// Words of the question that the answer repeats.
const ECHO_WORDS_MAX: usize = 40;
/// Words of the answer that go into one event.
const CHUNK_WORDS: usize = 4;

/// What the stand-in is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Loopback address; port 0: any.
    pub listen: SocketAddr,
    /// The key that it wants.
    pub key: String,
    /// What it charges, for every model.
    pub price: Price,
    /// Time before the first token.
    pub first_token: Duration,
    /// Time between the events of a stream.
    pub between: Duration,
    /// Where each billed call is appended as a line of JSON.
    pub log: Option<PathBuf>,
}

impl Settings {
    /// A fast provider with this key and price.
    pub fn new(key: &str, price: Price) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            key: key.to_owned(),
            price,
            first_token: Duration::ZERO,
            between: Duration::ZERO,
            log: None,
        }
    }
}

/// One line of the bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Billed {
    /// When.
    pub at: Millis,
    /// The first word of the last prompt that starts with `#`: how a test knows its call again.
    pub marker: Option<String>,
    /// The model asked for.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
    /// What it costs.
    pub cost: Money,
    /// Sent as events.
    pub is_streamed: bool,
}

/// The stand-in. Dropping it closes its port.
#[derive(Debug)]
pub struct Provider {
    office: Arc<Office>,
    server: Server,
}

#[derive(Debug)]
struct Office {
    settings: Settings,
    clock: Arc<dyn Clock>,
    bills: Log<Billed>,
    faults: Faults,
}

impl Provider {
    /// Opens the provider's port.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::LogFile`].
    pub async fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let listen = settings.listen;
        let bills = Log::open(settings.log.as_deref())?;
        let office = Arc::new(Office { settings, clock, bills, faults: Faults::default() });
        let router =
            Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&office));
        Ok(Self { server: serve(listen, router).await?, office })
    }

    /// The base address, as providers are configured: with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.server.address)
    }

    /// Every billed call, in order.
    pub fn bills(&self) -> &Log<Billed> {
        &self.office.bills
    }

    /// The whole bill.
    pub fn total(&self) -> Money {
        self.office.bills.all().iter().map(|billed| billed.cost).sum()
    }

    /// Misbehaviours of the next calls.
    pub fn faults(&self) -> &Faults {
        &self.office.faults
    }
}

/// The fields of a request that matter here.
#[derive(Debug, Deserialize)]
struct Asked {
    model: String,
    messages: Vec<Prompt>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct Prompt {
    role: String,
    content: String,
}

/// An answer, made and billed, not yet sent.
struct Made {
    id: String,
    model: String,
    words: Vec<String>,
    finish: &'static str,
    usage: Usage,
    has_usage: bool,
}

impl Made {
    fn usage(&self) -> Value {
        let Usage { input, cached, output, .. } = self.usage;
        json!({
            "prompt_tokens": input.0, "completion_tokens": output.0, "total_tokens": input.0 + output.0,
            "prompt_tokens_details": { "cached_tokens": cached.0 },
        })
    }

    fn whole(&self) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": 0, "model": self.model,
            "choices": [{
                "index": 0, "finish_reason": self.finish,
                "message": { "role": "assistant", "content": self.words.concat() },
            }],
            "usage": self.usage(),
        })
    }

    fn event(&self, delta: &Value, finish: Option<&str>) -> String {
        let event = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": 0, "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        format!("data: {event}\n\n")
    }

    fn events(&self) -> Vec<String> {
        let mut events = vec![self.event(&json!({ "role": "assistant", "content": "" }), None)];
        events.extend(
            self.words.chunks(CHUNK_WORDS).map(|w| self.event(&json!({ "content": w.concat() }), None)),
        );
        events.push(self.event(&json!({}), Some(self.finish)));
        if self.has_usage {
            let usage = json!({
                "id": self.id, "object": "chat.completion.chunk", "created": 0, "model": self.model,
                "choices": [], "usage": self.usage(),
            });
            events.push(format!("data: {usage}\n\n"));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }
}

impl Office {
    /// Makes the answer and writes the bill.
    fn make(&self, asked: Asked) -> Made {
        let question = asked.messages.iter().rfind(|prompt| prompt.role == "user").map_or("", |p| &p.content);
        let most = asked.max_completion_tokens.or(asked.max_tokens).unwrap_or(u64::MAX);
        let mut words: Vec<String> = std::iter::once("You said: ".to_owned())
            .chain(question.split_whitespace().take(ECHO_WORDS_MAX).map(|word| format!("{word} ")))
            .collect();
        let finish = if words.len() as u64 > most { "length" } else { "stop" };
        words.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        let read: usize = asked.messages.iter().map(|p| p.content.split_whitespace().count() + 4).sum();
        let usage =
            Usage { input: Tokens(read as u64), output: Tokens(words.len() as u64), ..Usage::default() };
        let marker = question.split_whitespace().find(|word| word.starts_with('#')).map(str::to_owned);
        self.bills.push(Billed {
            at: self.clock.now(),
            marker,
            model: asked.model.clone(),
            usage,
            cost: self.settings.price.cost(&usage),
            is_streamed: asked.stream,
        });
        let id = format!("chatcmpl-{}", self.bills.len());
        Made { id, model: asked.model, words, finish, usage, has_usage: asked.stream_options.include_usage }
    }
}

async fn complete(
    State(office): State<Arc<Office>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fault = office.faults.meet().await;
    if let Some(response) = refused(fault.as_ref()) {
        return response;
    }
    if bearer(&headers) != office.settings.key {
        return failure(StatusCode::UNAUTHORIZED, "invalid_api_key", "incorrect key");
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) if is_json(&headers) => asked,
        _ => return failure(StatusCode::BAD_REQUEST, "invalid_request_error", "not a chat completion"),
    };
    if let Some(Fault::Refusal(code)) = &fault {
        return failure(StatusCode::BAD_REQUEST, code, "refused");
    }
    let is_streamed = asked.stream;
    let made = office.make(asked);
    pause(office.settings.first_token).await;
    match (fault, is_streamed) {
        (Some(Fault::Drop), _) | (Some(Fault::Cut), false) => scissors.cut(),
        (fault, true) => return stream(&made, office.settings.between, fault == Some(Fault::Cut)),
        (_, false) => {}
    }
    Json(made.whole()).into_response()
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "type": code, "code": code, "message": message } }))).into_response()
}

/// What was said before a cut gets out in this time.
const BEFORE_CUT: Duration = Duration::from_millis(50);

/// The answer as events; a cut one is only its first half, and then an error, which closes the connection.
fn stream(made: &Made, between: Duration, is_cut: bool) -> Response {
    let mut events: Vec<io::Result<String>> = made.events().into_iter().map(Ok).collect();
    if is_cut {
        events.truncate(events.len() / 2);
        events.push(Err(io::ErrorKind::ConnectionAborted.into()));
    }
    let body = Body::from_stream(paced(events, between));
    ([("content-type", "text/event-stream")], body).into_response()
}

fn paced(events: Vec<io::Result<String>>, between: Duration) -> impl Stream<Item = io::Result<String>> {
    async_stream::stream! {
        for event in events {
            pause(if event.is_err() { BEFORE_CUT.max(between) } else { between }).await;
            yield event;
        }
    }
}

/// A sleep of zero is a whole tick of the runtime's clock; this one is nothing.
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
