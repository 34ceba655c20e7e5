//! What may leave: an adapter's request goes to an endpoint of its manifest, names the stored target and no other,
//! and gets its credential or signature here.

use chela_egress::{Credential, Request, Signing};
use chela_types::{Digest, OutboxId, Target};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::json;
use super::manifest::{Endpoint, EndpointKind};
use super::station::ChannelStation;
use crate::contract::translating;
use crate::error::Error;
use crate::words;

/// Longest state of an adapter in bytes.
const STATE_BYTES_MAX: usize = 64 * 1024;

/// What a request is checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// Where the answer goes.
    pub(super) target: &'a Target,
    /// The turn's own progress post.
    pub(super) post: Option<&'a str>,
    /// The answer, or its draft.
    pub(super) id: OutboxId,
}

/// A request that may leave.
#[derive(Debug)]
pub(super) enum Allowed {
    /// Over the network. An edit of the turn's progress post changes nothing if it is made twice.
    Http { request: Box<Request>, is_edit: bool },
    /// As an event of the host's own web chat.
    Stream(serde_json::Value),
    /// As the response to the platform's own request.
    Response(Vec<u8>),
}

impl ChannelStation {
    /// Checks what an adapter wants to send.
    pub(super) fn allow(
        &self,
        outbound: &translating::Outbound,
        bounds: Bounds<'_>,
    ) -> Result<Allowed, Error> {
        let asked = &outbound.request;
        if outbound.state.len() > STATE_BYTES_MAX {
            return Err(self.forbidden("its state is over the limit"));
        }
        let endpoint = self.endpoint(&asked.endpoint)?;
        let body = json::read(&asked.body)
            .map_err(|error| self.forbidden(&format!("its body is not JSON: {error}")))?;
        if endpoint.kind == EndpointKind::Response {
            // It goes to whoever asked: there is no other target to name.
            return Ok(Allowed::Response(asked.body.clone()));
        }
        self.check_target(&body, bounds.target)?;
        if endpoint.kind == EndpointKind::Stream {
            return Ok(Allowed::Stream(body));
        }
        let is_edit = self.is_edit(&asked.endpoint, &body, bounds.post)?;
        let mut request = self.request(endpoint, asked.body.clone())?;
        request.headers = self.headers(endpoint, asked)?;
        // The target was checked in JSON; read as anything else, the same bytes could name another.
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        if let Some(sign) = &endpoint.sign {
            let body = Digest::of("chela webhook body", &[&asked.body]);
            request.sign = self.secret(&sign.standard_webhooks).map(|secret| Signing::StandardWebhooks {
                id: format!("msg_{}_{}", bounds.id, body.short()),
                at: self.clock.now(),
                secret: secret.clone(),
            });
        }
        Ok(Allowed::Http { request: Box::new(request), is_edit })
    }

    fn endpoint(&self, name: &str) -> Result<&Endpoint, Error> {
        let own = self.tables.own.as_ref().is_some_and(|own| own.endpoint == name);
        self.tables.endpoint.get(name).filter(|_| !own).ok_or_else(|| {
            self.forbidden(&format!("`{}` is no endpoint of its manifest", words::short(name, 64)))
        })
    }

    /// Every bound place must hold the stored target and nothing else.
    fn check_target(&self, body: &serde_json::Value, target: &Target) -> Result<(), Error> {
        for bind in &self.tables.bind {
            let stored = target.bound.get(&bind.name);
            let same = match (body.pointer(&bind.pointer), stored) {
                (Some(found), Some(stored)) => found.as_str() == Some(stored),
                (None, _) => bind.optional,
                (Some(_), None) => false,
            };
            if !same {
                return Err(self.misdirected(&bind.pointer, "the stored target"));
            }
        }
        Ok(())
    }

    /// The endpoint that edits is there for the turn's own progress post alone: any other id could be an answer to
    /// somebody else.
    fn is_edit(&self, name: &str, body: &serde_json::Value, post: Option<&str>) -> Result<bool, Error> {
        let Some(progress) = self.tables.progress.as_ref().filter(|progress| progress.endpoint == name)
        else {
            return Ok(false);
        };
        let found = body.pointer(&progress.id).and_then(serde_json::Value::as_str);
        match (found, post) {
            (Some(found), Some(post)) if found == post => Ok(true),
            _ => Err(self.misdirected(&progress.id, "the turn's own post")),
        }
    }

    fn misdirected(&self, pointer: &str, whose: &str) -> Error {
        metrics::counter!("channel_forgeries_total", "channel" => self.name.to_string()).increment(1);
        self.forbidden(&format!("`{pointer}` is not {whose}"))
    }

    /// A request to an endpoint with its credential, as the manifest says.
    pub(super) fn request(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<Request, Error> {
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

    pub(super) fn forbidden(&self, reason: &str) -> Error {
        Error::ForbiddenRequest { channel: self.name.clone(), reason: reason.to_owned() }
    }
}
