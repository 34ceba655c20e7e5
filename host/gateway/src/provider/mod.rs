//! Providers: whoever turns prompts into text.
//!
//! Three kinds exist: over HTTP (three wire formats), scripted, and a model of vectors in this program.
//! Each attempt says two things besides its result: whether the request may have reached the provider ([`Ask::sent`]) and, when it fails, whether the
//! provider may bill it ([`Trouble::billed`]). The ledger's promise stands on these two answers.

mod anthropic;
mod chat;
mod embeddings;
mod http;
mod local;
mod place;
mod places;
mod responses;
pub mod scripted;
mod sent;
mod sse;

pub(crate) use embeddings::{DIMS_MAX, Embed, Embedded};
pub(crate) use http::{Wire, decoded};
pub(crate) use local::Local;
pub use local::LocalModel;
pub(crate) use sent::Sent;

use chela_egress::Egress;
use chela_types::{Finish, Usage};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::config::{Config, Provider, ProviderKind};
use crate::plan::{Backends, SharedClock};
use crate::{Call, Error, Kind, OpenAiWire, ToolDelta, ToolResult};
use chela_types::Tokens;

/// One attempt at one model.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The call.
    pub(crate) call: Arc<Call>,
    /// The provider's name of the model.
    pub(crate) model: String,
    /// Most output tokens, as reserved.
    pub(crate) max_output: Tokens,
    /// Whole time.
    pub(crate) total: Duration,
    /// How far it has come, so that a caller who gives up knows what it gives up.
    pub(crate) sent: Sent,
}

/// What a provider tells while it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text.
    Text(String),
    /// A fragment of a tool call, as the stream has it: nobody has looked yet whether it fits those before.
    Tool(ToolDelta),
    /// It is at work (it thinks aloud), and has said nothing yet that is part of the answer.
    Alive,
    /// Its own count so far; the last one holds.
    Usage(Usage),
    /// Why it stopped. Without this an answer is not whole.
    Finish(Finish),
    /// The wire format's own mark that nothing follows, whether or not the connection ends with it.
    End,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    /// The provider may bill it.
    pub(crate) billed: bool,
    /// What it counted, if it did.
    pub(crate) usage: Option<Box<Usage>>,
    pub(crate) cause: Option<Box<chela_egress::Error>>,
    /// It waited for its turn among this host's own requests: that says nothing of the provider.
    pub(crate) is_ours: bool,
}

impl Trouble {
    /// An answer may be cut for reasons that have yet to be invented; it is not taken for a whole one.
    pub(crate) const UNKNOWN_END: Self = Self::bad("why it ended is not known");

    /// Too many of this host's own requests are under way there.
    pub(crate) const QUEUED: Self = Self {
        kind: Kind::RateLimited { retry_after: Duration::from_secs(1) },
        billed: false,
        usage: None,
        cause: None,
        is_ours: true,
    };

    pub(crate) const fn new(kind: Kind, billed: bool) -> Self {
        Self { kind, billed, usage: None, cause: None, is_ours: false }
    }

    /// The wire format was not met; the provider did work for it.
    pub(crate) const fn bad(what: &'static str) -> Self {
        Self::new(Kind::BadResponse { what }, true)
    }

    /// As an error.
    pub(crate) fn told(self) -> Error {
        let error = Error::new(self.kind);
        match self.cause {
            Some(cause) => error.because(*cause),
            None => error,
        }
    }
}

/// A count of tokens. One that is no whole number (`-1`, `"many"`) is the largest there is, which no bound allows:
/// so it is charged at the bound, and the event that it stands in is still read.
pub(crate) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let given = Value::deserialize(from)?;
    Ok((!given.is_null()).then(|| given.as_u64().unwrap_or(u64::MAX)))
}

/// An object of a request. What is in it is written as it is given: a schema keeps its order.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Object(BTreeMap<&'static str, Box<RawValue>>);

impl Object {
    /// Writes a field, unless there is none. It is text from here on, and not made into one again with the whole.
    pub(crate) fn put(&mut self, name: &'static str, value: Option<impl Serialize>) {
        let value = value.and_then(|value| to_raw_value(&value).ok());
        self.0.extend(value.map(|value| (name, value)));
    }

    /// The same with a field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.put(name, Some(value));
        self
    }

    /// As JSON.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A tool's answer for formats that cannot say that it failed.
pub(crate) fn told(result: &ToolResult) -> Cow<'_, str> {
    if result.is_error { Cow::Owned(format!("Error: {}", result.text)) } else { Cow::Borrowed(&result.text) }
}

/// The pieces of one attempt.
pub(crate) type Pieces = BoxStream<'static, Result<Piece, Trouble>>;

/// A provider.
pub(crate) trait Backend: Send + Sync {
    /// Starts an attempt.
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>>;

    /// Makes vectors of texts. Most wire formats have none.
    fn embed(&self, _ask: Embed) -> BoxFuture<'_, Result<Embedded, Trouble>> {
        Box::pin(async { Err(Trouble::new(Kind::Unsupported { what: "vectors" }, false)) })
    }
}

/// Connects every configured provider, under its name.
pub(crate) fn backends(config: &Config, egress: &Egress, clock: &SharedClock) -> Backends {
    let connect = |provider: &Provider| -> Arc<dyn Backend> {
        let remote = |place: place::Place, key: &Option<SecretString>| {
            http::Remote::new(place, key.clone(), provider.limits, (egress.clone(), clock.clone()))
        };
        match &provider.kind {
            ProviderKind::OpenAi { url, key, wire } => {
                Arc::new(remote(place::Place::openai(url, openai(*wire)), key))
            }
            ProviderKind::Azure { url, key, wire, api_version } => {
                Arc::new(remote(place::Place::azure(url, openai(*wire), api_version.as_deref()), key))
            }
            ProviderKind::Anthropic { url, key, prompt_cache } => {
                let wire = Wire::Messages { prompt_cache: *prompt_cache };
                Arc::new(remote(place::Place::anthropic(url, wire), key))
            }
            ProviderKind::Scripted(script) => Arc::new(scripted::Scripted::new(script.clone())),
        }
    };
    let named = |provider: &Provider| {
        let account = Account::new(&provider.name, &provider.limits);
        (provider.name.clone(), (connect(provider), Arc::new(account)))
    };
    config.providers.iter().map(named).collect()
}

const fn openai(wire: OpenAiWire) -> Wire {
    match wire {
        OpenAiWire::Chat => Wire::Chat,
        OpenAiWire::Responses => Wire::Responses,
    }
}

#[cfg(test)]
mod ask_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod wire_tests;
