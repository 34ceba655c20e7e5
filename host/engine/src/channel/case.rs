//! An adapter as its author's cases ask it: one request that is verified and read, or one answer up to where it would be
//! sent, with responses that the case has. The same checks as in production; no socket.

use bytes::Bytes;
use chela_egress::Response;
use chela_types::{Millis, OutboxId, Target, TenantId};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::component;
use super::identity::only;
use super::inward::{self, Received};
use super::manifest::Verify;
use super::request::{Allowed, Bounds};
use super::station::ChannelStation;
use super::verify::Webhook;
use crate::cases::{Answered, Requested, Responded, failed, without_nulls};
use crate::contract::{self, translating};
use crate::error::Error;

/// The web session of whoever writes to the host's own web chat in a case.
const SESSION: &str = "visitor";
/// What of a request's body that is no JSON is told.
const TEXT_BYTES_MAX: usize = 4 * 1024;

impl ChannelStation {
    /// What comes of a request: what would be kept, or why it is refused.
    pub(crate) async fn read(&self, requested: &Requested, tenant: &TenantId) -> Result<Value, Error> {
        let webhook = self.webhook(requested)?;
        let received = match self.verify(webhook) {
            Ok(verified) => self.receive(verified, tenant).await,
            Err(error) => Err(error),
        };
        match received {
            Ok(received) => Ok(told(received)),
            Err(Error::Refused { reason, .. }) => Ok(json!({ "refused": reason })),
            Err(error @ Error::Forged { .. }) => Ok(json!({ "forged": error.to_string() })),
            Err(Error::Reported { reason, .. }) => Ok(json!({ "failed": "reported", "why": reason })),
            Err(error) => failed(error),
        }
    }

    /// The request with the signature of its platform, or with a session of this host.
    fn webhook(&self, requested: &Requested) -> Result<Webhook, Error> {
        let Requested { method, path, query, headers, body, signed } = requested.clone();
        let mut webhook = Webhook { method, path, query, headers, body: Bytes::from(body), session: None };
        if !signed {
            return Ok(webhook);
        }
        match &self.tables.verify {
            Verify::Session => webhook.session = Some(self.sessions.token(&self.name, SESSION)),
            Verify::Hmac { secret, recipe, timestamp } => {
                let seconds = self.clock.now().0 / 1_000;
                webhook.headers.push((timestamp.header.clone(), seconds.to_string()));
                let secret = self.secret(secret).map(ExposeSecret::expose_secret).unwrap_or_default();
                let header = |name: &str| only(&webhook.headers, name);
                let signature = recipe.sign(secret, &webhook.body, header).map_err(|error| {
                    Error::Configuration(format!("the request of the case cannot be signed: {error}"))
                })?;
                webhook.headers.push((recipe.header.clone(), signature));
            }
        }
        Ok(webhook)
    }

    /// What comes of an answer: the requests that would be sent, and how it ends.
    pub(crate) async fn say(&self, answered: &Answered, steps_max: usize) -> Result<Value, Error> {
        let at = self.clock.now();
        let mut requests = Vec::new();
        let end = match self.steps(answered, (steps_max, at), &mut requests).await {
            Ok(end) => end,
            Err(Error::ForbiddenRequest { reason, .. }) => json!({ "end": "forbidden", "reason": reason }),
            Err(Error::Reported { reason, .. }) => json!({ "end": "failed", "reason": reason }),
            Err(error) => failed(error)?,
        };
        let mut told = without_nulls(end);
        if let Value::Object(told) = &mut told {
            told.insert("requests".to_owned(), requests.into());
        }
        Ok(told)
    }

    async fn steps(
        &self,
        answered: &Answered,
        (steps_max, at): (usize, Millis),
        requests: &mut Vec<Value>,
    ) -> Result<Value, Error> {
        let target = Target { bound: answered.target.clone(), notes: answered.notes.clone() };
        let outgoing = translating::Outgoing {
            id: OutboxId::new().to_string(),
            agent: answered.agent.to_string(),
            reply: contract::reply_out(&answered.reply),
        };
        let mut responses = answered.responses.iter();
        let mut step = self.render(outgoing, component::target(&target, answered.waits), None, at).await?;
        for _ in 0..steps_max {
            let outbound = match step {
                translating::Step::Done(platform_id) => {
                    return Ok(json!({ "end": "done", "platform_id": platform_id }));
                }
                translating::Step::Permanent(reason) => {
                    return Ok(json!({ "end": "given up", "reason": reason }));
                }
                translating::Step::Retry(after_ms) => {
                    return Ok(json!({ "end": "later", "after_ms": after_ms }));
                }
                translating::Step::Next(outbound) => outbound,
            };
            let endpoint = outbound.request.endpoint.clone();
            let allowed =
                self.allow(&outbound, Bounds { target: &target, post: None, id: OutboxId::new() })?;
            match allowed {
                Allowed::Http { request, .. } => {
                    let headers: serde_json::Map<_, _> = (request.headers.iter())
                        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())))
                        .collect();
                    requests.push(json!({
                        "endpoint": endpoint,
                        "method": request.method.as_str(),
                        "url": request.url.as_str(),
                        "headers": headers,
                        "body": body(&request.body),
                    }));
                }
                Allowed::Stream(event) => {
                    requests.push(json!({ "endpoint": endpoint, "body": event }));
                    return Ok(json!({ "end": "done" }));
                }
                Allowed::Response(response) => {
                    requests.push(json!({ "endpoint": endpoint, "body": body(&response) }));
                    return Ok(json!({ "end": "done" }));
                }
            }
            step = self.sent(outbound.state, &response(responses.next())?, at).await?;
        }
        Ok(json!({ "end": "given up", "reason": format!("it asks for more than {steps_max} requests") }))
    }
}

/// A body as whoever reads a case would write it.
fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes)).into_owned();
        text.into()
    })
}

/// What the platform responds: as the case says, or plainly that all is well.
fn response(responded: Option<&Responded>) -> Result<Response, Error> {
    let plain = Responded { status: 200, headers: Vec::new(), body: Vec::new() };
    let Responded { status, headers, body } = responded.unwrap_or(&plain);
    let wrong = |what: &str| Error::Configuration(format!("a response of the case has no sound {what}"));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("header"))?;
        map.append(name, HeaderValue::from_str(value).map_err(|_| wrong("header"))?);
    }
    let status = StatusCode::from_u16(*status).map_err(|_| wrong("status"))?;
    Ok(Response { status, headers: map, body: body.clone().into() })
}

fn told(received: Received) -> Value {
    let Received { arrivals, changes, receipts, response, .. } = received;
    let messages: Vec<_> = (arrivals.into_iter())
        .map(|arrival| {
            let identity = arrival.identity;
            without_nulls(json!({
                "text": arrival.message.text,
                "sender": identity.sender,
                "name": arrival.message.sender.name,
                "outsider": arrival.message.sender.outsider,
                "conversation": identity.conversation,
                "dedupe": identity.dedupe,
                "place": identity.place,
                "target": identity.target,
                "notes": arrival.notes,
                "attachments": arrival.message.attachments,
            }))
        })
        .collect();
    let changes: Vec<_> = (changes.into_iter())
        .map(|change| {
            let what = if change.text.is_some() { "edit" } else { "deletion" };
            without_nulls(json!({
                "what": what, "post": change.post, "sender": change.sender, "text": change.text,
            }))
        })
        .collect();
    let receipts: Vec<_> = (receipts.into_iter())
        .map(|receipt| json!({ "answer": receipt.platform_id, "state": receipt.state.word() }))
        .collect();
    let (now, waits) = match response {
        inward::Response::Now(now) => (now, None),
        inward::Response::Deferred { deadline, fallback } => (fallback, Some(deadline)),
    };
    without_nulls(json!({
        "status": now.status,
        "body": (!now.body.is_empty()).then(|| body(&now.body)),
        "waits_ms": waits.map(|waits| u64::try_from(waits.as_millis()).unwrap_or(u64::MAX)),
        "messages": messages,
        "changes": changes,
        "receipts": receipts,
    }))
}
