//! Sends signed requests to the host and repeats them as platforms do, until the host says 2xx.

use std::time::Duration;

use bytes::Bytes;
use chela_egress::Egress;
use http::{HeaderMap, Method};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use url::Url;

use super::Error;

/// When a platform gives up waiting, and how often it comes again.
#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// How long it waits for an answer.
    pub patience: Duration,
    /// The pauses before each repetition; as many repetitions as pauses.
    pub pauses: Vec<Duration>,
}

impl SenderSettings {
    /// Slack's: three seconds, then again at once, after a minute and after five.
    pub fn slack() -> Self {
        let pauses = vec![Duration::ZERO, Duration::from_secs(60), Duration::from_secs(300)];
        Self { patience: Duration::from_secs(3), pauses }
    }

    /// The first steps of what Standard Webhooks recommends.
    pub fn standard_webhooks() -> Self {
        let pauses = vec![Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1_800)];
        Self { patience: Duration::from_secs(15), pauses }
    }

    /// For tests and the tour: this many repetitions with the same short pause.
    pub fn quick(repetitions: usize, pause: Duration) -> Self {
        Self { patience: Duration::from_secs(10), pauses: vec![pause; repetitions] }
    }
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The host's status, if it answered at all.
    pub status: Option<u16>,
    /// Slack's word for what went wrong: `http_timeout`, `http_error` or `connection_failed`.
    pub failure: Option<&'static str>,
    /// Milliseconds until then.
    pub millis: u64,
}

/// One request with all its tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The platform's id of what was sent.
    pub id: String,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// The body of the last answer, at most what the sender's egress allows.
    #[serde(skip)]
    pub body: Bytes,
}

impl Sent {
    /// True if the host took it.
    pub fn is_acknowledged(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }

    /// The last status.
    pub fn status(&self) -> Option<u16> {
        self.attempts.last().and_then(|attempt| attempt.status)
    }
}

/// What is sent: the same body each time, with headers made anew for each try.
pub(super) struct Post<'a, H> {
    pub(super) id: &'a str,
    pub(super) url: &'a Url,
    pub(super) body: Bytes,
    /// Headers for a try: its number, and why the try before failed.
    pub(super) headers: H,
}

/// Sends and repeats.
#[derive(Debug, Clone)]
pub struct Sender {
    egress: Egress,
    settings: SenderSettings,
}

impl Sender {
    /// A sender that goes out through `egress`, which must allow loopback.
    pub fn new(egress: Egress, settings: SenderSettings) -> Self {
        Self { egress, settings }
    }

    pub(super) async fn send<H>(&self, post: Post<'_, H>) -> Result<Sent, Error>
    where
        H: Fn(usize, Option<&'static str>) -> Result<HeaderMap, Error>,
    {
        let mut sent = Sent { id: post.id.to_owned(), attempts: Vec::new(), body: Bytes::new() };
        let mut failure = None;
        for number in 0..=self.settings.pauses.len() {
            if let Some(pause) = number.checked_sub(1).and_then(|before| self.settings.pauses.get(before)) {
                tokio::time::sleep(*pause).await;
            }
            let headers = (post.headers)(number, failure)?;
            let (attempt, body) = self.once(post.url, headers, post.body.clone()).await;
            failure = attempt.failure;
            sent.attempts.push(attempt);
            sent.body = body;
            if failure.is_none() {
                break;
            }
        }
        Ok(sent)
    }

    async fn once(&self, url: &Url, headers: HeaderMap, body: Bytes) -> (Attempt, Bytes) {
        let started = Instant::now();
        let mut request = chela_egress::Request::new(Method::POST, url.clone(), body);
        request.headers = headers;
        let answer = timeout(self.settings.patience, self.egress.send(request)).await;
        let (status, failure, body) = match answer {
            Err(_) => (None, Some("http_timeout"), Bytes::new()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "stand-in request failed");
                (None, Some("connection_failed"), Bytes::new())
            }
            Ok(Ok(response)) => {
                let failure = (!response.status.is_success()).then_some("http_error");
                (Some(response.status.as_u16()), failure, response.body)
            }
        };
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        (Attempt { status, failure, millis }, body)
    }
}
