//! The channel station, outward: the component renders, the host checks the target, sends, and asks on.
//!
//! A request leaves only after the store has it marked as `sending`; its outcome is written behind it. So a
//! crash in between is known afterwards as an *ambiguous* send, and the channel's configuration says whether
//! it is made again.

use chela_egress::{Credential, Heard, Request, Response, Signing};
use chela_store::{Lease, Outgoing, Store, StreamEvent};
use chela_types::{Blame, ChannelId, Digest, Fault, OutboxId, Retry, Target};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::time::Duration;
use url::Url;

use super::json;
use super::manifest::{Endpoint, EndpointKind};
use super::station::{ChannelStation, options};
use crate::config::Ambiguous;
use crate::contract::{self, translating};
use crate::drafts::{Draft, Drafts};
use crate::error::Error;
use crate::words;

/// Longest state of an adapter in bytes.
const STATE_BYTES_MAX: usize = 64 * 1024;
/// Longest id of a platform's.
const PLATFORM_ID_BYTES_MAX: usize = 512;
/// Longest response body that is shown to an adapter.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// One answer on its way out.
pub(crate) struct Delivery<'a> {
    pub(crate) store: &'a Store,
    pub(crate) drafts: &'a Drafts,
    pub(crate) lease: &'a Lease,
    pub(crate) outgoing: &'a Outgoing,
    pub(crate) target: &'a Target,
    pub(crate) steps_max: usize,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The platform has it.
    Done,
    /// It will never be delivered; the turn is closed.
    GivenUp,
}

type Step = Result<translating::Step, translating::RenderingError>;

impl ChannelStation {
    /// Renders and sends until the component says it is done. Closes the turn.
    ///
    /// # Errors
    /// [`Error::Undelivered`] if it is to be tried again; the plugin's or the host's fault otherwise.
    pub(crate) async fn deliver(&self, delivery: Delivery<'_>) -> Result<Delivered, Error> {
        if delivery.outgoing.ambiguous > 0 && self.config.ambiguous == Ambiguous::AtMostOnce {
            return self
                .give_up(&delivery, "a crash hides whether it was sent, and the channel sends at most once")
                .await;
        }
        let mut step = self.render(&delivery).await?;
        for _ in 0..delivery.steps_max {
            match step {
                translating::Step::Done(platform_id) => {
                    let platform_id = platform_id.filter(|id| self.is_sound_id(id));
                    delivery.store.delivered(delivery.lease, delivery.outgoing.id, platform_id).await?;
                    return Ok(Delivered::Done);
                }
                translating::Step::Permanent(reason) => return self.give_up(&delivery, &reason).await,
                translating::Step::Retry(millis) => {
                    let reason = "the platform asks to wait".to_owned();
                    return Err(self.undelivered(reason, Some(Duration::from_millis(millis))));
                }
                translating::Step::Next(outbound) => match self.send(&delivery, outbound).await? {
                    Some(next) => step = next,
                    None => return Ok(Delivered::Done),
                },
            }
        }
        self.give_up(&delivery, "the adapter asks for more requests than one answer may take").await
    }

    /// Sends one request; the next step, or `None` if the host itself has delivered it.
    async fn send(
        &self,
        delivery: &Delivery<'_>,
        outbound: translating::Outbound,
    ) -> Result<Option<translating::Step>, Error> {
        let Delivery { store, lease, outgoing, .. } = delivery;
        let endpoint = self.endpoint(&outbound.request.endpoint)?;
        let body = self.bound(&outbound.request.body, delivery.target)?;
        if endpoint.kind == EndpointKind::Stream {
            self.tell_session(delivery, body).await?;
            return Ok(None);
        }
        if outbound.state.len() > STATE_BYTES_MAX {
            return Err(self.forbidden("its state is over the limit"));
        }
        let request = self.request(endpoint, &outbound.request, outgoing.id)?;
        store.sending(lease, outgoing.id, Some(outbound.state.clone())).await?;
        match self.egress.ask(request).await {
            // The status says whether it was taken, also if what should follow it was cut or too long.
            Ok(Heard { status, headers, body }) => {
                let is_whole = body.is_ok();
                let response = Response { status, headers, body: body.unwrap_or_default() };
                self.responded(delivery, outbound.state, (response, is_whole)).await.map(Some)
            }
            Err(error) if !error.reached() => {
                store.step_sent_behind(lease, outgoing.id, Some(outbound.state)).await?;
                self.later(&error)
            }
            Err(error) => self.unknown(error.to_string(), None).map(Some),
        }
    }

    /// What the component makes of a response. A step that writes its own end at once (`Done`, or `Next` with its
    /// `sending`) leaves the mark that a send is under way, so that a crash in between is counted; so does an answer
    /// of which it stays unknown whether the platform has taken it.
    async fn responded(
        &self,
        delivery: &Delivery<'_>,
        state: String,
        (response, is_whole): (Response, bool),
    ) -> Result<translating::Step, Error> {
        // A server that failed may have worked before it did; one that says 503 has not begun.
        let failed = response.status.is_server_error() && response.status != StatusCode::SERVICE_UNAVAILABLE;
        let has_it = response.status.is_success();
        let next = match self.sent(state.clone(), &response).await {
            // The component is a function: it may be asked again, where the platform must not be.
            Err(error) if error.blame() == Blame::Plugin => self.sent(state.clone(), &response).await,
            next => next,
        };
        let next = match next {
            Ok(translating::Step::Done(_) | translating::Step::Next(_)) => return next,
            Ok(translating::Step::Permanent(_)) if failed => return next,
            // Of a whole answer the component knows whether it says yes.
            Ok(translating::Step::Retry(millis)) if failed || (has_it && !is_whole) => {
                let reason = format!("the platform answered {}, and is to be asked again", response.status);
                return self.unknown(reason, Some(Duration::from_millis(millis)));
            }
            // What the platform has is not sent again for an adapter that cannot go on from there.
            Err(error) if has_it && error.blame() == Blame::Plugin => {
                Ok(translating::Step::Permanent(format!("the platform took a part, and then {error}")))
            }
            Err(error) if has_it || failed => {
                return self
                    .unknown(format!("the platform answered {}, and then {error}", response.status), None);
            }
            next => next,
        };
        delivery.store.step_sent_behind(delivery.lease, delivery.outgoing.id, Some(state)).await?;
        next
    }

    /// The platform may have the answer or not: as the channel's configuration says.
    fn unknown(&self, reason: String, after: Option<Duration>) -> Result<translating::Step, Error> {
        metrics::counter!("ambiguous_sends_total", "channel" => self.name.to_string()).increment(1);
        match self.config.ambiguous {
            Ambiguous::AtLeastOnce => Err(Error::Unknown { channel: self.name.clone(), reason, after }),
            Ambiguous::AtMostOnce => Ok(translating::Step::Permanent(format!(
                "it is unknown whether it was sent, and the channel sends at most once: {reason}"
            ))),
        }
    }

    fn later<T>(&self, error: &chela_egress::Error) -> Result<T, Error> {
        let after = match error.retry() {
            Retry::Later(after) if !after.is_zero() => Some(after),
            _ => None,
        };
        Err(self.undelivered(error.to_string(), after))
    }

    async fn render(&self, delivery: &Delivery<'_>) -> Result<translating::Step, Error> {
        let outgoing = translating::Outgoing {
            id: delivery.outgoing.id.to_string(),
            agent: delivery.outgoing.agent.to_string(),
            reply: contract::reply_out(&delivery.outgoing.reply),
        };
        let target = translating::Target {
            bound: delivery
                .target
                .bound
                .iter()
                .map(|(name, value)| translating::Header { name: name.clone(), value: value.clone() })
                .collect(),
            notes: delivery.target.notes.clone(),
        };
        let state = delivery.outgoing.state.clone();
        let step: Step = self
            .plugin
            .call((), options(self.clock.now(), b"render"), move |store, exports| {
                Box::pin(async move {
                    let translating = exports.chela_plugin_translating();
                    let (outgoing, target, state) =
                        store.data_mut().hand((&outgoing, &target, state.as_deref()))?;
                    translating.call_render(store, outgoing, target, state).await
                })
            })
            .await?;
        self.step(step)
    }

    async fn sent(&self, state: String, response: &Response) -> Result<translating::Step, Error> {
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            Some(translating::Header { name: name.to_string(), value: value.to_str().ok()?.to_owned() })
        };
        let response = translating::Response {
            status: response.status.as_u16(),
            headers: response.headers.iter().filter_map(shown).collect(),
            body: response.body.iter().copied().take(RESPONSE_BYTES_MAX).collect(),
        };
        let step: Step = self
            .plugin
            .call((), options(self.clock.now(), b"sent"), move |store, exports| {
                Box::pin(async move {
                    let (state, response) = store.data_mut().hand((&state, &response))?;
                    exports.chela_plugin_translating().call_sent(store, state, response).await
                })
            })
            .await?;
        self.step(step)
    }

    fn step(&self, step: Step) -> Result<translating::Step, Error> {
        match step {
            Ok(step) => Ok(step),
            Err(translating::RenderingError::Unsuitable(reason)) => Ok(translating::Step::Permanent(reason)),
            Err(translating::RenderingError::Other(reason)) => {
                Err(Error::reported(format!("channel `{}`", self.name), &reason, false))
            }
        }
    }

    fn endpoint(&self, name: &str) -> Result<&Endpoint, Error> {
        let own = self.tables.own.as_ref().is_some_and(|own| own.endpoint == name);
        self.tables.endpoint.get(name).filter(|_| !own).ok_or_else(|| {
            self.forbidden(&format!("`{}` is no endpoint of its manifest", words::short(name, 64)))
        })
    }

    /// The outgoing body, if every bound place holds the stored target and nothing else.
    fn bound(&self, body: &[u8], target: &Target) -> Result<serde_json::Value, Error> {
        let value =
            json::read(body).map_err(|error| self.forbidden(&format!("its body is not JSON: {error}")))?;
        for bind in &self.tables.bind {
            let stored = target.bound.get(&bind.name);
            let same = match (value.pointer(&bind.pointer), stored) {
                (Some(found), Some(stored)) => found.as_str() == Some(stored),
                (None, _) => bind.optional,
                (Some(_), None) => false,
            };
            if !same {
                metrics::counter!("channel_forgeries_total", "channel" => self.name.to_string()).increment(1);
                return Err(self.forbidden(&format!("`{}` is not the stored target", bind.pointer)));
            }
        }
        Ok(value)
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        asked: &translating::Request,
        id: OutboxId,
    ) -> Result<Request, Error> {
        let mut request = self.empty_request(endpoint, asked.body.clone())?;
        request.headers = self.headers(endpoint, asked)?;
        // The target was checked in JSON; read as anything else, the same bytes could name another.
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        if let Some(sign) = &endpoint.sign {
            let body = Digest::of("chela webhook body", &[&asked.body]);
            request.sign = self.secret(&sign.standard_webhooks).map(|secret| Signing::StandardWebhooks {
                id: format!("msg_{id}_{}", body.short()),
                at: self.clock.now(),
                secret: secret.clone(),
            });
        }
        Ok(request)
    }

    /// A request to an endpoint with its credential, as the manifest says.
    fn empty_request(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<Request, Error> {
        let method = Method::from_bytes(endpoint.method.as_bytes())
            .map_err(|_| self.forbidden(&format!("`{}` is no method", words::short(&endpoint.method, 64))))?;
        let mut request = Request::new(method, self.address(endpoint)?, body);
        if let Some(credential) = &endpoint.credential {
            request.credential = self.secret(&credential.bearer).cloned().map(Credential::Bearer);
        }
        Ok(request)
    }

    fn headers(&self, endpoint: &Endpoint, asked: &translating::Request) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for header in &asked.headers {
            if !endpoint.headers.contains(&header.name) {
                return Err(self.forbidden(&format!(
                    "header `{}` is not allowed by its manifest",
                    words::short(&header.name, 64)
                )));
            }
            let wrong =
                || self.forbidden(&format!("header `{}` is not well formed", words::short(&header.name, 64)));
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| wrong())?;
            headers.insert(name, HeaderValue::from_str(&header.value).map_err(|_| wrong())?);
        }
        Ok(headers)
    }

    /// An id is kept to be named again; what is no id, but has been sent, is done all the same.
    fn is_sound_id(&self, id: &str) -> bool {
        let is_sound = id.len() <= PLATFORM_ID_BYTES_MAX && !id.contains(char::is_control);
        if !is_sound {
            tracing::warn!(channel = %self.name, "the adapter returned a platform's id that is none");
        }
        is_sound
    }

    /// The endpoint's address with `{key}` replaced by the channel's configuration.
    pub(super) fn address(&self, endpoint: &Endpoint) -> Result<Url, Error> {
        let mut address = endpoint.url.clone();
        for (key, value) in &self.settings {
            if let Some(text) = value.as_str() {
                address = address.replace(&format!("{{{key}}}"), text);
            }
        }
        Url::parse(&address).map_err(|error| {
            Error::Configuration(format!(
                "chela.toml: [channel.{}.config] makes `{}` into no address: {error}",
                self.name, endpoint.url
            ))
        })
    }

    async fn tell_session(&self, delivery: &Delivery<'_>, event: serde_json::Value) -> Result<(), Error> {
        let session = delivery
            .target
            .bound
            .get("session")
            .ok_or_else(|| self.forbidden("a stream endpoint needs a bound `session`"))?;
        let event = StreamEvent { session: session_key(&self.name, session), event: event.to_string() };
        delivery.store.delivered_to_stream(delivery.lease, delivery.outgoing.id, event).await?;
        delivery.drafts.tell(&self.name, session, Draft::Kept);
        Ok(())
    }

    async fn give_up(&self, delivery: &Delivery<'_>, reason: &str) -> Result<Delivered, Error> {
        tracing::error!(channel = %self.name, turn = %delivery.lease.turn(), "answer is given up");
        metrics::counter!("undelivered_total", "channel" => self.name.to_string()).increment(1);
        let reason = words::reason(reason);
        delivery.store.give_up_delivery(delivery.lease, delivery.outgoing.id, &reason).await?;
        Ok(Delivered::GivenUp)
    }

    /// Asks the platform under which ids this account posts. `Ok(false)` if the manifest declares no way.
    pub(crate) async fn ask_own_ids(&self) -> Result<bool, Error> {
        let Some(own) = &self.tables.own else { return Ok(false) };
        let Some(endpoint) = self.tables.endpoint.get(&own.endpoint) else { return Ok(false) };
        let request = self.empty_request(endpoint, Vec::new())?.json();
        let response = self.egress.send(request).await?;
        let answer = json::read(&response.body).unwrap_or_default();
        let ids: Vec<String> = own
            .ids
            .iter()
            .filter_map(|pointer| answer.pointer(pointer)?.as_str().map(ToOwned::to_owned))
            .collect();
        if ids.is_empty() {
            let reason = format!("`{}` did not tell the account's own id", own.endpoint);
            return Err(self.undelivered(reason, None));
        }
        self.learn_own_ids(ids);
        Ok(true)
    }

    fn undelivered(&self, reason: String, after: Option<Duration>) -> Error {
        Error::Undelivered { channel: self.name.clone(), reason, after }
    }

    fn forbidden(&self, reason: &str) -> Error {
        Error::ForbiddenRequest { channel: self.name.clone(), reason: reason.to_owned() }
    }
}

/// A session's name in the store: sessions of two channels never meet.
pub(crate) fn session_key(channel: &ChannelId, session: &str) -> String {
    format!("{channel}/{session}")
}
