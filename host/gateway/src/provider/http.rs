//! Providers over HTTP: one driver, two wire formats.

use chela_egress::{Credential, Egress, Request, StreamResponse, Timeouts, retry_after};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::sse::{Event, Sse};
use super::{Ask, Backend, Piece, Pieces, Trouble, anthropic, openai};
use crate::Kind;
use crate::config::ProviderLimits;
use crate::plan::SharedClock;

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    OpenAi,
    Anthropic,
}

/// A provider somewhere else.
pub(crate) struct Remote {
    wire: Wire,
    url: Url,
    key: Option<SecretString>,
    limits: ProviderLimits,
    places: Arc<Semaphore>,
    egress: Egress,
    clock: SharedClock,
}

impl Remote {
    pub(crate) fn new(
        wire: Wire,
        base: Url,
        key: Option<SecretString>,
        limits: ProviderLimits,
        (egress, clock): (Egress, SharedClock),
    ) -> Self {
        let mut url = base;
        let path = match wire {
            Wire::OpenAi => "chat/completions",
            Wire::Anthropic => "messages",
        };
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        let places = Arc::new(Semaphore::new(limits.concurrent_max));
        Self { wire, url, key, limits, places, egress, clock }
    }

    fn request(&self, ask: &Ask) -> Request {
        let body = match self.wire {
            Wire::OpenAi => openai::body(ask, is_of(&self.url, OPENAI)),
            Wire::Anthropic => anthropic::body(ask),
        };
        let mut request = Request::new(Method::POST, self.url.clone(), body.to_string()).json();
        request.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if self.wire == Wire::Anthropic {
            let version = HeaderName::from_static("anthropic-version");
            request.headers.insert(version, HeaderValue::from_static(anthropic::VERSION));
        }
        request.credential = self.key.clone().map(|key| match self.wire {
            Wire::OpenAi => Credential::Bearer(key),
            Wire::Anthropic => Credential::Header { name: HeaderName::from_static("x-api-key"), value: key },
        });
        request.timeouts =
            Timeouts { first_byte: Some(ask.total), idle: Some(self.limits.idle), total: Some(ask.total) };
        request
    }

    async fn open(&self, ask: Ask) -> Result<Pieces, Trouble> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|_| Trouble::new(unavailable("closed"), false))?;
        let mut request = self.request(&ask);
        request.begun = ask.sent.clone();
        let answer = self.egress.stream(request).await.map_err(|error| from_egress(error, true))?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(answer).await);
        }
        let wire = match self.wire {
            Wire::OpenAi => Reader::OpenAi,
            Wire::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
        };
        Ok(pieces(answer, wire, place))
    }

    /// An error status: read the code, never the words.
    async fn refusal(&self, answer: StreamResponse) -> Trouble {
        #[derive(Deserialize)]
        struct Body {
            error: WireError,
        }
        let status = answer.status.as_u16();
        let wait = retry_after(&answer.headers, self.clock.now());
        let body = answer.whole().await.map(|answer| answer.body).unwrap_or_default();
        let error = serde_json::from_slice::<Body>(&body).map(|body| body.error).unwrap_or_default();
        let trouble = sort(status, &error, wait);
        let billed = trouble.billed || may_bill_refusals(&self.url, &trouble.kind);
        Trouble { billed, ..trouble }
    }
}

/// Whether a refusal may be on the bill: both vendors charge nothing for one, but others who sell their models do
/// (Azure: prompts that its filter stops, and those beyond the input limit).
fn may_bill_refusals(url: &Url, kind: &Kind) -> bool {
    matches!(kind, Kind::Refused | Kind::TooLong { .. }) && !is_vendor(url)
}

fn is_vendor(url: &Url) -> bool {
    is_of(url, OPENAI) || is_of(url, ANTHROPIC)
}

fn is_of(url: &Url, domain: &str) -> bool {
    let under = url.host_str().and_then(|host| host.strip_suffix(domain));
    under.is_some_and(|under| under.is_empty() || under.ends_with('.'))
}

const OPENAI: &str = "openai.com";
const ANTHROPIC: &str = "anthropic.com";

impl Backend for Remote {
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        Box::pin(self.open(ask))
    }
}

/// Reads one wire format.
pub(crate) enum Reader {
    OpenAi,
    Anthropic(anthropic::Reader),
}

impl Reader {
    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        match self {
            Self::OpenAi => openai::read(event),
            Self::Anthropic(reader) => reader.read(event),
        }
    }
}

struct Reading {
    answer: StreamResponse,
    sse: Sse,
    reader: Reader,
    ready: VecDeque<Piece>,
    _place: OwnedSemaphorePermit,
}

fn pieces(answer: StreamResponse, reader: Reader, place: OwnedSemaphorePermit) -> Pieces {
    let state = Reading { answer, sse: Sse::default(), reader, ready: VecDeque::new(), _place: place };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            match state.ready.pop_front() {
                Some(Piece::End) => return None,
                Some(piece) => return Some((Ok(piece), Some(state))),
                None => {}
            }
            let bytes = match state.answer.body.next().await? {
                Ok(bytes) => bytes,
                Err(error) => return Some((Err(from_egress(error, true)), None)),
            };
            if let Err(trouble) = state.take(&bytes) {
                return Some((Err(trouble), None));
            }
        }
    })
    .boxed()
}

impl Reading {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        for event in self.sse.push(bytes)? {
            self.ready.extend(self.reader.read(&event)?);
        }
        Ok(())
    }
}

/// A provider's error object, as far as both formats agree. `code` can be text or a number.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct WireError {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<serde_json::Value>,
}

impl WireError {
    /// The words of the error's type and code, fit for a record.
    fn words(&self) -> String {
        let code = match &self.code {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let words: Vec<String> = [code, self.kind.clone()].into_iter().flatten().collect();
        let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
        words.join(" ").chars().filter(fit).take(CODE_CHARS_MAX).collect()
    }
}

/// So much of an error's code is kept.
const CODE_CHARS_MAX: usize = 96;

/// The class of an error answer. The words decide first (an error inside a stream has status 200), then the
/// status. `wait` is what the provider asks to wait.
pub(crate) fn sort(status: u16, error: &WireError, wait: Option<Duration>) -> Trouble {
    let words = error.words();
    let code = if words.is_empty() { format!("status {status}") } else { words.clone() };
    let says = |word: &str| words.contains(word);
    let retry_after = wait.unwrap_or_default();
    let kind = if says("insufficient_quota") || says("billing") {
        Kind::Auth { code }
    } else if says("content_filter") || says("content_policy") {
        Kind::Refused
    } else if says("context_length") || says("request_too_large") || status == 413 {
        Kind::TooLong { code }
    } else if says("rate_limit") || status == 429 {
        Kind::RateLimited { retry_after }
    } else if says("authentication") || says("permission") || says("invalid_api_key") || says("not_found") {
        Kind::Auth { code }
    } else if says("overloaded") || says("server_error") || says("api_error") || says("timeout") {
        Kind::Unavailable { code, retry_after }
    } else {
        match status {
            401..=404 => Kind::Auth { code },
            200 | 408 | 409 | 425 | 500.. => Kind::Unavailable { code, retry_after },
            400..=499 => Kind::Invalid { code },
            _ => Kind::BadResponse { what: "its status is none that is known" },
        }
    };
    // Behind a gateway that timed out the model may have worked.
    Trouble::new(kind, matches!(status, 408 | 504 | 524))
}

fn unavailable(code: &str) -> Kind {
    Kind::Unavailable { code: code.to_owned(), retry_after: Duration::ZERO }
}

/// A transport error. `sent` is false only where nothing can have left.
fn from_egress(error: chela_egress::Error, sent: bool) -> Trouble {
    use chela_egress::{Error as Egress, Phase};
    let kind = match &error {
        Egress::Url { .. } | Egress::Denied { .. } => Kind::Denied,
        Egress::Header(_) | Egress::Sign(_) => Kind::Auth { code: "key cannot be sent".into() },
        Egress::Timeout { phase: Phase::FirstByte | Phase::Idle, after, .. } => {
            Kind::TooSlow { after: *after }
        }
        Egress::Timeout { .. } => unavailable("timeout"),
        Egress::Connect { .. } => unavailable("connect"),
        Egress::TooLarge { .. } => Kind::BadResponse { what: "it is too large" },
        _ => unavailable("broken off"),
    };
    Trouble { billed: sent && error.reached(), cause: Some(Box::new(error)), ..Trouble::new(kind, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, kind: &str) -> WireError {
        WireError { code: Some(code.into()), kind: Some(kind.into()) }
    }

    /// Status, code, type: the class. From the vendors' error pages (platform.openai.com/docs/guides/error-codes,
    /// docs.anthropic.com/en/api/errors).
    #[test]
    fn classes_come_from_status_and_code() {
        for (status, code, kind, class) in [
            (400, "context_length_exceeded", "invalid_request_error", "too_long"),
            (400, "content_policy_violation", "invalid_request_error", "refused"),
            (400, "", "invalid_request_error", "invalid"),
            (401, "invalid_api_key", "invalid_request_error", "auth"),
            (403, "", "permission_error", "auth"),
            (404, "model_not_found", "invalid_request_error", "auth"),
            (413, "", "request_too_large", "too_long"),
            (422, "", "", "invalid"),
            (429, "rate_limit_exceeded", "requests", "rate_limited"),
            (429, "insufficient_quota", "insufficient_quota", "auth"),
            (429, "", "", "rate_limited"),
            (500, "", "api_error", "unavailable"),
            (502, "", "", "unavailable"),
            (503, "", "server_error", "unavailable"),
            (529, "", "overloaded_error", "unavailable"),
            (200, "", "overloaded_error", "unavailable"),
            (200, "rate_limit_exceeded", "", "rate_limited"),
            (302, "", "", "bad_response"),
        ] {
            assert_eq!(sort(status, &error(code, kind), None).kind.class(), class, "{status} {code} {kind}");
        }
    }

    #[test]
    fn only_a_gateway_that_timed_out_may_have_cost() {
        for (status, billed) in
            [(400, false), (429, false), (500, false), (503, false), (504, true), (408, true)]
        {
            assert_eq!(sort(status, &WireError::default(), None).billed, billed, "{status}");
        }
    }

    /// learn.microsoft.com/azure/ai-foundry/openai/how-to/manage-costs: a 400 by the filter or the input limit may
    /// be billed.
    #[test]
    fn only_the_vendors_themselves_refuse_for_nothing() {
        let long = Kind::TooLong { code: "x".into() };
        for (url, billed) in [
            ("https://api.openai.com/v1", false),
            ("https://eu.api.openai.com/v1", false),
            ("https://api.anthropic.com/v1", false),
            ("https://house.openai.azure.com/openai/v1", true),
            ("https://notopenai.com/v1", true),
            ("http://127.0.0.1:8000/v1", true),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(may_bill_refusals(&url, &Kind::Refused), billed, "{url}");
            assert_eq!(may_bill_refusals(&url, &long), billed, "{url}");
            assert!(!may_bill_refusals(&url, &Kind::Invalid { code: "x".into() }), "{url}");
        }
    }

    #[test]
    fn a_provider_that_is_down_may_say_for_how_long() {
        let wait = Duration::from_secs(7);
        for status in [429, 503, 529] {
            assert_eq!(sort(status, &WireError::default(), Some(wait)).kind.retry_after(), wait, "{status}");
        }
        assert_eq!(sort(503, &WireError::default(), None).kind.retry_after(), Duration::ZERO);
    }

    #[test]
    fn a_code_is_cleaned_before_it_is_kept() {
        let trouble = sort(400, &error("evil\n<script>", "x"), None);
        assert_eq!(trouble.kind, Kind::Invalid { code: "evilscript x".into() });
    }
}
