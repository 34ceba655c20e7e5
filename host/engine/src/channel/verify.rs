//! Proof that a request comes from the platform (or from a session that this host issued). Only a
//! [`Verified`] reaches a component.

use bytes::Bytes;
use chela_types::{ChannelId, Millis, signature};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;

use super::identity::only;
use super::manifest::{Tables, Timestamp, Verify};
use super::session::Sessions;
use crate::error::{Error, Refusal};
use crate::words;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Upper case.
    pub method: String,
    /// What follows the channel's address; `/` at least.
    pub path: String,
    /// Without the `?`.
    pub query: String,
    /// Names in lower case, in order, repeated ones repeated.
    pub headers: Vec<(String, String)>,
    /// The raw bytes.
    pub body: Bytes,
    /// The value of the session cookie, for channels of the host's own web chat.
    pub session: Option<String>,
}

/// A request that has proved its origin.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) webhook: Webhook,
    /// The host's own session id.
    pub(crate) session: Option<String>,
    /// The body is a form.
    pub(crate) is_form: bool,
}

/// What verification needs to know of a channel.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) channel: &'a ChannelId,
    pub(crate) tables: &'a Tables,
    pub(crate) secrets: &'a BTreeMap<String, SecretString>,
    pub(crate) sessions: &'a Sessions,
}

impl Gate<'_> {
    /// Checks method, type, size and origin, in this order; nothing has been run or kept when it refuses.
    pub(crate) fn verify(&self, webhook: Webhook, now: Millis) -> Result<Verified, Error> {
        let accept = &self.tables.accept;
        if !accept.methods.contains(&webhook.method) {
            return Err(self.refuse(Refusal::Method, format!("method {} is not accepted", webhook.method)));
        }
        if webhook.body.len() > accept.body_bytes_max {
            return Err(self.refuse(Refusal::TooLarge, format!("body over {} bytes", accept.body_bytes_max)));
        }
        let session = match &self.tables.verify {
            Verify::Hmac { secret, recipe, timestamp } => {
                self.fresh(&webhook, timestamp, now)?;
                self.signed(&webhook, secret, recipe)?;
                None
            }
            Verify::Session => Some(self.session(&webhook)?),
        };
        let content_type = only(&webhook.headers, "content-type").unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !accept.content_types.contains(&essence) {
            return Err(
                self.refuse(Refusal::ContentType, format!("content type `{essence}` is not accepted"))
            );
        }
        Ok(Verified { webhook, session, is_form: essence == "application/x-www-form-urlencoded" })
    }

    fn fresh(&self, webhook: &Webhook, timestamp: &Timestamp, now: Millis) -> Result<(), Error> {
        let stale = || {
            self.refuse(Refusal::Unverified, "timestamp is missing, not a number, or too far away".to_owned())
        };
        let text = only(&webhook.headers, &timestamp.header).ok_or_else(stale)?;
        if text.is_empty() || text.len() > 15 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(stale());
        }
        let signed_s: i64 = text.parse().map_err(|_| stale())?;
        let distance_s = (now.0 / 1_000).abs_diff(signed_s);
        if distance_s > u64::from(timestamp.tolerance_s) { Err(stale()) } else { Ok(()) }
    }

    fn signed(&self, webhook: &Webhook, secret: &str, recipe: &signature::Recipe) -> Result<(), Error> {
        let secret = self.secrets.get(secret).ok_or_else(|| {
            Error::Configuration(format!(
                "chela.toml: [channel.{}] secrets lacks `{secret}`, which the adapter's [verify] names",
                self.channel
            ))
        })?;
        recipe
            .verify(secret.expose_secret(), &webhook.body, |name| only(&webhook.headers, name))
            .map_err(|error| self.refuse(Refusal::Unverified, error.to_string()))
    }

    fn session(&self, webhook: &Webhook) -> Result<String, Error> {
        webhook
            .session
            .as_deref()
            .and_then(|token| self.sessions.read(self.channel, token))
            .ok_or_else(|| self.refuse(Refusal::Unverified, "no session of this host".to_owned()))
    }

    pub(crate) fn refuse(&self, kind: Refusal, reason: String) -> Error {
        // It may repeat a header, and is read at a terminal.
        Error::Refused { channel: self.channel.clone(), kind, reason: words::reason(&reason) }
    }
}
