//! The operator's routes: the same over TCP with a token, and over the Unix socket in the data folder, where
//! being able to open the file is proof enough.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chela_engine::{ChannelHealth, Engine, Pending, PluginStatus};
use chela_gateway::reconcile::Report;
use chela_store::Store;
use chela_types::{AgentId, Clock, Millis, TenantId, TurnId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::budgets;
use super::cache;
use super::error::Error;
use super::extract::{Json, Path, Query};
use super::replay::{self, Replays};
use super::rights::{Allowed, Content, Gate, Proof, Read, identify};
use super::swap::{self, Orders};
use super::terminal;
use crate::ledger::{self, Bill};
use crate::reload::{Invalid, Reloader};
use crate::telemetry::Metrics;
use crate::turn::{LIST_USUAL, Turn};

/// Longest wait for the next event; a command line waits a minute in all.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(25);
/// Longest wait for what the metrics tell of the store.
const GAUGE_WAIT: Duration = Duration::from_secs(1);
/// Largest body of an admin request.
pub(super) const BODY_BYTES_MAX: usize = 256 << 10;
/// Largest bill: a year of days for a hundred models.
const BILL_BYTES_MAX: usize = 16 << 20;

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
    pub metrics: Option<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who reads the configuration again.
    pub reloader: Reloader,
    /// Reloads and orders that are being carried out.
    pub orders: Orders,
    /// Recorded turns that are run again.
    pub replays: Replays,
    /// When the host was ready.
    pub started: Millis,
    /// Cancelled as soon as the host begins to stop.
    pub stop: CancellationToken,
}

impl Admin {
    /// The routes, for callers who prove who they are.
    pub fn router(self, proof: Proof) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/plugins", get(swap::plugins))
            .route("/plugins/{name}", post(swap::order))
            .route("/plugins/{name}/history", get(swap::history))
            .route("/reload", post(swap::reload))
            .route("/events", get(swap::events))
            .route("/budgets", get(budgets::list))
            .route("/budgets/raise", post(budgets::raise))
            .route("/cache", get(cache::list))
            .route("/cache/explain", post(cache::explain))
            .route("/cache/evict", post(cache::evict))
            .route("/replay", post(replay::begin))
            .route("/replay/{id}", get(replay::look).delete(replay::cancel))
            .route("/ledger/reconcile", post(reconcile).layer(DefaultBodyLimit::max(BILL_BYTES_MAX)))
            .route("/turns", get(turns))
            .route("/turns/{id}", get(turn))
            .route("/chat/{agent}", post(terminal::say).get(terminal::hear))
            .fallback(async || Error::NotFound)
            .method_not_allowed_fallback(async || Error::Method)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Gate::new(self))
            .layer(from_fn_with_state(proof, identify))
    }
}

async fn metrics(admin: Allowed<Read>) -> Result<Response, Error> {
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
    /// What is wrong with the files, if something is: what ran before runs on.
    #[serde(default)]
    pub invalid: Option<Invalid>,
    /// The first 12 hex digits of a configuration that waits for `chela reload --apply`; those of the one that runs, if
    /// only what it names is another.
    #[serde(default)]
    pub unapplied: Option<String>,
    /// What is another in it than in what runs.
    #[serde(default)]
    pub unapplied_contents: Vec<String>,
    /// Keys of the file whose values wait for a restart.
    #[serde(default)]
    pub restart: Vec<String>,
    /// Versions that plugins' folders hold and that do not serve.
    #[serde(default)]
    pub pending: Vec<Pending>,
    /// What this kernel lacks to shut workers of plugins in; absent: nothing, as far as one was started.
    #[serde(default)]
    pub workers_lack: Option<String>,
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
            invalid: None,
            unapplied: None,
            unapplied_contents: Vec::new(),
            restart: Vec::new(),
            pending: Vec::new(),
            workers_lack: None,
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

async fn status(admin: Allowed<Read>) -> Result<Json<Status>, Error> {
    let now = admin.clock.now();
    let standing = admin.reloader.standing();
    let channel = |ChannelHealth { channel, plugin, own_ids }: ChannelHealth| (channel, plugin, own_ids);
    let agent = |(name, description): (AgentId, String)| (name.to_string(), description);
    let plugins = admin.engine.plugins(false).await?;
    let waiting = standing.waiting();
    Ok(Json(Status {
        state: if admin.stop.is_cancelled() { "draining" } else { "ready" }.to_owned(),
        configuration: Some(standing.configuration().short()),
        invalid: standing.invalid(),
        unapplied: waiting.as_ref().map(|waiting| waiting.configuration.short()),
        unapplied_contents: waiting.map(|waiting| waiting.contents).unwrap_or_default(),
        restart: standing.restart(),
        pending: plugins.iter().flat_map(PluginStatus::pending).collect(),
        workers_lack: admin.engine.workers_lack().map(str::to_owned),
        up_s: Some(now.since(admin.started).as_secs()),
        channels: admin.engine.channel_health().into_iter().map(channel).collect(),
        agents: admin.engine.agents().into_iter().map(agent).collect(),
        ..Status::of_store(&admin.store, now).await?
    }))
}

/// A provider's bill against the ledger. Nothing is changed by it.
async fn reconcile(admin: Allowed<Read>, Json(bill): Json<Bill>) -> Result<Json<Report>, Error> {
    let price = |model: &str| admin.engine.price(model);
    Ok(Json(ledger::reconcile(&admin.store, &bill, price).await?))
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

async fn turns(admin: Allowed<Read>, Query(newest): Query<Newest>) -> Result<Json<Vec<Turn>>, Error> {
    Ok(Json(Turn::newest(&admin.store, newest.limit).await?))
}

#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(default)]
    content: bool,
}

async fn turn(
    admin: Allowed<Read>,
    Path(id): Path<String>,
    Query(shown): Query<Shown>,
) -> Result<Json<Turn>, Error> {
    let id: TurnId = id.parse().map_err(|_| Error::Invalid(format!("`{id}` is not the id of a turn")))?;
    let record = admin.store.turn_record(id).await?.ok_or(Error::NotFound)?;
    if shown.content {
        admin.and::<Content>()?;
    }
    Ok(Json(Turn::new(record, shown.content)))
}
