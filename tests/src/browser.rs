//! A browser of which a test says what it shows: cookie, origin, the last event that it has.

use std::time::Duration;

use bytes::Bytes;
use chela_egress::{Egress, Request};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{COOKIE, HeaderName, ORIGIN, SET_COOKIE};
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use crate::outside::loopback;
use crate::wait::PATIENCE;

/// Two web chats for the end of a configuration.
pub const CHATS: &str = r#"
[plugin.web-chat]
source = "builtin:web-chat"

[channel.web]
plugin = "web-chat"
default_agent = "support"

[channel.other]
plugin = "web-chat"
default_agent = "support"
"#;

/// A browser with a session, unless the test takes its cookie away.
#[derive(Debug, Clone)]
pub struct Browser {
    egress: Egress,
    chat: Url,
    cookie: Option<String>,
    origin: Option<String>,
}

/// An event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `message` or `draft`.
    pub kind: String,
    /// A kept event's number.
    pub number: Option<u64>,
    /// What it tells.
    pub data: Value,
}

impl Event {
    /// Its words.
    pub fn text(&self) -> &str {
        self.data["text"].as_str().unwrap_or_default()
    }

    /// Whether it repeats what the visitor said.
    pub fn is_said(&self) -> bool {
        self.data["kind"] == "said"
    }

    fn read(block: &str) -> Option<Self> {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
        };
        Some(Self {
            kind: field("event")?.to_owned(),
            number: field("id").map(|number| number.parse().unwrap()),
            data: serde_json::from_str(field("data")?).unwrap(),
        })
    }
}

impl Browser {
    /// A browser without a session at `http://ADDRESS/channels/NAME`.
    pub fn new(chat: &Url) -> Self {
        let origin = Some(chat.origin().ascii_serialization());
        let chat = format!("{chat}/").parse().unwrap();
        Self { egress: loopback(), chat, cookie: None, origin }
    }

    /// One that has begun a session.
    pub async fn begin(chat: &Url) -> Self {
        let mut browser = Self::new(chat);
        let answer = browser.post("session", &Value::Null).await;
        assert_eq!(answer.status, 201);
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
        browser.cookie = cookie.split(';').next().map(str::to_owned);
        browser
    }

    /// The same, with new connections.
    pub fn restarted(self) -> Self {
        Self { egress: loopback(), ..self }
    }

    /// The same, with another `cookie`.
    pub fn showing(&self, cookie: &str) -> Self {
        Self { cookie: Some(cookie.to_owned()), ..self.clone() }
    }

    /// The same, on a page of another origin, or of none.
    pub fn from_page_of(&self, origin: Option<&str>) -> Self {
        Self { origin: origin.map(str::to_owned), ..self.clone() }
    }

    /// What it shows as `cookie`.
    pub fn cookie(&self) -> &str {
        self.cookie.as_deref().unwrap_or_default()
    }

    fn request(&self, method: Method, path: &str, body: String) -> Request {
        let mut request = Request::new(method, self.chat.join(path).unwrap(), body);
        for (name, value) in [(COOKIE, &self.cookie), (ORIGIN, &self.origin)] {
            if let Some(value) = value {
                request.headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        request
    }

    /// The answer to a POST, whatever it is.
    pub async fn post(&self, path: &str, body: &Value) -> chela_egress::Response {
        let request = self.request(Method::POST, path, body.to_string()).json();
        self.egress.send(request).await.expect("an answer")
    }

    /// The status that saying something gets.
    pub async fn says(&self, text: &str) -> u16 {
        let message = json!({ "id": Uuid::now_v7().to_string(), "text": text });
        self.post("messages", &message).await.status.as_u16()
    }

    /// The events after number `after`, or the status that is given instead.
    ///
    /// # Errors
    /// The status.
    pub async fn events(&self, after: u64) -> Result<Events, u16> {
        let mut request = self.request(Method::GET, "events", String::new());
        request.headers.insert(HeaderName::from_static("last-event-id"), HeaderValue::from(after));
        let answer = self.egress.stream(request).await.expect("an answer");
        match answer.status.is_success() {
            true => Ok(Events { body: answer.body, waiting: Vec::new() }),
            false => Err(answer.status.as_u16()),
        }
    }

    /// Waits for the answer to what holds `text`; returns the kept events from `after` to it.
    pub async fn hears(&self, after: u64, text: &str) -> Vec<Event> {
        let mut events = self.events(after).await.expect("events");
        let mut kept = Vec::new();
        loop {
            let event = events.next().await;
            if event.kind != "message" {
                continue;
            }
            let is_answer = !event.is_said() && event.text().contains(text);
            kept.push(event);
            if is_answer {
                return kept;
            }
        }
    }
}

/// A stream of events; dropping it hangs up.
pub struct Events {
    body: BoxStream<'static, Result<Bytes, chela_egress::Error>>,
    waiting: Vec<u8>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// The next event, which must come.
    pub async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.find()).await.expect("an event in time")
    }

    /// Whether nothing comes for so long.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        timeout(time, self.find()).await.is_err()
    }

    async fn find(&mut self) -> Event {
        loop {
            while let Some(end) = self.waiting.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.waiting.drain(..end + 2).collect();
                if let Some(event) = Event::read(std::str::from_utf8(&block).unwrap()) {
                    return event;
                }
            }
            let piece = self.body.next().await.expect("the stream goes on").expect("the stream goes on");
            self.waiting.extend_from_slice(&piece);
        }
    }
}
