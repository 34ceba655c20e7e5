//! The operator's routes: the same over TCP with a token, and over the Unix socket in the data folder, where
//! being able to open the file is proof enough.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use chela_engine::{ChannelHealth, Draft, Engine, Loaded, Webhook, session_events_key};
use chela_store::Store;
use chela_types::{AgentId, ChannelId, Clock, Digest, Millis, TenantId, TurnId};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::compose::terminal_channel;
use crate::turn::{LIST_USUAL, Turn};

/// Events in one answer to a terminal.
const EVENTS_MAX: usize = 100;
/// Longest wait for a terminal's next event; a command line waits a minute in all.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// Longest wait for what the metrics tell of the store.
const GAUGE_WAIT: Duration = Duration::from_secs(1);
/// Largest body of an admin request.
const BODY_BYTES_MAX: usize = 256 << 10;

/// What operators are served.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What runs.
    pub engine: Engine,
    /// What is kept.
    pub store: Store,
    /// The organisation.
    pub tenant: TenantId,
    /// Metrics; absent where another program has its own.
    pub metrics: Option<PrometheusHandle>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Digest of the configuration that runs.
    pub configuration: Digest,
    /// When the host was ready.
    pub started: Millis,
    /// Cancelled as soon as the host begins to stop.
    pub stop: CancellationToken,
}

impl Admin {
    /// The routes; with a token, none of them without it.
    pub fn router(self, token: Option<SecretString>) -> Router {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/plugins", get(plugins))
            .route("/turns", get(turns))
            .route("/turns/{id}", get(turn))
            .route("/chat/{agent}", post(say).get(hear))
            .fallback(async || Error::NotFound)
            .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::new(self));
        match token {
            Some(token) => router.layer(from_fn_with_state(Arc::new(token), authorized)),
            None => router,
        }
    }
}

async fn authorized(State(token): State<Arc<SecretString>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    match bool::from(given.as_bytes().ct_eq(token.expose_secret().as_bytes())) {
        true => next.run(request).await,
        false => Error::Unauthorized.into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Result<Response, Error> {
    let metrics = admin.metrics.as_ref().ok_or(Error::NotFound)?;
    // A store in trouble must not hide the metrics that say so.
    let gauged = tokio::time::timeout(GAUGE_WAIT, admin.gauge()).await;
    if let Ok(Err(error)) = &gauged {
        tracing::warn!(%error, "the store cannot be read for the metrics");
    }
    metrics::gauge!("store_readable").set(if matches!(gauged, Ok(Ok(()))) { 1.0 } else { 0.0 });
    metrics.run_upkeep();
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response())
}

impl Admin {
    /// How things stand, read from the store at this moment: a crash forgets no ambiguous send.
    async fn gauge(&self) -> Result<(), chela_store::Error> {
        let now = self.clock.now();
        let standing = self.store.standing().await?;
        let age = standing.oldest_waiting.map_or(Duration::ZERO, |at| now.since(at));
        metrics::gauge!("turns_waiting").set(standing.waiting as f64);
        metrics::gauge!("turns_working").set(standing.leased as f64);
        metrics::gauge!("turns_answered").set(standing.answered as f64);
        metrics::gauge!("oldest_turn_seconds").set(age.as_secs_f64());
        metrics::gauge!("ambiguous_sends").set(standing.ambiguous as f64);
        Ok(())
    }
}

/// How the host is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// The first 12 hex digits of the configuration's digest: two instances of one installation show the same. The
    /// store does not know it.
    pub configuration: Option<String>,
    /// `ready`, `draining`, or `stopped` if only the store was read.
    pub state: String,
    /// Since it was ready, in seconds.
    pub up_s: Option<u64>,
    /// Open turns that nobody holds.
    pub waiting: u64,
    /// Conversations that are being worked on.
    pub working: u64,
    /// Open turns with an answer on its way.
    pub answered: u64,
    /// Turns that ended well.
    pub delivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Answers that could not be delivered.
    pub undelivered: u64,
    /// Sends that may or may not have arrived.
    pub ambiguous: u64,
    /// Age of the oldest open turn, in milliseconds.
    pub oldest_waiting_ms: Option<u64>,
    /// Channels with their adapters and the ids under which they post.
    pub channels: Vec<(String, String, Vec<String>)>,
    /// Agents with their descriptions.
    pub agents: Vec<(String, String)>,
}

impl Status {
    /// What the store tells.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of_store(store: &Store, now: Millis) -> Result<Self, chela_store::Error> {
        let counts = store.counts().await?;
        let age = |at: Millis| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: None,
            state: "stopped".to_owned(),
            up_s: None,
            waiting: counts.waiting,
            working: counts.leased,
            answered: counts.answered,
            delivered: counts.delivered,
            dead: counts.dead,
            undelivered: counts.undelivered,
            ambiguous: counts.ambiguous,
            oldest_waiting_ms: counts.oldest_waiting.map(age),
            channels: Vec::new(),
            agents: Vec::new(),
        })
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Result<Json<Status>, Error> {
    let now = admin.clock.now();
    let channel = |ChannelHealth { channel, plugin, own_ids }: ChannelHealth| (channel, plugin, own_ids);
    let agent = |(name, description): (AgentId, String)| (name.to_string(), description);
    Ok(Json(Status {
        state: if admin.stop.is_cancelled() { "draining" } else { "ready" }.to_owned(),
        configuration: Some(admin.configuration.short()),
        up_s: Some(now.since(admin.started).as_secs()),
        channels: admin.engine.channel_health().into_iter().map(channel).collect(),
        agents: admin.engine.agents().into_iter().map(agent).collect(),
        ..Status::of_store(&admin.store, now).await?
    }))
}

async fn plugins(State(admin): State<Arc<Admin>>) -> Json<Vec<Loaded>> {
    Json(admin.engine.loaded().to_vec())
}

#[derive(Debug, Deserialize)]
struct Newest {
    #[serde(default = "Newest::usual")]
    limit: usize,
}

impl Newest {
    fn usual() -> usize {
        LIST_USUAL
    }
}

async fn turns(
    State(admin): State<Arc<Admin>>,
    Query(newest): Query<Newest>,
) -> Result<Json<Vec<Turn>>, Error> {
    Ok(Json(Turn::newest(&admin.store, newest.limit).await?))
}

#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(default)]
    content: bool,
}

async fn turn(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Query(shown): Query<Shown>,
) -> Result<Json<Turn>, Error> {
    let id: TurnId = id.parse().map_err(|_| Error::Invalid(format!("`{id}` is not the id of a turn")))?;
    let record = admin.store.turn_record(id).await?.ok_or(Error::NotFound)?;
    Ok(Json(Turn::new(record, shown.content)))
}

/// What a terminal says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Said {
    /// The conversation, by a name of the terminal's own.
    pub session: String,
    /// The message's own id: saying it twice is saying it once.
    pub id: String,
    /// The words.
    pub text: String,
}

/// What a terminal asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listening {
    /// The conversation.
    pub session: String,
    /// The last event's number that it has.
    #[serde(default)]
    pub after: u64,
    /// Milliseconds that it will wait for one.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What a terminal hears: kept events with their numbers, as the web chat's page gets them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Number and event.
    pub events: Vec<(u64, serde_json::Value)>,
}

impl Admin {
    fn terminal(&self, agent: &str, session: &str) -> Result<(ChannelId, String), Error> {
        let known = self.engine.agents().into_iter().find(|(name, _)| name.as_str() == agent);
        let (agent, _) = known.ok_or_else(|| Error::Invalid(format!("no agent is called `{agent}`")))?;
        let channel = terminal_channel(&agent).ok_or_else(|| {
            Error::Invalid(format!("`{agent}` is too long a name for a terminal's channel"))
        })?;
        let is_name =
            !session.is_empty() && session.len() <= 64 && session.bytes().all(|b| b.is_ascii_alphanumeric());
        match is_name {
            true => Ok((channel, session.to_owned())),
            false => Err(Error::Invalid("a session is 1 to 64 letters and digits".to_owned())),
        }
    }
}

/// The operator speaks to an agent, on the way that every message goes.
async fn say(
    State(admin): State<Arc<Admin>>,
    Path(agent): Path<String>,
    Json(said): Json<Said>,
) -> Result<Json<serde_json::Value>, Error> {
    let (channel, session) = admin.terminal(&agent, &said.session)?;
    let body = serde_json::json!({ "id": said.id, "text": said.text });
    let webhook = Webhook {
        method: "POST".to_owned(),
        path: "/messages".to_owned(),
        query: String::new(),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("chela-session".to_owned(), session.clone()),
        ],
        body: Bytes::from(body.to_string()),
        session: Some(admin.engine.session_token(&channel, &session)),
    };
    admin.engine.receive(channel.as_str(), webhook).await?;
    Ok(Json(serde_json::json!({ "taken": said.id })))
}

async fn hear(
    State(admin): State<Arc<Admin>>,
    Path(agent): Path<String>,
    Query(listening): Query<Listening>,
) -> Result<Json<Heard>, Error> {
    let (channel, session) = admin.terminal(&agent, &listening.session)?;
    let mut news = admin.engine.listen(&channel, &session);
    let key = session_events_key(&channel, &session);
    let wait = Duration::from_millis(listening.wait_ms).min(WAIT_MAX);
    let end = tokio::time::Instant::now() + wait;
    loop {
        let kept = admin.store.events_after(&admin.tenant, &key, listening.after, EVENTS_MAX).await?;
        if !kept.is_empty() {
            let event = |(number, text): (u64, String)| Some((number, serde_json::from_str(&text).ok()?));
            return Ok(Json(Heard { events: kept.into_iter().filter_map(event).collect() }));
        }
        // Drafts are not for terminals: wait past them.
        let told = async { while let Ok(Draft::Text { .. }) = news.recv().await {} };
        tokio::select! {
            () = told => {}
            () = tokio::time::sleep_until(end) => return Ok(Json(Heard::default())),
            () = admin.stop.cancelled() => return Ok(Json(Heard::default())),
        }
    }
}
