//! What a hostile adapter could make of a request or of an answer, as bytes, and what a stranger could post.

use chela_egress::Egress;
use chela_sandbox::fuzzing::{hollow, worker};
use chela_sandbox::{Limits, Manifest};
use chela_store::{Arrival, Change, Receipt};
use chela_types::{ChannelId, Clock, OutboxId, Target, TenantId};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::component::Said;
use super::inward::Response;
use super::request::{Allowed, Bounds};
use super::station::{Account, Acknowledgement, ChannelStation, Parts};
use super::verify::{Verified, Webhook};
use super::{Sessions, Waiting};
use crate::config::ChannelConfig;
use crate::contract::{translating, types};
use crate::error::Error;

/// A channel account whose adapter is what bytes make of it.
#[derive(Debug)]
pub struct Adapter {
    station: ChannelStation,
    tenant: TenantId,
    limits: Limits,
}

/// What is kept and told of a request.
#[derive(Debug)]
pub struct Inward {
    /// Messages.
    pub arrivals: Vec<Arrival>,
    /// Edits and deletions.
    pub changes: Vec<Change>,
    /// What was told of answers.
    pub receipts: Vec<Receipt>,
    /// What the platform gets.
    pub response: Acknowledgement,
    /// How long it waits for an answer, if it does.
    pub deadline: Option<Duration>,
}

/// What leaves.
#[derive(Debug)]
pub enum Outward {
    /// A request, and whether it is an edit of the turn's own post.
    Http(Box<chela_egress::Request>, bool),
    /// An event of the host's own web chat.
    Stream(serde_json::Value),
    /// The response to whoever asked.
    Response(Vec<u8>),
    /// Nothing: the answer is done, put off or given up.
    Nothing,
}

impl Adapter {
    /// An account of this adapter.
    ///
    /// # Errors
    /// What the station says of manifest and configuration.
    pub fn new(
        manifest: Manifest,
        config: ChannelConfig,
        egress: Egress,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let limits = Limits::STANDARD;
        let name = ChannelId::new(manifest.name.as_str());
        let parts = Parts {
            name: name.map_err(|error| Error::Configuration(error.to_string()))?,
            settings: config.config.clone(),
            plugin: hollow(manifest, limits.clone()),
            egress,
            clock,
            sessions: Arc::new(Sessions::new([7; 32])),
            waiting: Waiting::new(1),
            account: Arc::new(Account::new(&config)),
            config,
        };
        Ok(Self { station: ChannelStation::new(parts)?, tenant: TenantId::default_tenant(), limits })
    }

    /// Whether a stranger's request passes.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self, webhook: Webhook) -> Result<(), Error> {
        self.station.verify(webhook).map(drop)
    }

    /// What becomes of a verified request of which the adapter says this.
    ///
    /// # Errors
    /// The bytes are none of its words. Inside: what the station says of them.
    pub fn inward(
        &self,
        webhook: Webhook,
        (session, is_form): (Option<String>, bool),
        said: &[u8],
    ) -> io::Result<Result<Inward, Error>> {
        let said: Said = worker::read(said, &self.limits)?;
        let Said::Received(said) = said else { return Err(io::ErrorKind::InvalidData.into()) };
        let verified = Verified { webhook, session, is_form };
        Ok(self.station.heard_as(verified, &self.tenant, said).map(|received| {
            let (response, deadline) = match received.response {
                Response::Now(response) => (response, None),
                Response::Deferred { deadline, fallback } => (fallback, Some(deadline)),
            };
            let (arrivals, changes, receipts) = (received.arrivals, received.changes, received.receipts);
            Inward { arrivals, changes, receipts, response, deadline }
        }))
    }

    /// What leaves of an answer to this target, where this post shows it already.
    ///
    /// # Errors
    /// The bytes are none of its words. Inside: what the station says of them.
    pub fn outward(
        &self,
        said: &[u8],
        target: &Target,
        post: Option<&str>,
    ) -> io::Result<Result<Outward, Error>> {
        let said: Said = worker::read(said, &self.limits)?;
        let Said::Step(Ok(translating::Step::Next(outbound))) = said else { return Ok(Ok(Outward::Nothing)) };
        let bounds = Bounds { target, post, id: OutboxId::from_bytes([7; 16]) };
        Ok(self.station.allow(&outbound, bounds).map(|allowed| match allowed {
            Allowed::Http { request, is_edit } => Outward::Http(request, is_edit),
            Allowed::Stream(event) => Outward::Stream(event),
            Allowed::Response(body) => Outward::Response(body),
        }))
    }
}

/// A message as an honest adapter tells of it.
fn message((dedupe, conversation, sender): (&[&[&str]], &[&str], &str)) -> translating::Event {
    let key = |parts: &[&str]| parts.iter().map(ToString::to_string).collect();
    translating::Event::Message(translating::Incoming {
        identity: translating::Identity {
            dedupe: dedupe.iter().map(|parts| key(parts)).collect(),
            conversation: key(conversation),
            sender: sender.to_owned(),
        },
        sender_name: Some("Ann".to_owned()),
        text: "hello".to_owned(),
        attachments: vec![types::Attachment {
            name: "a.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            size: 7,
            blob: None,
        }],
        notes: Some("{}".to_owned()),
    })
}

/// What adapters say of the request `{"id":"m1","room":"r1","sender":"ann", …}`, and what these words are called.
pub fn inward_samples() -> Vec<(&'static str, Vec<u8>)> {
    use translating::{Acknowledgement as Ack, Event, Rejection};
    let key = |part: &str| vec![part.to_owned()];
    let change =
        || translating::Change { dedupe: vec![key("m1")], post: key("m0"), sender: "ann".to_owned() };
    let honest = || message((&[&["m1"]], &["r1"], "ann"));
    let response = || translating::Response {
        status: 200,
        headers: vec![translating::Header {
            name: "content-type".to_owned(),
            value: "text/plain".to_owned(),
        }],
        body: b"later".to_vec(),
    };
    let click = translating::Interaction {
        identity: translating::Identity {
            dedupe: vec![key("m1")],
            conversation: key("r1"),
            sender: "ann".to_owned(),
        },
        value: "yes".to_owned(),
    };
    let status = translating::DeliveryStatus {
        platform_id: "p1".to_owned(),
        state: translating::DeliveryState::Read,
        detail: Some("seen".to_owned()),
    };
    let events = |events: Vec<Event>| translating::Inbound { events, acknowledgement: Ack::Plain };
    let deferred = Ack::Deferred(translating::Deferral { deadline_ms: 60_000, fallback: response() });
    let all = [
        ("message", Ok(events(vec![honest()]))),
        (
            "own-slack",
            Ok(events(vec![message((&[&["m1"], &["T1", "r1", "1.2"]], &["T1", "r1", "1.2"], "ann"))])),
        ),
        ("own-page", Ok(events(vec![message((&[&["s1", "m1"]], &["s1"], "s1"))]))),
        ("own-everything", Ok(events(vec![message((&[&["m1"], &["r1", "7"]], &["r1"], "ann"))]))),
        ("forged", Ok(events(vec![message((&[&["m1"]], &["r1"], "bob"))]))),
        (
            "edit",
            Ok(events(vec![Event::Edit(translating::Edit { change: change(), text: "hi".to_owned() })])),
        ),
        ("deletion", Ok(events(vec![Event::Deletion(change())]))),
        ("status", Ok(events(vec![Event::Status(status)]))),
        ("interaction", Ok(events(vec![Event::Interaction(click)]))),
        ("ignored", Ok(events(vec![Event::Ignored("a join".to_owned())]))),
        ("now", Ok(translating::Inbound { events: vec![honest()], acknowledgement: Ack::Now(response()) })),
        ("deferred", Ok(translating::Inbound { events: vec![honest()], acknowledgement: deferred })),
        ("malformed", Err(Rejection::Malformed("no text".to_owned()))),
        ("unsupported", Err(Rejection::Unsupported("a reaction".to_owned()))),
        ("other", Err(Rejection::Other("broken".to_owned()))),
    ];
    all.into_iter().map(|(name, said)| (name, encoded(&Said::Received(said)))).collect()
}

/// What adapters want to send to the target `{"to":"r1"}`, and what these words are called.
pub fn outward_samples() -> Vec<(&'static str, Vec<u8>)> {
    use translating::{RenderingError, Step};
    let next = |endpoint: &str, header: &str, body: &str| {
        let header = translating::Header { name: header.to_owned(), value: "x".to_owned() };
        let request = translating::Request {
            endpoint: endpoint.to_owned(),
            headers: vec![header],
            body: body.as_bytes().to_vec(),
        };
        Ok(Step::Next(translating::Outbound { request, state: "1".to_owned() }))
    };
    let all = [
        ("post", next("post", "x-kind", r#"{"to":"r1","text":"hello"}"#)),
        ("elsewhere", next("post", "x-kind", r#"{"to":"r2","text":"hello"}"#)),
        ("edit", next("edit", "x-kind", r#"{"to":"r1","ts":"p1","text":"hello"}"#)),
        ("page", next("page", "x-kind", r#"{"to":"r1","text":"hello"}"#)),
        ("answer", next("answer", "x-kind", r#"{"text":"hello"}"#)),
        ("own", next("own", "x-kind", "{}")),
        (
            "own-slack",
            next("post-message", "content-type", r#"{"channel":"r1","thread_ts":"r1","text":"hello"}"#),
        ),
        ("own-webhook", next("reply", "content-type", r#"{"thread":"r1","text":"hello"}"#)),
        ("own-web-chat", next("stream", "content-type", r#"{"session":"r1","text":"hello"}"#)),
        ("own-form", next("post", "content-type", r#"{"to":"r1"}"#)),
        ("header", next("post", "authorization", r#"{"to":"r1"}"#)),
        ("done", Ok(Step::Done(Some("p1".to_owned())))),
        ("retry", Ok(Step::Retry(u64::MAX))),
        ("permanent", Ok(Step::Permanent("gone".to_owned()))),
        ("unsuitable", Err(RenderingError::Unsuitable("too long".to_owned()))),
        ("other", Err(RenderingError::Other("broken".to_owned()))),
    ];
    all.into_iter().map(|(name, said)| (name, encoded(&Said::Step(said)))).collect()
}

fn encoded(said: &Said) -> Vec<u8> {
    postcard::to_stdvec(said).unwrap_or_default()
}
