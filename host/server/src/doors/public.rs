//! The public listener: webhooks of platforms, the web chat's page, clients with keys, and two answers for load balancers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bytes::Bytes;
use chela_engine::{Acknowledgement, Engine, Webhook};
use chela_store::Store;
use chela_types::{ChannelId, Clock, Millis, TenantId};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::bounds::{Bounds, Gates, StreamSeat};
use super::error::Error;
use super::listener::Peer;
use super::shares::Shares;
use crate::front::{self, Clients};
use crate::reload::Standing;
use crate::webchat::{self, Setup};

/// What the public listener serves.
#[derive(Debug)]
pub struct Public {
    /// Whom messages go to.
    pub engine: Engine,
    /// Where the web chat's events are read.
    pub store: Store,
    /// The organisation.
    pub tenant: TenantId,
    /// What is told of the configuration.
    pub standing: Standing,
    /// Who may ask over `/v1`.
    pub clients: Clients,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How much at once.
    pub bounds: Bounds,
    /// What the pages of web chats say; a chat that is not named gets its channel's name.
    pub chats: BTreeMap<ChannelId, Setup>,
    /// Cancelled as soon as the host begins to stop.
    pub stop: CancellationToken,
}

/// The public listener's state.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) tenant: TenantId,
    standing: Standing,
    pub(crate) chats: BTreeMap<ChannelId, Setup>,
    pub(crate) stop: CancellationToken,
    pub(crate) clients: Clients,
    pub(crate) clock: Arc<dyn Clock>,
    /// When this listener began.
    pub(crate) since: Millis,
    /// Conversations in which a client waits for an agent: one message after the other.
    pub(crate) conversations: Shares<String>,
    gates: Gates,
}

impl Public {
    /// The routes.
    pub fn router(self) -> Router {
        let Self { engine, store, tenant, standing, clients, clock, bounds, chats, stop } = self;
        let gates = Gates::new(bounds);
        let (since, conversations) = (clock.now(), Shares::new(1));
        let doors = Arc::new(Doors {
            engine,
            store,
            tenant,
            standing,
            chats,
            stop,
            clients,
            clock,
            since,
            conversations,
            gates,
        });
        Router::new()
            .route("/", get(home))
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .route("/channels/{name}", any(channel))
            .route("/channels/{name}/", any(channel))
            .route("/channels/{name}/{*rest}", any(channel))
            .merge(front::routes())
            .fallback(async || Error::NotFound)
            .with_state(doors)
    }
}

/// Whoever opens the bare address most likely wants the chat, if there is just one.
async fn home(State(doors): State<Arc<Doors>>) -> Result<Response, Error> {
    let channels = doors.engine.channel_health().into_iter().map(|channel| channel.channel);
    let mut chats = channels.filter(|channel| doors.engine.is_web_chat(channel));
    match (chats.next(), chats.next()) {
        (Some(only), None) => Ok(found(&format!("/channels/{only}/"))),
        _ => Err(Error::NotFound),
    }
}

fn found(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::FOUND, [(LOCATION, path)]).into_response(),
        Err(_) => Error::NotFound.into_response(),
    }
}

/// Ready is who can keep a message: without that every webhook would get 503. A configuration that cannot be used
/// makes nobody unready: the one before serves. What is wrong with it is no stranger's business.
async fn ready(State(doors): State<Arc<Doors>>) -> (StatusCode, Json<Value>) {
    let (status, state) = match doors.stop.is_cancelled() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false => match doors.store.writable().await {
            Ok(()) => (StatusCode::OK, "ready"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store cannot write"),
        },
    };
    let is_invalid = doors.standing.invalid().is_some_and(|invalid| !invalid.of_host);
    let configuration = if is_invalid { "invalid" } else { "valid" };
    (status, Json(json!({ "state": state, "configuration": configuration })))
}

/// Everything below `/channels/`: the host's own chat, or a platform's request.
async fn channel(State(doors): State<Arc<Doors>>, request: Request) -> Result<Response, Error> {
    let seat = doors.gates.request(peer(&request))?;
    let address = Address::read(request.uri().path()).ok_or(Error::NotFound)?;
    let name = address.channel.clone();
    if !doors.engine.is_public(name.as_str()) {
        return Err(Error::NotFound);
    }
    if doors.engine.is_web_chat(name.as_str()) {
        // A stream outlives its request: it takes a seat of its own kind.
        return webchat::serve(&doors, address, request).await;
    }
    let response = doors.webhook(&name, address.rest, None, request).await?;
    drop(seat);
    Ok(acknowledged(response))
}

fn peer(request: &Request) -> Option<Peer> {
    request.extensions().get().copied()
}

/// `/channels/{channel}{rest}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) channel: ChannelId,
    /// `/` at least; `None` if the address ended with the channel's name.
    pub(crate) rest: Option<String>,
}

impl Address {
    fn read(path: &str) -> Option<Self> {
        let below = path.strip_prefix("/channels/")?;
        let (name, rest) = match below.split_once('/') {
            Some((name, rest)) => (name, Some(format!("/{rest}"))),
            None => (below, None),
        };
        Some(Self { channel: ChannelId::new(name).ok()?, rest })
    }
}

impl Doors {
    /// A seat for one stream of events, and how long it may be taken.
    pub(crate) fn stream(&self, session: &str, request: &Request) -> Result<(StreamSeat, Duration), Error> {
        Ok((self.gates.stream(session, peer(request))?, self.gates.bounds.stream_lifetime))
    }

    /// A seat for one request.
    pub(crate) fn seat(&self, request: &Request) -> Result<OwnedSemaphorePermit, Error> {
        self.gates.request(peer(request))
    }

    /// A request's body, within the bounds of this listener.
    pub(crate) async fn body(&self, request: Request) -> Result<Bytes, Error> {
        let (parts, body) = request.into_parts();
        let body = read(&parts.headers, body, self.gates.bounds.body_bytes_max);
        tokio::time::timeout(self.gates.bounds.request_timeout, body).await.map_err(|_| Error::TimedOut)?
    }

    /// A new session's token.
    pub(crate) fn new_session(&self, channel: &ChannelId, request: &Request) -> Result<String, Error> {
        self.gates.session(peer(request))?;
        let (_, token) = self.engine.new_session(channel);
        Ok(token)
    }

    /// Reads a request within its bounds and hands it to the engine. `session` is the cookie's value, and the
    /// id that it stands for.
    pub(crate) async fn webhook(
        &self,
        channel: &ChannelId,
        rest: Option<String>,
        session: Option<(String, String)>,
        request: Request,
    ) -> Result<Acknowledgement, Error> {
        let own = self.engine.body_bytes_max(channel.as_str()).unwrap_or(usize::MAX);
        let limit = own.min(self.gates.bounds.body_bytes_max);
        let work = async {
            let (parts, body) = request.into_parts();
            let body = read(&parts.headers, body, limit).await?;
            let mut headers = texts(&parts.headers);
            let session = session.map(|(token, id)| {
                headers.push((SESSION_HEADER.to_owned(), id));
                token
            });
            let webhook = Webhook {
                method: parts.method.as_str().to_owned(),
                path: rest.unwrap_or_else(|| "/".to_owned()),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                headers,
                body,
                session,
            };
            self.engine.receive(channel.as_str(), webhook).await.map_err(Error::from)
        };
        tokio::time::timeout(self.gates.bounds.request_timeout, work).await.map_err(|_| Error::TimedOut)?
    }
}

/// The header in which a web chat's component reads the session. Only the host writes it.
const SESSION_HEADER: &str = "chela-session";

/// The body, if it is not longer than `limit`; a longer one that says so is not read at all.
async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Error> {
    let said = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > limit as u64) {
        return Err(Error::TooLarge(limit));
    }
    to_bytes(body, limit).await.map_err(|error| {
        // axum tells of a passed limit only in the cause of its error.
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            if error.to_string().contains("length limit") {
                return Error::TooLarge(limit);
            }
            cause = error.source();
        }
        Error::Body
    })
}

/// Headers as text, in order. One that is not UTF-8 becomes one that no signature matches.
fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().filter(|(name, _)| name.as_str() != SESSION_HEADER).map(text).collect()
}

/// The platform's answer.
pub(crate) fn acknowledged(said: Acknowledgement) -> Response {
    let mut response = Response::new(Body::from(said.body));
    *response.status_mut() = StatusCode::from_u16(said.status).unwrap_or(StatusCode::OK);
    for (name, value) in said.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_channel_and_the_rest() {
        let read = |path: &str| Address::read(path).map(|a| (a.channel.to_string(), a.rest));
        assert_eq!(read("/channels/slack"), Some(("slack".into(), None)));
        assert_eq!(read("/channels/slack/"), Some(("slack".into(), Some("/".into()))));
        assert_eq!(read("/channels/slack/a/b"), Some(("slack".into(), Some("/a/b".into()))));
        for bad in ["/channels/", "/channels//x", "/channels/Ä", "/channels/%73lack", "/other"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_obeys_its_limit() {
        assert_eq!(read(&HeaderMap::new(), Body::from("1234"), 4).await.unwrap(), "1234");
    }

    #[tokio::test]
    async fn a_body_violates_its_limit() {
        assert!(matches!(read(&HeaderMap::new(), Body::from("12345"), 4).await, Err(Error::TooLarge(4))));
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("5"))]);
        let unread = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(matches!(read(&headers, unread, 4).await, Err(Error::TooLarge(4))));
    }

    #[test]
    fn nobody_outside_writes_the_session_header() {
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static(SESSION_HEADER), HeaderValue::from_static("someone-else")),
            (HeaderName::from_static("x-a"), HeaderValue::from_bytes(b"\xff").unwrap()),
        ]);
        assert_eq!(texts(&headers), [("x-a".to_owned(), "\u{fffd}".to_owned())]);
    }
}
