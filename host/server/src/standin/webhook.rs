//! A stand-in partner of the `webhook` channel: posts what Standard Webhooks describes, and takes replies.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::post};
use bytes::Bytes;
use chela_egress::Egress;
use chela_types::signature::{Encoding, Recipe, SecretEncoding};
use chela_types::{Clock, Millis};
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use url::Url;
use uuid::Uuid;

use super::sender::Post;
use super::socket::{Scissors, Server, serve};
use super::{Error, Fault, Faults, Log, Sender, SenderSettings, Sent, belated, is_json, refused};

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";
/// Older or newer replies are refused, in seconds: what Standard Webhooks' own libraries allow.
const TOLERANCE_S: i64 = 300;

/// What the stand-in is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Loopback address for replies; port 0: any.
    pub listen: SocketAddr,
    /// The shared secret, `whsec_…`.
    pub secret: String,
    /// Where each reply is appended as a line of JSON.
    pub log: Option<PathBuf>,
    /// Replies that are kept in memory; the oldest go first.
    pub remembered: usize,
    /// How messages are repeated.
    pub sender: SenderSettings,
}

impl Settings {
    /// A partner with this secret.
    pub fn new(secret: &str) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            secret: secret.to_owned(),
            log: None,
            remembered: super::log::ENTRIES_MAX,
            sender: SenderSettings::standard_webhooks(),
        }
    }
}

/// What somebody writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Say {
    /// Who.
    pub sender: String,
    /// What.
    pub text: String,
    /// Which conversation; absent: the sender's only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A message that can be sent, and sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `webhook-id`: the idempotency key.
    pub id: String,
    /// The exact bytes.
    pub body: Bytes,
}

/// A reply that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Received {
    /// When.
    pub at: Millis,
    /// `webhook-id` of the request.
    pub webhook_id: String,
    /// The body, read.
    #[serde(flatten)]
    pub reply: Reply,
    /// False if the connection was dropped before the host heard of it.
    pub is_answered: bool,
}

/// The body of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Always `reply`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The host's id of the answer.
    pub id: String,
    /// Which agent speaks.
    pub agent: String,
    /// What it says.
    pub text: String,
    /// Which conversation.
    pub thread: String,
    /// To whom.
    #[serde(default)]
    pub sender: Option<String>,
    /// Rich parts.
    #[serde(default)]
    pub blocks: Value,
}

/// A request that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// When.
    pub at: Millis,
    /// Why.
    pub error: String,
}

/// The stand-in. Dropping it closes its port.
#[derive(Debug)]
pub struct Webhook {
    partner: Arc<Partner>,
    server: Server,
    sender: Sender,
}

#[derive(Debug)]
struct Partner {
    settings: Settings,
    clock: Arc<dyn Clock>,
    replies: Log<Received>,
    refusals: Log<Refused>,
    faults: Faults,
    /// Who waits for the next reply of which conversation.
    expected: Mutex<HashMap<String, oneshot::Sender<Received>>>,
}

impl Webhook {
    /// Opens the partner's port.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::LogFile`].
    pub async fn start(settings: Settings, egress: Egress, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let listen = settings.listen;
        let sender = Sender::new(egress, settings.sender.clone());
        let partner = Arc::new(Partner {
            replies: Log::bounded(settings.log.as_deref(), settings.remembered)?,
            refusals: Log::open(None)?,
            faults: Faults::default(),
            expected: Mutex::default(),
            clock,
            settings,
        });
        let router = Router::new().route("/replies", post(take_reply)).with_state(Arc::clone(&partner));
        Ok(Self { server: serve(listen, router).await?, partner, sender })
    }

    /// Where replies go.
    pub fn reply_url(&self) -> String {
        format!("http://{}/replies", self.server.address)
    }

    /// Properly signed replies, in order.
    pub fn replies(&self) -> &Log<Received> {
        &self.partner.replies
    }

    /// The next reply in a conversation, to be asked for before it can come. Cheaper than watching the log
    /// where many wait at once.
    pub fn expect(&self, thread: &str) -> oneshot::Receiver<Received> {
        let (tell, told) = oneshot::channel();
        self.partner.expected.lock().insert(thread.to_owned(), tell);
        told
    }

    /// Requests that were not taken, in order.
    pub fn refusals(&self) -> &Log<Refused> {
        &self.partner.refusals
    }

    /// Misbehaviours of the reply address.
    pub fn faults(&self) -> &Faults {
        &self.partner.faults
    }

    /// The message that tells of `say`.
    ///
    /// # Errors
    /// [`Error::Json`], which does not happen for text.
    pub fn event(&self, say: &Say) -> Result<Event, Error> {
        let id = format!("msg_{}", Uuid::now_v7().simple());
        Ok(Event { id, body: serde_json::to_vec(say)?.into() })
    }

    /// Sends a message, and again until the host takes it or the repetitions are used up.
    ///
    /// # Errors
    /// [`Error::Sign`]. That the host does not take it is no error: see [`Sent`].
    pub async fn send(&self, url: &Url, event: &Event) -> Result<Sent, Error> {
        let Event { id, body } = event;
        let headers = |_, _| self.signed(id, body);
        self.sender.send(Post { id, url, body: body.clone(), headers }).await
    }

    /// Says something: a message made and sent.
    ///
    /// # Errors
    /// As [`Webhook::event`] and [`Webhook::send`].
    pub async fn say(&self, url: &Url, say: &Say) -> Result<(Event, Sent), Error> {
        let event = self.event(say)?;
        let sent = self.send(url, &event).await?;
        Ok((event, sent))
    }

    /// The headers with which the partner sends `body` now.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn signed(&self, id: &str, body: &[u8]) -> Result<HeaderMap, Error> {
        let seconds = (self.partner.clock.now().0 / 1_000).to_string();
        let lookup = |name: &str| match name {
            ID => Some(id),
            TIMESTAMP => Some(seconds.as_str()),
            _ => None,
        };
        let signature = recipe().sign(&self.partner.settings.secret, body, lookup)?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [(ID, id), (TIMESTAMP, seconds.as_str()), (SIGNATURE, signature.as_str())] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(headers)
    }
}

/// The recipe of Standard Webhooks, written here once more on purpose: a stand-in that read the product's
/// manifest would agree with any mistake in it.
fn recipe() -> Recipe {
    Recipe {
        header: SIGNATURE.to_owned(),
        prefix: "v1,".to_owned(),
        encoding: Encoding::Base64,
        signed: format!("{{header:{ID}}}.{{header:{TIMESTAMP}}}.{{body}}"),
        several: true,
        secret_encoding: SecretEncoding::Whsec,
    }
}

impl Partner {
    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<Received, String> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        recipe().verify(&self.settings.secret, body, header).map_err(|error| error.to_string())?;
        let at = self.clock.now();
        let sent: i64 =
            header(TIMESTAMP).and_then(|text| text.parse().ok()).ok_or("timestamp is not a number")?;
        if (at.0 / 1_000).abs_diff(sent) > TOLERANCE_S.unsigned_abs() {
            return Err("timestamp is too old or too new".to_owned());
        }
        if !is_json(headers) {
            return Err("content type is not application/json".to_owned());
        }
        let reply: Reply = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let webhook_id = header(ID).unwrap_or_default().to_owned();
        Ok(Received { at, webhook_id, reply, is_answered: true })
    }
}

async fn take_reply(
    State(partner): State<Arc<Partner>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fault = partner.faults.meet().await;
    if let Some(response) = refused(fault.as_ref()) {
        let error = format!("http {}", response.status().as_u16());
        partner.refusals.push(Refused { at: partner.clock.now(), error });
        return response;
    }
    match partner.check(&headers, &body) {
        Ok(mut received) => {
            received.is_answered = !matches!(fault, Some(Fault::Drop | Fault::Cut | Fault::Late(_)));
            if matches!(fault, Some(Fault::Drop | Fault::Cut)) {
                scissors.cut();
            }
            let id = received.reply.id.clone();
            let expected = partner.expected.lock().remove(&received.reply.thread);
            partner.replies.push(received.clone());
            if let Some(expected) = expected {
                // Whoever does not wait any more has the log.
                let _ = expected.send(received);
            }
            belated(fault.as_ref()).unwrap_or_else(|| Json(json!({ "received": id })).into_response())
        }
        Err(error) => {
            partner.refusals.push(Refused { at: partner.clock.now(), error: error.clone() });
            (StatusCode::UNAUTHORIZED, Json(json!({ "error": error }))).into_response()
        }
    }
}
