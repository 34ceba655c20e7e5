//! Everything outside of the host: a Slack, a webhook partner, a model provider and a bare platform for guests.
//!
//! They outlive a host, as the world does, and each keeps a log of its own: a check never has to trust the
//! host's database.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use chela_egress::Egress;
use chela_server::standin::provider::{self, Provider};
use chela_server::standin::slack::{self, Slack};
use chela_server::standin::webhook;
use chela_types::{Clock, ManualClock, Millis, Money, Price, Rates, SystemClock};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Slack's signing secret.
pub const SLACK_SECRET: &str = "8f742231b10e8888abcd99";
/// The bot's token.
pub const SLACK_TOKEN: &str = "xoxb-stand-in";
/// The secret of the webhook partner and of the guest channel.
pub const PARTNER_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The provider's key.
pub const PROVIDER_KEY: &str = "sk-stand-in";
/// Under which id the guest channel's account posts.
pub const GUEST_ID: &str = "guest-account";
/// What the guest channel shows to its platform.
pub const GUEST_TOKEN: &str = "guest-token";
/// Rooms of the stand-in Slack; `TTTTTTTTT` is that of the recorded event.
pub const ROOMS: [&str; 4] = ["C0PUBLIC", "C0PEOPLE", "D0DIRECT", "TTTTTTTTT"];
/// The model's name and what it costs: 10 and 40 cents for a million tokens.
pub const MODEL: &str = "crab-1";
/// Price of [`MODEL`].
pub const PRICE: Price = Price::flat(Rates {
    input: Money::from_nanos(100_000_000),
    cached: Money::from_nanos(100_000_000),
    written: Money::from_nanos(100_000_000),
    output: Money::from_nanos(400_000_000),
});

/// The outside.
#[derive(Debug)]
pub struct Outside {
    /// The time that everybody has.
    pub clock: Arc<dyn Clock>,
    /// A workspace.
    pub slack: Slack,
    /// A partner that posts and is replied to.
    pub partner: webhook::Webhook,
    /// A model provider that bills.
    pub provider: Provider,
    /// What the guest channel posts to.
    pub bare: Bare,
}

impl Outside {
    /// With the machine's time.
    pub async fn new() -> Self {
        Self::with(Arc::new(SystemClock)).await
    }

    /// With a time that only the test moves.
    pub async fn at(now: Millis) -> (Self, ManualClock) {
        let clock = ManualClock::at(now);
        (Self::with(Arc::new(clock.clone())).await, clock)
    }

    async fn with(clock: Arc<dyn Clock>) -> Self {
        let settings = provider::Settings::new(PROVIDER_KEY, PRICE);
        Self::with_provider(clock, settings, slack::Settings::new(SLACK_SECRET, SLACK_TOKEN, &ROOMS)).await
    }

    /// With a provider and a workspace of one's own making.
    pub async fn with_provider(
        clock: Arc<dyn Clock>,
        model: provider::Settings,
        room: slack::Settings,
    ) -> Self {
        let egress = loopback();
        let partner =
            webhook::Settings { sender: room.sender.clone(), ..webhook::Settings::new(PARTNER_SECRET) };
        Self {
            slack: Slack::start(room, egress.clone(), Arc::clone(&clock)).await.unwrap(),
            partner: webhook::Webhook::start(partner, egress, Arc::clone(&clock)).await.unwrap(),
            provider: Provider::start(model, Arc::clone(&clock)).await.unwrap(),
            bare: Bare::start().await,
            clock,
        }
    }
}

/// An egress for stand-ins and tests: this machine only matters.
pub fn loopback() -> Egress {
    Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() }).unwrap()
}

/// A request that came to the bare platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    /// `/post` or `/other`.
    pub path: String,
    /// The whole `authorization` header.
    pub authorization: String,
    /// The whole `content-type` header.
    pub content_type: String,
    /// The body.
    pub body: Value,
}

/// A platform that takes everything and writes it down.
#[derive(Debug)]
pub struct Bare {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    _stop: DropGuard,
}

impl Bare {
    async fn start() -> Self {
        let posted = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(take).with_state(Arc::clone(&posted));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Self { address, posted, _stop: stop.drop_guard() }
    }

    /// Where it listens.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().clone()
    }
}

async fn take(
    State(posted): State<Arc<Mutex<Vec<Posted>>>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let body: Bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let header =
        |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if uri.path() == "/whoami" {
        return Json(json!({ "id": GUEST_ID })).into_response();
    }
    let mut posted = posted.lock();
    let id = format!("p{}", posted.len() + 1);
    posted.push(Posted {
        path: uri.path().to_owned(),
        authorization: header("authorization"),
        content_type: header("content-type"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    // `status 429`: as the message says it.
    let said =
        posted.last().and_then(|posted| posted.body["text"].as_str()?.strip_prefix("status ")?.parse().ok());
    (said.unwrap_or(StatusCode::OK), Json(json!({ "ok": true, "id": id }))).into_response()
}
