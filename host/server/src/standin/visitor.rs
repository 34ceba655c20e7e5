//! A stand-in browser for the web chat: takes the page and the cookie, posts, and reads the events.
//!
//! It checks what a browser would hold against the host: the page's policy, the cookie's flags, the order of
//! the numbers.

use chela_egress::{Egress, Request};
use futures::{Stream, StreamExt};
use http::header::{CONTENT_SECURITY_POLICY, COOKIE, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Serialize;
use serde_json::{Value, json};
use std::pin::pin;
use url::Url;
use uuid::Uuid;

/// Most bytes of one event.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Why the visitor is not content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host could not be reached, or broke off.
    #[error(transparent)]
    Egress(#[from] chela_egress::Error),
    /// An address cannot be put together.
    #[error(transparent)]
    Address(#[from] url::ParseError),
    /// The host answered otherwise than a web chat does.
    #[error("the web chat {0}")]
    Unexpected(String),
}

/// An answer as the page gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The event's number.
    pub number: u64,
    /// Who speaks.
    pub agent: String,
    /// What.
    pub text: String,
    /// Rich parts.
    pub blocks: Value,
    /// What was shown while it was made, put together.
    pub drafted: String,
}

/// Somebody with a browser.
#[derive(Debug, Clone)]
pub struct Visitor {
    egress: Egress,
    chat: Url,
    cookie: HeaderValue,
    last: u64,
}

impl Visitor {
    /// Opens the page at `chat` (`http://host/channels/web/`) and gets a session.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(egress: Egress, chat: Url) -> Result<Self, Error> {
        let page = egress.send(Request::new(Method::GET, chat.clone(), "")).await?;
        let policy = page.headers.get(CONTENT_SECURITY_POLICY).and_then(|value| value.to_str().ok());
        if !page.status.is_success() || !policy.is_some_and(|policy| policy.contains("default-src 'none'")) {
            return Err(Error::Unexpected(format!("answered {} or has no strict policy", page.status)));
        }
        let mut visitor = Self { egress, chat, cookie: HeaderValue::from_static(""), last: 0 };
        let session = visitor.post("session", String::new()).await?;
        let set = session.headers.get(SET_COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !set.contains("HttpOnly") || !set.contains("SameSite=Strict") {
            return Err(Error::Unexpected(format!("gives no safe cookie ({})", session.status)));
        }
        let pair = set.split(';').next().unwrap_or_default();
        visitor.cookie = HeaderValue::from_str(pair).map_err(|error| Error::Unexpected(error.to_string()))?;
        Ok(visitor)
    }

    /// Says something under an id of its own.
    ///
    /// # Errors
    /// [`Error::Unexpected`] unless the host takes it.
    pub async fn say(&self, text: &str) -> Result<(), Error> {
        let body = json!({ "id": Uuid::now_v7().to_string(), "text": text }).to_string();
        let answer = self.post("messages", body).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(Error::Unexpected(format!("answered {} to a message", answer.status))),
        }
    }

    /// The next answer after those that were heard already. Has no time limit of its own.
    ///
    /// # Errors
    /// [`Error`] if the stream breaks off.
    pub async fn hear(&mut self) -> Result<Answer, Error> {
        let mut request = Request::new(Method::GET, self.chat.join("events")?, "");
        request.headers = self.headers();
        request.headers.insert("last-event-id", HeaderValue::from(self.last));
        let stream = self.egress.stream(request).await?;
        if !stream.status.is_success() {
            return Err(Error::Unexpected(format!("answered {} instead of events", stream.status)));
        }
        let mut events = pin!(events(stream.body));
        let mut drafted = String::new();
        while let Some(event) = events.next().await {
            let Event { kind, number, data } = event?;
            if kind == "draft" {
                drafted.push_str(text(&data, "text"));
                continue;
            }
            if kind != "message" {
                continue;
            }
            if number <= self.last {
                return Err(Error::Unexpected(format!("sent event {number} after {}", self.last)));
            }
            self.last = number;
            if data.get("kind").is_none() {
                let blocks = data.get("blocks").cloned().unwrap_or_default();
                let (agent, text) = (text(&data, "agent").to_owned(), text(&data, "text").to_owned());
                return Ok(Answer { number, agent, text, blocks, drafted });
            }
        }
        Err(Error::Unexpected("ended its events".to_owned()))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, self.cookie.clone());
        if let Ok(origin) = HeaderValue::from_str(&self.chat.origin().ascii_serialization()) {
            headers.insert(ORIGIN, origin);
        }
        headers
    }

    async fn post(&self, path: &str, body: String) -> Result<chela_egress::Response, Error> {
        let mut request = Request::new(Method::POST, self.chat.join(path)?, body);
        request.headers = self.headers();
        Ok(self.egress.send(request.json()).await?)
    }
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    kind: String,
    number: u64,
    data: Value,
}

impl Event {
    fn read(block: &str) -> Option<Self> {
        let mut event = Self::default();
        let mut data = None;
        for line in block.lines() {
            match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                Some(("event", kind)) => event.kind = kind.to_owned(),
                Some(("id", number)) => event.number = number.parse().ok()?,
                Some(("data", json)) => data = serde_json::from_str(json).ok(),
                _ => {}
            }
        }
        event.data = data?;
        Some(event)
    }
}

/// Events from bytes that come in pieces.
fn events<S>(bytes: S) -> impl Stream<Item = Result<Event, Error>>
where
    S: Stream<Item = Result<bytes::Bytes, chela_egress::Error>>,
{
    async_stream::try_stream! {
        let mut bytes = pin!(bytes);
        let mut waiting = Vec::new();
        while let Some(piece) = bytes.next().await {
            waiting.extend_from_slice(&piece?);
            while let Some(end) = waiting.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = waiting.drain(..end + 2).collect();
                if let Some(event) = Event::read(&String::from_utf8_lossy(&block)) {
                    yield event;
                }
            }
            if waiting.len() > EVENT_BYTES_MAX {
                Err(Error::Unexpected("sends an endless event".to_owned()))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_read_whatever_the_pieces() {
        let text = ": hello\nretry: 1000\n\nevent: draft\ndata: {\"text\":\"ü\"}\n\nid: 7\nevent: message\ndata: {}\n\n";
        for size in 1..text.len() {
            let pieces = text.as_bytes().chunks(size).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)));
            let found: Vec<_> =
                events(futures::stream::iter(pieces.collect::<Vec<_>>())).map(Result::unwrap).collect().await;
            assert_eq!(found.len(), 2, "{size}");
            assert_eq!((found[0].kind.as_str(), found[0].data["text"].as_str()), ("draft", Some("ü")));
            assert_eq!((found[1].kind.as_str(), found[1].number), ("message", 7));
        }
    }
}
