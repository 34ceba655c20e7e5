//! Providers over HTTP: one driver, three wire formats.

use bytes::Bytes;
use chela_egress::{Egress, Request, StreamResponse, Timeouts, retry_after};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::place::Place;
use super::places::Places;
use super::sse::{Event, Sse};
use super::{Ask, Backend, Embed, Embedded, Piece, Pieces, Trouble, anthropic, chat, embeddings, responses};
use crate::Kind;
use crate::config::ProviderLimits;
use crate::plan::SharedClock;

/// Longest wait for the body of a refusal: its status has said what matters most.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);
/// A whole stream: 2 KiB around each of the 131,072 tokens that a tier may allow at most; OpenAI has some 330 bytes
/// around each. What is kept of it has limits of its own.
const STREAM_BYTES_MAX: usize = 256 << 20;

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages {
        /// Whether long prefixes are marked for the provider's cache.
        prompt_cache: bool,
    },
}

/// A provider somewhere else.
pub(crate) struct Remote {
    place: Place,
    key: Option<SecretString>,
    limits: ProviderLimits,
    places: Places,
    egress: Egress,
    clock: SharedClock,
}

impl Remote {
    pub(crate) fn new(
        place: Place,
        key: Option<SecretString>,
        limits: ProviderLimits,
        (egress, clock): (Egress, SharedClock),
    ) -> Self {
        let places = Places::new(limits.concurrent_max);
        Self { place, key, limits, places, egress, clock }
    }

    fn request(&self, ask: &Ask) -> Result<Request, Trouble> {
        let body = match self.place.wire {
            Wire::Chat => chat::body(ask, self.place.is_strict()),
            Wire::Responses => responses::body(ask)?,
            Wire::Messages { prompt_cache } => anthropic::body(ask, prompt_cache)?,
        };
        let mut request = Request::new(Method::POST, self.place.url(&ask.model), body.text()).json();
        request.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if matches!(self.place.wire, Wire::Messages { .. }) {
            let version = HeaderName::from_static("anthropic-version");
            request.headers.insert(version, HeaderValue::from_static(anthropic::VERSION));
        }
        request.credential = self.key.clone().map(|key| self.place.credential(key));
        request.timeouts =
            Timeouts { first_byte: Some(ask.total), idle: Some(self.limits.idle), total: Some(ask.total) };
        request.stream_bytes_max = Some(STREAM_BYTES_MAX);
        Ok(request)
    }

    async fn open(&self, ask: Ask) -> Result<Pieces, Trouble> {
        let mut request = self.request(&ask)?;
        let place = self.places.take(&ask.sent).await?;
        request.begun = ask.sent.begun();
        let answer = self.egress.stream(request).await.map_err(|error| from_egress(error, true))?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(answer).await);
        }
        Ok(pieces(answer, Reader::of(self.place.wire), place))
    }

    async fn vectors(&self, ask: Embed) -> Result<Embedded, Trouble> {
        if matches!(self.place.wire, Wire::Messages { .. }) {
            return Err(Trouble::new(Kind::Unsupported { what: "vectors" }, false));
        }
        let body = embeddings::body(&ask).to_string();
        let mut request = Request::new(Method::POST, self.place.embeddings(&ask.model), body).json();
        request.credential = self.key.clone().map(|key| self.place.credential(key));
        let total = Some(self.limits.total);
        request.timeouts = Timeouts { first_byte: total, idle: Some(self.limits.idle), total };
        let _place = self.places.take(&ask.sent).await?;
        request.begun = ask.sent.begun();
        let answer = self.egress.stream(request).await.map_err(|error| from_egress(error, true))?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(answer).await);
        }
        let whole = answer.whole().await.map_err(|error| from_egress(error, true))?;
        embeddings::read(&whole.body, (ask.inputs.len(), ask.dims))
    }

    /// An error status: read the code, never the words.
    async fn refusal(&self, answer: StreamResponse) -> Trouble {
        #[derive(Deserialize)]
        struct Body {
            error: WireError,
        }
        let status = answer.status.as_u16();
        let wait = retry_after(&answer.headers, self.clock.now());
        let body = timeout(REFUSAL_WAIT, answer.whole()).await.ok().and_then(Result::ok);
        let body = body.map(|answer| answer.body).unwrap_or_default();
        let error = serde_json::from_slice::<Body>(&body).map(|body| body.error).unwrap_or_default();
        let trouble = sort(status, &error, wait);
        let is_refusal = matches!(trouble.kind, Kind::Refused | Kind::TooLong { .. });
        let billed = trouble.billed || is_refusal && !self.place.refuses_for_nothing();
        Trouble { billed, ..trouble }
    }
}

impl Backend for Remote {
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        Box::pin(self.open(ask))
    }

    fn embed(&self, ask: Embed) -> BoxFuture<'_, Result<Embedded, Trouble>> {
        Box::pin(self.vectors(ask))
    }
}

/// Reads one wire format.
pub(crate) enum Reader {
    Chat(chat::Reader),
    Responses(responses::Reader),
    Messages(anthropic::Reader),
}

impl Reader {
    pub(crate) fn of(wire: Wire) -> Self {
        match wire {
            Wire::Chat => Self::Chat(chat::Reader::default()),
            Wire::Responses => Self::Responses(responses::Reader::default()),
            Wire::Messages { .. } => Self::Messages(anthropic::Reader::default()),
        }
    }

    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        match self {
            Self::Chat(reader) => reader.read(event),
            Self::Responses(reader) => reader.read(event),
            Self::Messages(reader) => reader.read(event),
        }
    }
}

/// The pieces of a stream that comes in pieces.
pub(crate) fn decoded<'a>(
    wire: Wire,
    cuts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Piece>, Trouble> {
    let (mut reader, mut sse, mut pieces) = (Reader::of(wire), Sse::default(), Vec::new());
    for cut in cuts {
        let mut events = Vec::new();
        let pushed = sse.take(cut, &mut events);
        for event in events {
            pieces.extend(reader.read(&event)?);
        }
        pushed?;
    }
    Ok(pieces)
}

struct Reading {
    answer: StreamResponse,
    sse: Sse,
    reader: Reader,
    ready: VecDeque<Piece>,
    broken: Option<Trouble>,
    _place: OwnedSemaphorePermit,
}

fn pieces(answer: StreamResponse, reader: Reader, place: OwnedSemaphorePermit) -> Pieces {
    let state =
        Reading { answer, sse: Sse::default(), reader, ready: VecDeque::new(), broken: None, _place: place };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            match state.ready.pop_front() {
                Some(Piece::End) => {
                    drain(state.answer.body);
                    return None;
                }
                Some(piece) => return Some((Ok(piece), Some(state))),
                None => {}
            }
            if let Some(trouble) = state.broken.take() {
                return Some((Err(trouble), None));
            }
            let bytes = match state.answer.body.next().await? {
                Ok(bytes) => bytes,
                Err(error) => return Some((Err(from_egress(error, true)), None)),
            };
            // What came before is told first, wherever the network cut.
            state.broken = state.take(&bytes).err();
        }
    })
    .boxed()
}

/// Longest wait for the end after the format's own mark of it.
const DRAIN: Duration = Duration::from_secs(1);

/// A connection serves again only if its answer was read to the end, which comes with the mark or right after it.
fn drain(mut body: BoxStream<'static, Result<Bytes, chela_egress::Error>>) {
    if let Some(None | Some(Err(_))) = body.next().now_or_never() {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.next().await {} };
        let _late_or_done = timeout(DRAIN, rest).await;
    });
}

impl Reading {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut events = Vec::new();
        let pushed = self.sse.take(bytes, &mut events);
        for event in events {
            self.ready.extend(self.reader.read(&event)?);
        }
        pushed
    }
}

/// A provider's error object, as far as both formats agree. `code` can be text or a number.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct WireError {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<serde_json::Value>,
    /// What its words say that has no code. Nothing else is read of a message, and nothing of it kept.
    #[serde(default, rename = "message", deserialize_with = "hint")]
    hint: Option<Hint>,
}

/// What some providers tell by words alone, with a 400 as for any request that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Anthropic's.
    EmptyAccount,
    /// LiteLLM's, whose words begin with the class of the error.
    TooLong,
    /// LiteLLM's as well.
    Refused,
    /// LiteLLM's for a model that its configuration does not have; before it stands the address that was asked.
    NoModel,
}

fn hint<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Hint>, D::Error> {
    let message = serde_json::Value::deserialize(from)?;
    let text = message.as_str().unwrap_or_default();
    let (class, after) = text.split_once(": ").unwrap_or_default();
    Ok(match class {
        "litellm.ContextWindowExceededError" => Some(Hint::TooLong),
        "litellm.ContentPolicyViolationError" => Some(Hint::Refused),
        _ if after.starts_with("Invalid model name passed in model=") => Some(Hint::NoModel),
        _ if text.to_ascii_lowercase().contains("credit balance is too low") => Some(Hint::EmptyAccount),
        _ => None,
    })
}

impl WireError {
    /// Of an error that is nothing but a code.
    pub(crate) fn of_code(code: Option<serde_json::Value>) -> Self {
        Self { code, ..Self::default() }
    }

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

/// Words of an account that has no more: the vendors', and LiteLLM's.
const QUOTA: [&str; 3] = ["insufficient_quota", "billing", "budget_exceeded"];
/// Words of a key, an account or an address that is wrong. The last two are LiteLLM's, for a key that it does not know
/// without a database, and for one that is over; both with a 400.
const AUTH: [&str; 6] =
    ["authentication", "permission", "invalid_api_key", "not_found", "no_db_connection", "expired_key"];

/// So much of an error's code is kept.
const CODE_CHARS_MAX: usize = 96;

/// The class of an error answer. The words decide first (an error inside a stream has status 200), then the
/// status. `wait` is what the provider asks to wait.
pub(crate) fn sort(status: u16, error: &WireError, wait: Option<Duration>) -> Trouble {
    let words = error.words();
    let code = if words.is_empty() { format!("status {status}") } else { words.clone() };
    let says = |word: &str| words.contains(word);
    let retry_after = wait.unwrap_or_default();
    let hints = |hint| error.hint == Some(hint);
    let is_quota = QUOTA.into_iter().any(says) || status == 402 || hints(Hint::EmptyAccount);
    let is_long = says("context_length") || says("request_too_large") || hints(Hint::TooLong);
    let kind = if is_quota {
        Kind::Quota { code, retry_after }
    } else if says("content_filter") || says("content_policy") || hints(Hint::Refused) {
        Kind::Refused
    } else if is_long || status == 413 {
        Kind::TooLong { code }
    } else if says("rate_limit") || status == 429 {
        Kind::RateLimited { retry_after }
    } else if AUTH.into_iter().any(says) || hints(Hint::NoModel) {
        Kind::Auth { code }
    } else if says("overloaded") || says("server_error") || says("api_error") || says("timeout") {
        Kind::Unavailable { code, retry_after }
    } else {
        match status {
            401 | 403 | 404 => Kind::Auth { code },
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
    use serde_json::json;

    fn error(code: &str, kind: &str) -> WireError {
        WireError { code: Some(code.into()), kind: Some(kind.into()), hint: None }
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
            (429, "insufficient_quota", "insufficient_quota", "quota"),
            (402, "", "billing_error", "quota"),
            (402, "", "", "quota"),
            (429, "429", "budget_exceeded", "quota"),
            (400, "400", "no_db_connection", "auth"),
            (400, "400", "expired_key", "auth"),
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
    fn an_empty_account_is_known_by_its_words_where_it_has_no_code() {
        let text = r#"{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}"#;
        let error: WireError = serde_json::from_str(text).unwrap();
        assert_eq!(sort(400, &error, None).kind.class(), "quota");
        let other: WireError = serde_json::from_str(r#"{"type":"x","message":{"no":"text"}}"#).unwrap();
        assert_eq!(sort(400, &other, None).kind.class(), "invalid");
    }

    /// As LiteLLM 1.108 says them; the class stands at the beginning, where no prompt is quoted.
    #[test]
    fn a_class_that_litellm_puts_into_words_is_read_at_their_beginning() {
        let class = |message: &str| {
            let text =
                json!({"type": "invalid_request_error", "code": "400", "message": message}).to_string();
            sort(400, &serde_json::from_str(&text).unwrap(), None).kind.class()
        };
        let long = "litellm.ContextWindowExceededError: litellm.BadRequestError: this is too long";
        assert_eq!(class(long), "too_long");
        assert_eq!(class("litellm.ContentPolicyViolationError: no"), "refused");
        assert_eq!(
            class("/chat/completions: Invalid model name passed in model=x. Call `/v1/models`"),
            "auth"
        );
        for other in ["litellm.BadRequestError: no", "he said: litellm.ContextWindowExceededError: no", ""] {
            assert_eq!(class(other), "invalid", "{other}");
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
