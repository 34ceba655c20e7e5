//! The front for existing clients: what speaks OpenAI's chat completions or Anthropic's messages speaks to this host, with
//! a key of the configuration.
//!
//! A tier's name as `model` is a call of the gateway; an agent's is a message to it; `embedding` makes vectors
//! (`vectors.rs`). What is served is the other side of the formats in which the gateway asks: a request is read strictly
//! (`fields.rs`), an answer is told as its vendor tells it, and one that breaks off is never told as one that ended.

mod agent;
mod anthropic;
mod asked;
mod client;
mod fields;
mod list;
mod openai;
mod pace;
mod refusal;
mod said;
#[cfg(test)]
mod tests;
mod vectors;
mod written;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use chela_gateway::{Gateway, Kind};
use chela_types::{CacheVerdict, IdError, Money};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use asked::{Asked, Model};
use client::Client;
use fields::Wrong;
use pace::at_its_pace;
use refusal::Refusal;
use said::{Counted, Envelope, Saying, Tell, Told};

use crate::doors::{Doors, Error};

pub use client::Clients;

/// How often a silent stream says that it is still there: proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream waits for its first piece before it begins: until then a failure has a status of its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where Anthropic's format alone is spoken.
const MESSAGES: &str = "/v1/messages";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same as Anthropic's clients read it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const COST: HeaderName = HeaderName::from_static("x-chela-cost");
const MODEL: HeaderName = HeaderName::from_static("x-chela-model");
const CACHE: HeaderName = HeaderName::from_static("x-chela-cache");
/// Asks proxies not to hold a stream back until it is long enough.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Which format a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    OpenAi,
    Anthropic,
}

impl Wire {
    const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// Where both formats have the same address, Anthropic's clients say which version they speak.
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key("anthropic-version") { Self::Anthropic } else { Self::OpenAi }
    }

    fn read(self, body: &Value) -> Result<Asked, Wrong> {
        match self {
            Self::OpenAi => openai::read(body),
            Self::Anthropic => anthropic::read(body),
        }
    }

    fn whole(self, envelope: &Envelope, ended: &said::Ended) -> String {
        match self {
            Self::OpenAi => openai::whole(envelope, ended),
            Self::Anthropic => anthropic::whole(envelope, ended),
        }
    }

    fn teller(self, envelope: Envelope) -> Box<dyn Tell> {
        match self {
            Self::OpenAi => Box::new(openai::Teller::new(envelope)),
            Self::Anthropic => Box::new(anthropic::Teller::new(envelope)),
        }
    }

    /// What a silent stream says: a comment, or Anthropic's own event.
    fn alive(self) -> KeepAlive {
        let alive = KeepAlive::new().interval(KEEP_ALIVE);
        match self {
            Self::OpenAi => alive.text("keep-alive"),
            Self::Anthropic => alive.event(Event::default().event("ping").data(r#"{"type":"ping"}"#)),
        }
    }
}

/// What is served below `/v1`, where the configuration has keys.
pub(crate) fn routes() -> Router<Arc<Doors>> {
    let chat = async |doors, request| served(doors, Wire::OpenAi, request, answer).await;
    let messages = async |doors, request| served(doors, Wire::Anthropic, request, answer).await;
    let embeddings = async |doors, request| served(doors, Wire::OpenAi, request, vectors::make).await;
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route(MESSAGES, post(messages))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(async |doors, request| models(doors, None, request).await))
        .route(
            "/v1/models/{id}",
            get(async |doors, Path(id): Path<String>, request| models(doors, Some(id), request).await),
        )
        .method_not_allowed_fallback(other_method)
}

/// Another method than an address has, refused in the format that the address speaks.
async fn other_method(doors: State<Arc<Doors>>, request: Request) -> Response {
    let is_messages = request.uri().path() == MESSAGES;
    let wire = if is_messages { Wire::Anthropic } else { Wire::of(request.headers()) };
    served(doors, wire, request, async |_| Err(Error::Method.into())).await
}

/// One request, by whom it is known who he is.
struct Asking {
    doors: Arc<Doors>,
    client: Arc<Client>,
    wire: Wire,
    /// As it stands in the answer's headers.
    id: String,
    /// No kept answer will do.
    is_fresh: bool,
    body: Value,
    /// The same as it was written.
    text: Bytes,
    seat: OwnedSemaphorePermit,
}

/// Lets nobody through without a key; refuses in the client's own format, and marks what it gets.
async fn served(
    State(doors): State<Arc<Doors>>,
    wire: Wire,
    request: Request,
    work: impl AsyncFnOnce(Asking) -> Result<Response, Refusal>,
) -> Response {
    if doors.clients.is_empty() {
        return Error::NotFound.into_response();
    }
    let id = format!("req_{}", Uuid::now_v7().simple());
    let response = match asking(doors, wire, &id, request).await {
        Ok(asking) => work(asking).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = response.unwrap_or_else(|refusal| refusal.response(wire, &id));
    let status = response.status().as_u16().to_string();
    metrics::counter!("api_requests_total", "format" => wire.as_str(), "status" => status).increment(1);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for name in [REQUEST_ID, ANTHROPIC_REQUEST_ID] {
        mark(headers, name, &id);
    }
    response
}

fn mark(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

async fn asking(doors: Arc<Doors>, wire: Wire, id: &str, request: Request) -> Result<Asking, Refusal> {
    let gate = doors.seat(&request)?;
    let client = doors.clients.whose(request.headers())?;
    if doors.stop.is_cancelled() {
        return Err(Error::Draining.into());
    }
    let seat = client.seat()?;
    let is_fresh = is_fresh(request.headers());
    let text = doors.body(request).await?;
    // From here on the client's own share of the host bounds it.
    drop(gate);
    let body = match text.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&text).map_err(|_| Refusal::Json)?,
    };
    Ok(Asking { doors, client, wire, id: id.to_owned(), is_fresh, body, text, seat })
}

/// Chat completions and messages.
async fn answer(asking: Asking) -> Result<Response, Refusal> {
    let asked = asking.wire.read(&asking.body)?.in_their_order(&asking.text).map_err(|_| Refusal::Json)?;
    let asked = Asked { is_fresh: asking.is_fresh, ..asked };
    let model = asking.client.model(&asked.model).ok_or_else(|| Refusal::Model(asked.model.clone()))?;
    let envelope = Envelope {
        id: asking.id.trim_start_matches("req_").to_owned(),
        created: asking.doors.clock.now().0 / 1_000,
        model: asked.model.clone(),
        include_usage: asked.include_usage,
    };
    let is_stream = asked.stream;
    let Asking { doors, client, wire, id, seat, .. } = asking;
    let begun = begin(doors, client, model, asked);
    match is_stream {
        true => streamed(wire, id, begun, (envelope, seat)).await,
        false => {
            let ended = said::whole(begun.await?.saying).await?;
            let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            let mut response = (json, wire.whole(&envelope, &ended)).into_response();
            if let Some(counted) = &ended.counted {
                tell_apart(response.headers_mut(), counted);
            }
            drop(seat);
            Ok(response)
        }
    }
}

/// Whether no kept answer will do, in HTTP's own word for it.
fn is_fresh(headers: &HeaderMap) -> bool {
    let said = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|word| matches!(word.trim(), "no-cache" | "no-store"))
}

/// What this host knows of an answer, and its format has no place for.
fn tell_apart(headers: &mut HeaderMap, counted: &Counted) {
    let verdict = match counted.cache {
        CacheVerdict::Hit => "hit",
        CacheVerdict::Canonical => "canonical",
        CacheVerdict::Similar => "similar",
        CacheVerdict::Miss => "miss",
        CacheVerdict::Joined => "joined",
        CacheVerdict::Off => "off",
    };
    mark(headers, COST, &dollars(counted.cost));
    mark(headers, CACHE, verdict);
    if let Some(model) = &counted.model {
        mark(headers, MODEL, model);
    }
}

/// `0.000012300`: all digits that are counted.
fn dollars(cost: Money) -> String {
    let nanos = cost.nanos().max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// An answer that has begun.
struct Begun {
    /// Who gives it, as `provider/model`, where that is known.
    model: Option<String>,
    saying: Saying,
}

/// Asks a tier or an agent. Ready when something is said, or the message is kept.
fn begin(
    doors: Arc<Doors>,
    client: Arc<Client>,
    model: Model,
    asked: Asked,
) -> BoxFuture<'static, Result<Begun, Refusal>> {
    async move {
        match model {
            Model::Agent(agent) => {
                let saying = agent::ask(&doors, &client, &agent, &asked).await?;
                Ok(Begun { model: None, saying })
            }
            Model::Tier(tier) => {
                let call = client.call(&doors.tenant, tier, asked);
                let call = call.map_err(|error: IdError| Kind::Config(error.to_string()));
                let gateway: Gateway = doors.engine.gateway();
                let answer = gateway.complete(call.map_err(Refusal::Gateway)?).await?;
                Ok(Begun { model: answer.begun.model.clone(), saying: said::of_model(answer) })
            }
        }
    }
    .boxed()
}

/// Tells an answer as it comes. What fails before anything was told has its status; later it is an event.
async fn streamed(
    wire: Wire,
    id: String,
    mut begun: BoxFuture<'static, Result<Begun, Refusal>>,
    (envelope, seat): (Envelope, OwnedSemaphorePermit),
) -> Result<Response, Refusal> {
    let (model, saying) = match tokio::time::timeout(PATIENCE, &mut begun).await {
        Ok(begun) => {
            let Begun { model, saying } = begun?;
            (model, saying)
        }
        Err(_) => (None, later(begun)),
    };
    let events = at_its_pace(events(wire.teller(envelope), id, saying)).map(move |told| {
        // The seat is taken until the stream is dropped.
        let _seat = &seat;
        let event = told.event.map_or_else(Event::default, |name| Event::default().event(name));
        Ok::<_, Infallible>(event.data(told.data))
    });
    let mut response = Sse::new(events).keep_alive(wire.alive()).into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    if let Some(model) = model {
        mark(response.headers_mut(), MODEL, &model);
    }
    Ok(response)
}

/// An answer that has not begun yet.
fn later(begun: BoxFuture<'static, Result<Begun, Refusal>>) -> Saying {
    let saying = begun.map(|begun| match begun {
        Ok(begun) => begun.saying,
        Err(refusal) => futures::stream::iter([Err(refusal)]).boxed(),
    });
    saying.flatten_stream().boxed()
}

/// The events of one answer: to its end, or to the failure that is told in place of it.
fn events(mut teller: Box<dyn Tell>, id: String, mut saying: Saying) -> impl Stream<Item = Told> {
    async_stream::stream! {
        for told in teller.begin() {
            yield told;
        }
        loop {
            let said = saying.next().await.unwrap_or(Err(Refusal::Gateway(Kind::Interrupted)));
            let is_end = matches!(said, Ok(said::Said::End(_)));
            match said.and_then(|said| teller.say(said)) {
                Ok(all) => {
                    for told in all {
                        yield told;
                    }
                    if is_end {
                        return;
                    }
                }
                Err(refusal) => {
                    refusal.log(&id);
                    for told in teller.fail(&refusal, &id) {
                        yield told;
                    }
                    return;
                }
            }
        }
    }
}

async fn models(doors: State<Arc<Doors>>, id: Option<String>, request: Request) -> Response {
    let wire = Wire::of(request.headers());
    let listed = async move |asking: Asking| {
        let (client, since) = (&asking.client, asking.doors.since.0 / 1_000);
        let listed = match &id {
            None => list::all(client, wire, since),
            Some(id) => list::one(client, wire, (id, since))?,
        };
        Ok(Json(listed).into_response())
    };
    served(doors, wire, request, listed).await
}
