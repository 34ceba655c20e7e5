//! The channel's component, called: `receive`, `render`, `update`, `sent`. Nothing is decided here.

use chela_egress::Response;
use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions};
use chela_types::{Millis, Target};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::station::ChannelStation;
use super::verify::Verified;
use crate::contract::translating;
use crate::error::Error;

/// Headers that an adapter has no business with.
const HIDDEN_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-forwarded-for", SESSION_HEADER];
/// Where an adapter of the web chat finds the id of the host's own session; a client's own is dropped.
const SESSION_HEADER: &str = "chela-session";
/// Longest response body that is shown to an adapter.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

type Step = Result<translating::Step, translating::RenderingError>;

impl ChannelStation {
    /// What the component makes of a verified request.
    pub(super) async fn translate(
        &self,
        verified: &Verified,
        now: Millis,
    ) -> Result<Result<translating::Inbound, translating::Rejection>, Error> {
        let webhook = &verified.webhook;
        let shown = |(name, _): &&(String, String)| !HIDDEN_HEADERS.contains(&name.as_str());
        let mut headers: Vec<_> = webhook.headers.iter().filter(shown).map(header).collect();
        if let Some(session) = &verified.session {
            headers.push(header(&(SESSION_HEADER.to_owned(), session.clone())));
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
        match self.plugin.ask((), options(now, b"receive"), Ask::Receive(frame, surroundings)).await? {
            Said::Received(inbound) => Ok(inbound),
            Said::Step(_) => Err(self.another_answer()),
        }
    }

    /// The first step of an answer, or the one that the state says.
    pub(super) async fn render(
        &self,
        outgoing: translating::Outgoing,
        target: translating::Target,
        state: Option<String>,
        at: Millis,
    ) -> Result<translating::Step, Error> {
        self.step(b"render", Ask::Render(outgoing, target, state), at).await
    }

    /// The first step of a draft, or of the answer in its place.
    pub(super) async fn update(
        &self,
        outgoing: translating::Outgoing,
        target: translating::Target,
        revision: translating::Revision,
        at: Millis,
    ) -> Result<translating::Step, Error> {
        self.step(b"update", Ask::Update(outgoing, target, revision), at).await
    }

    /// What the component makes of a platform's response.
    pub(super) async fn sent(
        &self,
        state: String,
        response: &Response,
        at: Millis,
    ) -> Result<translating::Step, Error> {
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            Some(translating::Header { name: name.to_string(), value: value.to_str().ok()?.to_owned() })
        };
        let response = translating::Response {
            status: response.status.as_u16(),
            headers: response.headers.iter().filter_map(shown).collect(),
            body: response.body.iter().copied().take(RESPONSE_BYTES_MAX).collect(),
        };
        self.step(b"sent", Ask::Sent(state, response), at).await
    }

    async fn step(&self, purpose: &[u8], ask: Ask, at: Millis) -> Result<translating::Step, Error> {
        let Said::Step(step) = self.plugin.ask((), options(at, purpose), ask).await? else {
            return Err(self.another_answer());
        };
        match step {
            Ok(step) => Ok(step),
            Err(translating::RenderingError::Unsuitable(reason)) => Ok(translating::Step::Permanent(reason)),
            Err(translating::RenderingError::Other(reason)) => {
                Err(Error::reported(format!("channel `{}`", self.name), &reason, false))
            }
        }
    }

    /// No guest can answer another question than it was asked; a worker that somebody has taken over can.
    fn another_answer(&self) -> Error {
        Error::reported(format!("channel `{}`", self.name), "its worker answers what was not asked", false)
    }
}

/// What a channel is asked.
#[derive(Debug, Serialize, Deserialize)]
#[allow(unreachable_pub, reason = "named by the kind, which is public")]
pub enum Ask {
    /// `receive`.
    Receive(translating::Frame, translating::Surroundings),
    /// `render`.
    Render(translating::Outgoing, translating::Target, Option<String>),
    /// `sent`.
    Sent(String, translating::Response),
    /// `update`.
    Update(translating::Outgoing, translating::Target, translating::Revision),
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[allow(unreachable_pub, reason = "named by the kind, which is public")]
pub enum Said {
    /// To `receive`.
    Received(Result<translating::Inbound, translating::Rejection>),
    /// To all others.
    Step(Step),
}

/// Calls the export that is asked for.
pub(super) async fn run(
    translating: &translating::Guest,
    store: &mut Sandboxed<Call<()>>,
    ask: Ask,
) -> wasmtime::Result<Said> {
    let ask = store.data_mut().hand(ask)?;
    match &ask {
        Ask::Receive(frame, surroundings) => {
            translating.call_receive(store, frame, surroundings).await.map(Said::Received)
        }
        Ask::Render(outgoing, target, state) => {
            translating.call_render(store, outgoing, target, state.as_deref()).await.map(Said::Step)
        }
        Ask::Sent(state, response) => translating.call_sent(store, state, response).await.map(Said::Step),
        Ask::Update(outgoing, target, revision) => {
            translating.call_update(store, outgoing, target, revision).await.map(Said::Step)
        }
    }
}

/// The contract's target.
pub(super) fn target(target: &Target, waits: bool) -> translating::Target {
    let bound = target.bound.iter().map(|(name, value)| header(&(name.clone(), value.clone()))).collect();
    translating::Target { bound, notes: target.notes.clone(), waits }
}

fn header((name, value): &(String, String)) -> translating::Header {
    translating::Header { name: name.clone(), value: value.clone() }
}

/// A channel component is a function: it sees a time that belongs to what it works on (of an answer, when it was kept),
/// so that a repetition sees the same, and no randomness worth the name.
fn options(now: Millis, purpose: &[u8]) -> CallOptions {
    let seed = chela_types::Digest::of("chela channel seed", &[purpose, &now.0.to_le_bytes()]);
    CallOptions { started: now, seed: *seed.as_bytes(), deadline: None, patience: 1 }
}
