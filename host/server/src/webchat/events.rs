//! A session's stream of events: first what is kept, from where the browser left off, then what happens.
//!
//! Kept events have numbers, which the browser shows again as `Last-Event-ID`. Drafts have none: a draft that
//! is missed is of no worth, because the answer that follows is kept.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chela_engine::{Draft, session_events_key};
use chela_store::Store;
use chela_types::{ChannelId, TenantId};
use futures::Stream;
use serde_json::json;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::session;
use crate::doors::{Doors, Error, StreamSeat};

/// Events that are read from the store at once.
const PAGE: usize = 200;
/// How often a silent stream says that it is still there: proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon a browser comes again.
const RECONNECT: Duration = Duration::from_secs(1);

pub(super) fn serve(doors: &Doors, channel: &ChannelId, request: &Request) -> Result<Response, Error> {
    let session = session::read(doors, channel, request.headers())?;
    let key = session_events_key(channel, &session.id);
    let (seat, lifetime) = doors.stream(&key, request)?;
    let following = Following {
        store: doors.store.clone(),
        tenant: doors.tenant.clone(),
        key,
        last: after(request.headers(), request.uri())?,
        // Listening begins before the first reading: what is kept in between is told, and read then.
        news: doors.engine.listen(channel, &session.id),
        stop: doors.stop.clone(),
        lifetime,
        _seat: seat,
    };
    let stream = Sse::new(following.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, stream).into_response())
}

/// Asks proxies not to hold the stream back until it is long enough.
const X_ACCEL_BUFFERING: axum::http::HeaderName = axum::http::HeaderName::from_static("x-accel-buffering");

/// The number of the last event that the browser has; 0 if it has none.
fn after(headers: &HeaderMap, uri: &Uri) -> Result<u64, Error> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let query = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("after="));
    match header.or(query).filter(|text| !text.is_empty()) {
        None => Ok(0),
        Some(text) => {
            text.parse().map_err(|_| Error::Invalid("the last event's id is not a number".to_owned()))
        }
    }
}

/// One browser that follows a session.
struct Following {
    store: Store,
    tenant: TenantId,
    key: String,
    last: u64,
    news: broadcast::Receiver<Draft>,
    stop: CancellationToken,
    lifetime: Duration,
    _seat: StreamSeat,
}

impl Following {
    fn events(mut self) -> impl Stream<Item = Result<Event, Infallible>> {
        async_stream::stream! {
            yield Ok(Event::default().retry(RECONNECT).comment("hello"));
            let end = tokio::time::sleep(self.lifetime);
            tokio::pin!(end);
            loop {
                loop {
                    // The browser comes again, with the last number that it has.
                    let Some(kept) = self.kept().await else { return };
                    if kept.is_empty() {
                        break;
                    }
                    for (number, event) in kept {
                        self.last = number;
                        yield Ok(Event::default().event("message").id(number.to_string()).data(event));
                    }
                }
                // Drafts until something is kept.
                loop {
                    let news = tokio::select! {
                        news = self.news.recv() => news,
                        () = self.stop.cancelled() => return,
                        () = end.as_mut() => return,
                    };
                    match news {
                        Ok(Draft::Text { turn, attempt, text }) => {
                            let draft = json!({ "turn": turn, "attempt": attempt, "text": text });
                            yield Ok(Event::default().event("draft").data(draft.to_string()));
                        }
                        Ok(Draft::Kept) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                }
            }
        }
    }

    /// The next kept events; `None` if they cannot be read.
    async fn kept(&self) -> Option<Vec<(u64, String)>> {
        let kept = self.store.events_after(&self.tenant, &self.key, self.last, PAGE).await;
        kept.inspect_err(|error| {
            tracing::warn!(%error, "events of a web chat could not be read; the browser will ask again");
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::{Bounds, Gates};
    use chela_store::StreamEvent;
    use chela_types::SystemClock;
    use futures::StreamExt;
    use std::pin::pin;
    use std::sync::Arc;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn seat() -> StreamSeat {
        let bounds = Bounds {
            body_bytes_max: 1,
            request_timeout: PATIENCE,
            requests_max: 1,
            streams_max: 1,
            streams_per_session: 1,
            streams_per_client: 1,
            stream_lifetime: PATIENCE,
            rate_per_minute: 1,
            rate_burst: 1,
            sessions_per_hour: 1,
        };
        Gates::new(bounds).stream("s", None).unwrap()
    }

    /// A stream that stayed open here was silent for up to an hour, and the page showed nothing new.
    #[tokio::test]
    async fn a_stream_ends_if_its_events_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let config = chela_store::Config::new(folder.path());
        let store = Store::open(config, Arc::new(SystemClock)).await.unwrap();
        let tenant = TenantId::default_tenant();
        let event = StreamEvent { session: "s".to_owned(), event: "{}".to_owned() };
        store.append_event(&tenant, event).await.unwrap();
        let (tell, news) = broadcast::channel(1);
        let following = Following {
            store: store.clone(),
            tenant,
            key: "s".to_owned(),
            last: 0,
            news,
            stop: CancellationToken::new(),
            lifetime: 10 * PATIENCE,
            _seat: seat(),
        };
        let mut events = pin!(following.events());
        for what in ["the greeting", "the kept event"] {
            assert!(events.next().await.is_some(), "{what}");
        }
        store.close().await.unwrap();
        tell.send(Draft::Kept).unwrap();
        let end = tokio::time::timeout(PATIENCE, events.next()).await.expect("the stream ends");
        assert!(end.is_none());
    }

    #[test]
    fn a_browser_says_where_it_left_off() {
        let uri = |text: &'static str| Uri::from_static(text);
        let header = |value: &'static str| {
            HeaderMap::from_iter([(
                axum::http::HeaderName::from_static("last-event-id"),
                HeaderValue::from_static(value),
            )])
        };
        assert_eq!(after(&HeaderMap::new(), &uri("/events")).unwrap(), 0);
        assert_eq!(after(&HeaderMap::new(), &uri("/events?after=7")).unwrap(), 7);
        assert_eq!(after(&header("9"), &uri("/events?after=7")).unwrap(), 9, "a reconnect knows better");
        assert!(after(&header("x"), &uri("/events")).is_err());
        assert!(after(&HeaderMap::new(), &uri("/events?after=-1")).is_err());
    }
}
