//! The channel station, inward: a verified request becomes messages with an identity that the host itself
//! has read. Outward it is `delivery.rs`.

use chela_egress::Egress;
use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Plugin, PluginKind};
use chela_store::{Arrival, StreamEvent};
use chela_types::{Attachment, ChannelId, Clock, Identity, Message, Millis, Person, TenantId, TurnId};
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use wasmtime::component::{InstancePre, Linker};

use super::delivery::session_key;
use super::identity::{self, Claim, Document};
use super::json;
use super::manifest::{EndpointKind, Tables};
use super::session::Sessions;
use super::verify::{Gate, Verified, Webhook};
use crate::config::ChannelConfig;
use crate::contract::{self, translating};
use crate::error::{Error, Refusal};
use crate::words;

/// Longest text of a message in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest notes an adapter may keep.
const NOTES_BYTES_MAX: usize = 4 * 1024;
/// Longest display name in characters.
const NAME_CHARS_MAX: usize = 128;
/// Events in one request.
const EVENTS_MAX: usize = 1_000;
/// Headers that an adapter has no business with.
const HIDDEN_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-forwarded-for", SESSION_HEADER];
/// Where an adapter of the web chat finds the id of the host's own session; a client's own is dropped.
const SESSION_HEADER: &str = "chela-session";

/// Plugins of the channel world.
#[derive(Debug)]
pub struct Channel;

impl Kind for Channel {
    const KIND: PluginKind = PluginKind::Channel;
    type Lent = ();
    type Pre = contract::channel::ChannelPre<Call<()>>;
    type Exports = contract::channel::Channel;

    fn link(_: &mut Linker<Call<()>>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn prepare(pre: InstancePre<Call<()>>) -> wasmtime::Result<Self::Pre> {
        contract::channel::ChannelPre::new(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Sandboxed<Call<()>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>> {
        Box::pin(pre.instantiate_async(store))
    }
}

/// One channel account.
pub(crate) struct ChannelStation {
    pub(crate) name: ChannelId,
    pub(crate) config: ChannelConfig,
    pub(crate) plugin: Plugin<Channel>,
    pub(crate) tables: Tables,
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: Arc<Sessions>,
    rate: governor::DefaultDirectRateLimiter,
    own_ids: OnceLock<Vec<String>>,
}

impl std::fmt::Debug for ChannelStation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelStation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a station is made of.
pub(crate) struct Parts {
    pub(crate) name: ChannelId,
    pub(crate) config: ChannelConfig,
    pub(crate) plugin: Plugin<Channel>,
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: Arc<Sessions>,
}

/// What a request has become.
pub(crate) struct Received {
    /// To be kept before the acknowledgement is sent.
    pub(crate) arrivals: Vec<Arrival>,
    /// Web sessions that show what was said.
    pub(crate) sessions: Vec<String>,
    /// The response to the platform.
    pub(crate) acknowledgement: Acknowledgement,
}

/// The response to a platform's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Acknowledgement {
    /// 200 and nothing.
    pub(crate) fn plain() -> Self {
        Self { status: 200, headers: Vec::new(), body: Vec::new() }
    }
}

impl ChannelStation {
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let Parts { name, config, plugin, settings, egress, clock, sessions } = parts;
        let tables = Tables::read(plugin.manifest().channel.clone())
            .map_err(|reason| Error::Configuration(format!("plugin.toml of `{}`: {reason}", plugin.id())))?;
        for secret in tables.secrets() {
            if !config.secrets.contains_key(secret) {
                return Err(Error::Configuration(format!(
                    "chela.toml: [channel.{name}] secrets lacks `{secret}`, which the adapter `{}` needs",
                    plugin.id()
                )));
            }
        }
        let per_minute = NonZeroU32::new(config.rate_per_minute).unwrap_or(NonZeroU32::MIN);
        let rate = governor::RateLimiter::direct(governor::Quota::per_minute(per_minute));
        let station = Self {
            name,
            config,
            plugin,
            tables,
            settings,
            egress,
            clock,
            sessions,
            rate,
            own_ids: OnceLock::new(),
        };
        station.check()?;
        Ok(station)
    }

    /// What would otherwise be found when an answer that is paid for cannot be sent.
    fn check(&self) -> Result<(), Error> {
        for endpoint in self.tables.endpoint.values().filter(|endpoint| endpoint.kind == EndpointKind::Http) {
            self.address(endpoint)?;
        }
        for (name, encoding) in self.tables.encoded_secrets() {
            let secret = self.secret(name).map(ExposeSecret::expose_secret).unwrap_or_default();
            if !encoding.can_read(secret) {
                return Err(Error::Configuration(format!(
                    "chela.toml: [channel.{}] secrets: `{name}` is not written as the adapter `{}` needs it: base64, after an optional `whsec_`",
                    self.name,
                    self.plugin.id()
                )));
            }
        }
        Ok(())
    }

    /// Whether answers become events of the host's own web chat.
    pub(crate) fn is_web_chat(&self) -> bool {
        self.tables.endpoint.values().any(|endpoint| endpoint.kind == EndpointKind::Stream)
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&SecretString> {
        self.config.secrets.get(name)
    }

    /// Remembers under which ids the account itself posts.
    pub(crate) fn learn_own_ids(&self, ids: Vec<String>) {
        // Told twice the same thing: the first stays.
        let _ = self.own_ids.set(ids);
    }

    pub(crate) fn own_ids(&self) -> &[String] {
        self.own_ids.get().map_or(&[], Vec::as_slice)
    }

    /// Size, rate, origin: nothing of the request is run before it has passed.
    pub(crate) fn verify(&self, webhook: Webhook) -> Result<Verified, Error> {
        let gate = Gate {
            channel: &self.name,
            tables: &self.tables,
            secrets: &self.config.secrets,
            sessions: &self.sessions,
        };
        let verified = gate.verify(webhook, self.clock.now())?;
        // After the origin: a stranger's flood must not eat the platform's allowance.
        self.rate.check().map_err(|_| Error::Flooded(self.name.clone()))?;
        Ok(verified)
    }

    /// Lets the component read a verified request, and checks every identity that it returns.
    pub(crate) async fn receive(&self, verified: Verified, tenant: &TenantId) -> Result<Received, Error> {
        let now = self.clock.now();
        let json = self.body_json(&verified)?;
        let document = Document {
            json: json.as_ref(),
            headers: &verified.webhook.headers,
            session: verified.session.as_deref(),
        };
        let readings = identity::readings(&self.tables.identity, &self.tables.bind, &document);
        let inbound = self.translate(&verified, now).await?;
        let inbound = match inbound {
            Ok(inbound) => inbound,
            Err(translating::Rejection::Malformed(reason)) => return Err(self.malformed(&reason)),
            Err(translating::Rejection::Unsupported(reason)) => {
                tracing::debug!(channel = %self.name, reason = words::reason(&reason), "request of an unknown kind");
                metrics::counter!("webhooks_unsupported_total", "channel" => self.name.to_string())
                    .increment(1);
                return Ok(Received {
                    arrivals: Vec::new(),
                    sessions: Vec::new(),
                    acknowledgement: Acknowledgement::plain(),
                });
            }
            Err(translating::Rejection::Other(reason)) => {
                return Err(Error::reported(format!("channel `{}`", self.name), &reason, false));
            }
        };
        if inbound.events.len() > EVENTS_MAX {
            return Err(self.forged("more events than one request may hold"));
        }
        let mut arrivals = Vec::new();
        for event in inbound.events {
            if let Some((claim, said)) = self.event(event) {
                let identity = identity::confirm(&readings, &claim).map_err(|what| self.forged(what))?;
                if self.own_ids().contains(&identity.sender) {
                    self.ignored("own message");
                    continue;
                }
                arrivals.push(self.arrival(tenant, identity, said, now)?);
            }
        }
        let sessions = if self.is_web_chat() { verified.session.into_iter().collect() } else { Vec::new() };
        Ok(Received { arrivals, sessions, acknowledgement: self.acknowledge(inbound.acknowledgement)? })
    }

    fn body_json(&self, verified: &Verified) -> Result<Option<serde_json::Value>, Error> {
        if verified.webhook.body.is_empty() {
            return Ok(None);
        }
        let value = json::read(&verified.webhook.body).map_err(|error| self.malformed(&error.to_string()))?;
        Ok(Some(value))
    }

    async fn translate(
        &self,
        verified: &Verified,
        now: Millis,
    ) -> Result<Result<translating::Inbound, translating::Rejection>, Error> {
        let webhook = &verified.webhook;
        let header = |(name, value): &(String, String)| translating::Header {
            name: name.clone(),
            value: value.clone(),
        };
        let shown = |(name, _): &&(String, String)| !HIDDEN_HEADERS.contains(&name.as_str());
        let mut headers: Vec<_> = webhook.headers.iter().filter(shown).map(header).collect();
        if let Some(session) = &verified.session {
            headers.push(translating::Header { name: SESSION_HEADER.to_owned(), value: session.clone() });
        }
        let frame = translating::Frame::Http(translating::HttpFrame {
            method: webhook.method.clone(),
            path: webhook.path.clone(),
            query: webhook.query.clone(),
            headers,
            body: webhook.body.to_vec(),
        });
        let surroundings =
            translating::Surroundings { channel: self.name.to_string(), own_ids: self.own_ids().to_vec() };
        Ok(self
            .plugin
            .call((), options(now, b"receive"), move |store, exports| {
                Box::pin(async move {
                    let (frame, surroundings) = store.data_mut().hand((&frame, &surroundings))?;
                    exports.chela_plugin_translating().call_receive(store, frame, surroundings).await
                })
            })
            .await?)
    }

    /// The claim of an event that starts a turn; others are counted and let go.
    fn event(&self, event: translating::Event) -> Option<(Claim, Said)> {
        let claim = |identity: translating::Identity| Claim {
            dedupe: identity.dedupe,
            conversation: identity.conversation,
            sender: identity.sender,
        };
        let why = match event {
            translating::Event::Message(incoming) => {
                let said = Said {
                    text: incoming.text,
                    name: incoming.sender_name,
                    attachments: incoming.attachments,
                    notes: incoming.notes,
                };
                return Some((claim(incoming.identity), said));
            }
            translating::Event::Interaction(click) => {
                let said = Said { text: click.value, name: None, attachments: Vec::new(), notes: None };
                return Some((claim(click.identity), said));
            }
            translating::Event::Edit(_) => "edit",
            translating::Event::Deletion(_) => "deletion",
            translating::Event::Status(_) => "delivery status",
            translating::Event::Ignored(reason) => {
                tracing::debug!(channel = %self.name, reason = words::reason(&reason), "event ignored by the adapter");
                "by the adapter"
            }
        };
        self.ignored(why);
        None
    }

    fn arrival(
        &self,
        tenant: &TenantId,
        identity: Identity,
        said: Said,
        now: Millis,
    ) -> Result<Arrival, Error> {
        if said.text.len() > TEXT_BYTES_MAX {
            let reason = format!("a message has at most {TEXT_BYTES_MAX} bytes of text");
            return Err(self.refuse(Refusal::TooLarge, reason));
        }
        if said.notes.as_ref().is_some_and(|notes| notes.len() > NOTES_BYTES_MAX) {
            return Err(self.forged("notes over their limit"));
        }
        let message = Message {
            id: TurnId::new(),
            channel: self.name.clone(),
            place: identity.place.clone(),
            sender: Person {
                id: identity.sender.clone(),
                name: said
                    .name
                    .map(|name| name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()),
                // Whoever opens a web chat is anybody; the operator's own terminal is not.
                outsider: identity.outsider || (self.is_web_chat() && !self.config.operator),
            },
            text: said.text.replace('\0', ""),
            attachments: said
                .attachments
                .into_iter()
                .map(|file| Attachment { name: file.name, media_type: file.media_type, size: file.size })
                .collect(),
            received: now,
        };
        let echo = self.is_web_chat().then(|| self.echo(&message));
        Ok(Arrival { tenant: tenant.clone(), identity, message, notes: said.notes, echo })
    }

    /// What a web chat shows of the message in every window of its session; kept together with it.
    fn echo(&self, message: &Message) -> StreamEvent {
        let event =
            serde_json::json!({ "kind": "said", "turn": message.id.to_string(), "text": message.text });
        StreamEvent { session: session_key(&self.name, &message.sender.id), event: event.to_string() }
    }

    fn acknowledge(&self, said: translating::Acknowledgement) -> Result<Acknowledgement, Error> {
        let response = match said {
            translating::Acknowledgement::Plain => return Ok(Acknowledgement::plain()),
            translating::Acknowledgement::Now(response) => response,
            translating::Acknowledgement::Deferred(deferral) => deferral.fallback,
        };
        if !(200..500).contains(&response.status) || response.body.len() > TEXT_BYTES_MAX {
            return Err(self.forged("an acknowledgement"));
        }
        let headers = response
            .headers
            .into_iter()
            .filter(|header| header.name == "content-type")
            .map(|header| (header.name, header.value))
            .collect();
        Ok(Acknowledgement { status: response.status, headers, body: response.body })
    }

    fn ignored(&self, why: &'static str) {
        metrics::counter!("events_ignored_total", "channel" => self.name.to_string(), "why" => why)
            .increment(1);
    }

    fn refuse(&self, kind: Refusal, reason: String) -> Error {
        Error::Refused { channel: self.name.clone(), kind, reason }
    }

    fn malformed(&self, reason: &str) -> Error {
        self.refuse(Refusal::Malformed, words::short(reason, 200))
    }

    fn forged(&self, what: &'static str) -> Error {
        metrics::counter!("channel_forgeries_total", "channel" => self.name.to_string()).increment(1);
        Error::Forged { channel: self.name.clone(), what }
    }
}

/// What an event says, beside who says it.
struct Said {
    text: String,
    name: Option<String>,
    attachments: Vec<contract::types::Attachment>,
    notes: Option<String>,
}

/// A channel component sees the time of the call and no randomness worth the name: it is a function.
pub(crate) fn options(now: Millis, purpose: &[u8]) -> CallOptions {
    let seed = chela_types::Digest::of("chela channel seed", &[purpose, &now.0.to_le_bytes()]);
    CallOptions { started: now, seed: *seed.as_bytes(), deadline: None }
}
