//! A stand-in Slack: sends signed Events API requests, and is posted to.
//!
//! It refuses what Slack refuses, with Slack's error codes, and writes down each message that people would
//! see, also when it then drops the connection: that is the delivery which the host cannot know of.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use chela_egress::Egress;
use chela_types::signature::{Encoding, Recipe, SecretEncoding};
use chela_types::{Clock, Millis};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::sender::Post;
use super::socket::{Scissors, Server, serve};
use super::{Error, Fault, Faults, Log, Sender, SenderSettings, Sent, bearer, belated, is_json, refused};

/// Slack cuts off what is longer; the stand-in refuses it, so that nobody relies on the cut.
const TEXT_CHARS_MAX: usize = 40_000;

/// What the stand-in is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Loopback address for its Web API; port 0: any.
    pub listen: SocketAddr,
    /// The app's signing secret.
    pub signing_secret: String,
    /// The bot's token.
    pub bot_token: String,
    /// The workspace.
    pub team: String,
    /// The bot's user id.
    pub bot_user: String,
    /// The bot's other id.
    pub bot_id: String,
    /// Channels that the bot may post to.
    pub channels: Vec<String>,
    /// Where each post is appended as a line of JSON.
    pub log: Option<PathBuf>,
    /// How events are repeated.
    pub sender: SenderSettings,
}

impl Settings {
    /// A workspace of made-up names with these secrets and channels.
    pub fn new(signing_secret: &str, bot_token: &str, channels: &[&str]) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            signing_secret: signing_secret.to_owned(),
            bot_token: bot_token.to_owned(),
            team: "T0CRAB".to_owned(),
            bot_user: "U0CHELA".to_owned(),
            bot_id: "B0CHELA".to_owned(),
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            log: None,
            sender: SenderSettings::slack(),
        }
    }
}

/// What somebody writes in the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Say {
    /// Where.
    pub channel: String,
    /// Who.
    pub user: String,
    /// What; a mention of the bot is put in front where `is_mention` says so.
    pub text: String,
    /// The thread it answers in.
    pub thread_ts: Option<String>,
    /// Sent as `app_mention` instead of `message`.
    pub is_mention: bool,
    /// The sender's own workspace, if it is another one (a shared channel).
    pub foreign_team: Option<String>,
    /// The post's time; absent: a new one. Two events with one `ts` tell of one post.
    pub ts: Option<String>,
}

/// An event that can be sent, and sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Slack's id of the event.
    pub id: String,
    /// The post that it tells of.
    pub ts: String,
    /// The exact bytes.
    pub body: Bytes,
}

/// A message that people in the workspace see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// When.
    pub at: Millis,
    /// Slack's id of it.
    pub ts: String,
    /// Where.
    pub channel: String,
    /// In which thread.
    pub thread_ts: Option<String>,
    /// What.
    pub text: String,
    /// False if the connection was dropped before the bot heard of it.
    pub is_answered: bool,
}

/// A change of a message that people see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edited {
    /// When.
    pub at: Millis,
    /// Which message.
    pub ts: String,
    /// Its new text.
    pub text: String,
}

/// A call that posted nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// When.
    pub at: Millis,
    /// Slack's error code, or `http 429`.
    pub error: String,
}

/// The stand-in. Dropping it closes its port.
#[derive(Debug)]
pub struct Slack {
    workspace: Arc<Workspace>,
    server: Server,
    sender: Sender,
}

#[derive(Debug)]
struct Workspace {
    settings: Settings,
    clock: Arc<dyn Clock>,
    posts: Log<Posted>,
    edits: Log<Edited>,
    refusals: Log<Refused>,
    faults: Faults,
    counter: AtomicU64,
}

impl Slack {
    /// Opens the workspace.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::LogFile`].
    pub async fn start(settings: Settings, egress: Egress, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let listen = settings.listen;
        let sender = Sender::new(egress, settings.sender.clone());
        let workspace = Arc::new(Workspace {
            posts: Log::open(settings.log.as_deref())?,
            edits: Log::open(None)?,
            refusals: Log::open(None)?,
            faults: Faults::default(),
            counter: AtomicU64::new(1),
            clock,
            settings,
        });
        let router = Router::new()
            .route("/api/chat.postMessage", post(post_message))
            .route("/api/chat.update", post(update_message))
            .route("/api/auth.test", post(auth_test).get(auth_test))
            .with_state(Arc::clone(&workspace));
        Ok(Self { server: serve(listen, router).await?, workspace, sender })
    }

    /// The address that stands for `https://slack.com`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// What people see, in order.
    pub fn posts(&self) -> &Log<Posted> {
        &self.workspace.posts
    }

    /// What was edited, in order.
    pub fn edits(&self) -> &Log<Edited> {
        &self.workspace.edits
    }

    /// What people see now, in the order of the posts.
    pub fn screen(&self) -> Vec<Posted> {
        let mut posts = self.posts().all();
        for edit in self.edits().all() {
            posts
                .iter_mut()
                .filter(|post| post.ts == edit.ts)
                .for_each(|post| post.text.clone_from(&edit.text));
        }
        posts
    }

    /// Calls that posted nothing, in order.
    pub fn refusals(&self) -> &Log<Refused> {
        &self.workspace.refusals
    }

    /// Misbehaviours of `chat.postMessage` and `chat.update`.
    pub fn faults(&self) -> &Faults {
        &self.workspace.faults
    }

    /// The event that tells of `say`.
    ///
    /// # Errors
    /// [`Error::Json`], which does not happen for text.
    pub fn event(&self, say: &Say) -> Result<Event, Error> {
        let settings = &self.workspace.settings;
        let ts = say.ts.clone().unwrap_or_else(|| self.workspace.new_ts());
        let id = format!("Ev{}", Uuid::now_v7().simple());
        let kind = if say.is_mention { "app_mention" } else { "message" };
        let text =
            if say.is_mention { format!("<@{}> {}", settings.bot_user, say.text) } else { say.text.clone() };
        let mut event = json!({
            "type": kind, "user": say.user, "text": text, "ts": ts, "event_ts": ts,
            "channel": say.channel, "channel_type": "channel", "client_msg_id": Uuid::now_v7().to_string(),
            "team": settings.team, "user_team": say.foreign_team.as_ref().unwrap_or(&settings.team),
        });
        if let (Some(thread), Some(fields)) = (&say.thread_ts, event.as_object_mut()) {
            fields.insert("thread_ts".to_owned(), json!(thread));
        }
        self.workspace.event(event, id, ts, say.foreign_team.is_some())
    }

    /// The event that tells of a post whose writer gave it other words; `None`: who deleted it.
    ///
    /// # Errors
    /// As [`Slack::event`].
    pub fn changed(&self, say: &Say, post: &Event, text: Option<&str>) -> Result<Event, Error> {
        let ts = self.workspace.new_ts();
        let id = format!("Ev{}", Uuid::now_v7().simple());
        let before = json!({ "type": "message", "user": say.user, "text": say.text, "ts": post.ts });
        let event = match text {
            Some(text) => json!({
                "type": "message", "subtype": "message_changed", "hidden": true, "channel": say.channel,
                "channel_type": "channel", "ts": ts, "event_ts": ts, "previous_message": before,
                "message": { "type": "message", "user": say.user, "text": text, "ts": post.ts,
                    "edited": { "user": say.user, "ts": ts } },
            }),
            None => json!({
                "type": "message", "subtype": "message_deleted", "hidden": true, "channel": say.channel,
                "channel_type": "channel", "ts": ts, "event_ts": ts, "deleted_ts": post.ts,
                "previous_message": before,
            }),
        };
        self.workspace.event(event, id, ts, false)
    }

    /// Sends an event, and again until the host takes it or Slack's repetitions are used up.
    ///
    /// # Errors
    /// [`Error::Sign`]. That the host does not take it is no error: see [`Sent`].
    pub async fn send(&self, url: &Url, event: &Event) -> Result<Sent, Error> {
        self.send_bytes(url, &event.id, event.body.clone()).await
    }

    /// Says something: an event made and sent.
    ///
    /// # Errors
    /// As [`Slack::event`] and [`Slack::send`].
    pub async fn say(&self, url: &Url, say: &Say) -> Result<(Event, Sent), Error> {
        let event = self.event(say)?;
        let sent = self.send(url, &event).await?;
        Ok((event, sent))
    }

    /// What Slack does when an address is entered in its console; true if the challenge came back.
    ///
    /// # Errors
    /// As [`Slack::send`].
    pub async fn verify_url(&self, url: &Url) -> Result<bool, Error> {
        let challenge = Uuid::now_v7().simple().to_string();
        let body = json!({ "type": "url_verification", "token": "stand-in", "challenge": challenge });
        let sent = self.send_bytes(url, "url_verification", serde_json::to_vec(&body)?.into()).await?;
        let json: Option<Value> = serde_json::from_slice(&sent.body).ok();
        let echoed = json.as_ref().and_then(|v| v.get("challenge")).and_then(Value::as_str);
        Ok(sent.is_acknowledged() && (echoed == Some(&challenge) || sent.body == challenge.as_bytes()))
    }

    async fn send_bytes(&self, url: &Url, id: &str, body: Bytes) -> Result<Sent, Error> {
        let bytes = body.clone();
        let headers = |number: usize, reason: Option<&'static str>| {
            let mut headers = self.signed(&bytes)?;
            if let Some(reason) = reason {
                headers.insert("x-slack-retry-num", HeaderValue::from(number));
                headers.insert("x-slack-retry-reason", HeaderValue::from_static(reason));
            }
            Ok(headers)
        };
        self.sender.send(Post { id, url, body, headers }).await
    }

    /// The headers with which Slack sends `body` now.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn signed(&self, body: &[u8]) -> Result<HeaderMap, Error> {
        let seconds = (self.workspace.clock.now().0 / 1_000).to_string();
        let lookup = |name: &str| (name == TIMESTAMP).then_some(seconds.as_str());
        let signature = recipe().sign(&self.workspace.settings.signing_secret, body, lookup)?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [(TIMESTAMP, &seconds), (SIGNATURE, &signature)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(headers)
    }
}

const TIMESTAMP: &str = "x-slack-request-timestamp";
const SIGNATURE: &str = "x-slack-signature";

/// Slack's recipe, written here once more on purpose: a stand-in that read the product's manifest would
/// agree with any mistake in it.
fn recipe() -> Recipe {
    Recipe {
        header: SIGNATURE.to_owned(),
        prefix: "v0=".to_owned(),
        encoding: Encoding::Hex,
        signed: format!("v0:{{header:{TIMESTAMP}}}:{{body}}"),
        several: false,
        secret_encoding: SecretEncoding::Text,
    }
}

impl Workspace {
    fn new_ts(&self) -> String {
        let micros = self.counter.fetch_add(1, Ordering::Relaxed) % 1_000_000;
        format!("{}.{micros:06}", self.clock.now().0 / 1_000)
    }

    /// What Slack puts around an event.
    fn event(&self, event: Value, id: String, ts: String, is_shared: bool) -> Result<Event, Error> {
        let Settings { team, bot_user, .. } = &self.settings;
        let body = serde_json::to_vec(&json!({
            "type": "event_callback", "team_id": team, "api_app_id": "A0CHELA", "event": event, "event_id": id,
            "event_time": self.clock.now().0 / 1_000, "is_ext_shared_channel": is_shared,
            "authorizations": [{ "team_id": team, "user_id": bot_user, "is_bot": true }],
        }))?;
        Ok(Event { id, ts, body: body.into() })
    }

    fn refuse(&self, error: &str) -> Response {
        self.refusals.push(Refused { at: self.clock.now(), error: error.to_owned() });
        Json(json!({ "ok": false, "error": error })).into_response()
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        match bearer(headers) {
            "" => Err("not_authed"),
            token if token == self.settings.bot_token => Ok(()),
            _ => Err("invalid_auth"),
        }
    }

    /// What a call wants, if nothing speaks against it, and the fault that it meets.
    async fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<(Wanted, Option<Fault>), Response> {
        let fault = self.faults.meet().await;
        if let Some(response) = refused(fault.as_ref()) {
            let error = format!("http {}", response.status().as_u16());
            self.refusals.push(Refused { at: self.clock.now(), error });
            return Err(response);
        }
        if let Some(Fault::Refusal(code)) = &fault {
            return Err(self.refuse(code));
        }
        match self.check(headers, body) {
            Ok(wanted) => Ok((wanted, fault)),
            Err(code) => Err(self.refuse(code)),
        }
    }

    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<Wanted, &'static str> {
        self.authenticate(headers)?;
        if !is_json(headers) {
            return Err("invalid_post_type");
        }
        let wanted: Wanted = serde_json::from_slice(body).map_err(|_| "invalid_json")?;
        if !self.settings.channels.contains(&wanted.channel) {
            return Err("channel_not_found");
        }
        if wanted.text.is_empty() {
            return Err("no_text");
        }
        if wanted.text.chars().count() > TEXT_CHARS_MAX {
            return Err("msg_too_long");
        }
        match &wanted.thread_ts {
            Some(ts) if !is_ts(ts) => Err("invalid_thread_ts"),
            _ => Ok(wanted),
        }
    }
}

/// The fields of `chat.postMessage` that matter here.
#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    text: String,
    thread_ts: Option<String>,
    /// Of `chat.update`: which message.
    ts: Option<String>,
}

/// `1531431954.000073`.
fn is_ts(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(seconds, micros)| digits(seconds) && digits(micros) && micros.len() == 6)
}

async fn post_message(
    State(workspace): State<Arc<Workspace>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (wanted, fault) = match workspace.take(&headers, &body).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal,
    };
    let is_answered = !matches!(fault, Some(Fault::Drop | Fault::Cut | Fault::Late(_)));
    let ts = workspace.new_ts();
    let answer =
        json!({ "ok": true, "ts": ts, "channel": wanted.channel, "message": { "text": wanted.text } });
    workspace.posts.push(Posted {
        at: workspace.clock.now(),
        ts,
        channel: wanted.channel,
        thread_ts: wanted.thread_ts,
        text: wanted.text,
        is_answered,
    });
    answered(fault.as_ref(), &scissors, answer)
}

async fn update_message(
    State(workspace): State<Arc<Workspace>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (wanted, fault) = match workspace.take(&headers, &body).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal,
    };
    let posts = workspace.posts.all();
    let post = posts.iter().find(|post| Some(&post.ts) == wanted.ts.as_ref());
    let Some(post) = post.filter(|post| post.channel == wanted.channel) else {
        return workspace.refuse("message_not_found");
    };
    let answer = json!({ "ok": true, "ts": post.ts, "channel": wanted.channel, "text": wanted.text });
    workspace.edits.push(Edited { at: workspace.clock.now(), ts: post.ts.clone(), text: wanted.text });
    answered(fault.as_ref(), &scissors, answer)
}

/// The answer to a call that was done, or what a fault makes of it.
fn answered(fault: Option<&Fault>, scissors: &Scissors, answer: Value) -> Response {
    if matches!(fault, Some(Fault::Drop | Fault::Cut)) {
        scissors.cut();
    }
    belated(fault).unwrap_or_else(|| Json(answer).into_response())
}

async fn auth_test(State(workspace): State<Arc<Workspace>>, headers: HeaderMap) -> Response {
    if let Err(code) = workspace.authenticate(&headers) {
        return workspace.refuse(code);
    }
    let Settings { team, bot_user, bot_id, .. } = &workspace.settings;
    let answer = json!({
        "ok": true, "url": "https://crab-and-co.slack.com/", "team": "Crab & Co", "user": "chela",
        "team_id": team, "user_id": bot_user, "bot_id": bot_id, "is_enterprise_install": false,
    });
    Json(answer).into_response()
}
