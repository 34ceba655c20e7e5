//! Why a client gets no answer, in the words of the format that it speaks: one table for both.

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chela_gateway::Kind;
use serde_json::{Value, json};

use super::Wire;
use super::fields::{What, Wrong};
use crate::doors::Error;

/// When a busy host wants to be asked again, if nobody knows better.
const COME_AGAIN: Duration = Duration::from_secs(1);
/// A budget that has room again so soon is a rate: it helps to wait.
const SOON: Duration = Duration::from_mins(1);
/// Anthropic's own status for a service that has too much to do.
const OVERLOADED: u16 = 529;
/// What both vendors' clients obey before they ask again by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The body is no JSON.
    Json,
    /// A field is not what it should be.
    Wrong(Wrong),
    /// No key, or a wrong one.
    Key,
    /// Nothing of this name that the key may ask.
    Model(String),
    /// More requests than the key allows: when to come again.
    Flood(Duration),
    /// The conversation's message before is not answered yet.
    Conversation,
    /// An agent has not answered in time.
    Silent,
    /// The gateway's.
    Gateway(Kind),
    /// The listener's, the engine's or the store's.
    Door(Error),
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Door(error)
    }
}

impl From<chela_gateway::Error> for Refusal {
    fn from(error: chela_gateway::Error) -> Self {
        Self::Gateway(error.kind)
    }
}

/// A refusal in both formats: status, type and code of OpenAI's, status and type of Anthropic's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    openai: (u16, &'static str, Option<&'static str>),
    anthropic: (u16, &'static str),
}

const fn row(openai: (u16, &'static str, Option<&'static str>), anthropic: (u16, &'static str)) -> Row {
    Row { openai, anthropic }
}

const USED_UP: &str = "insufficient_quota";
const INVALID: &str = "invalid_request_error";

const fn invalid(code: Option<&'static str>) -> Row {
    row((400, INVALID, code), (400, INVALID))
}

const UNKNOWN: Row = row((404, INVALID, Some("model_not_found")), (404, "not_found_error"));
const FLOOD: Row = row((429, "requests", Some("rate_limit_exceeded")), (429, "rate_limit_error"));
const BUSY: Row = row((503, "server_error", Some("overloaded")), (OVERLOADED, "overloaded_error"));
/// What the operator or the provider has to mend.
const FAILED: Row = row((500, "server_error", None), (500, "api_error"));
const BROKEN: Row = row((502, "server_error", None), (502, "api_error"));

impl Refusal {
    fn row(&self) -> Row {
        match self {
            Self::Json => invalid(None),
            Self::Wrong(wrong) => invalid(code(&wrong.what)),
            Self::Key => row((401, INVALID, Some("invalid_api_key")), (401, "authentication_error")),
            Self::Model(_) => UNKNOWN,
            Self::Flood(_) | Self::Conversation => FLOOD,
            Self::Silent => row((504, "server_error", Some("timeout")), (504, "timeout_error")),
            Self::Gateway(kind) => of_gateway(kind),
            Self::Door(error) => of_door(error),
        }
    }

    /// In words. A fault that is not the client's is not told in detail: it is the operator's to read, in the log.
    fn message(&self, wire: Wire) -> String {
        match self {
            Self::Json => "We could not parse the JSON body of your request.".to_owned(),
            Self::Wrong(wrong) => match wire {
                Wire::OpenAi => openai_words(wrong),
                Wire::Anthropic => anthropic_words(wrong),
            },
            Self::Key => "The API key is missing or wrong.".to_owned(),
            Self::Model(name) => match wire {
                Wire::OpenAi => format!("The model `{name}` does not exist or you do not have access to it."),
                Wire::Anthropic => format!("model: {name}"),
            },
            Self::Flood(_) => "Too many requests for this API key.".to_owned(),
            Self::Conversation => {
                "The message before it is not answered yet in this conversation.".to_owned()
            }
            Self::Silent => {
                "The agent's answer is not there yet; it will be kept in the conversation.".to_owned()
            }
            Self::Gateway(Kind::OverBudget { .. }) => {
                "The budget for this is used up for now; see your host's operator.".to_owned()
            }
            Self::Gateway(kind) if self.row().openai.0 < 500 => kind.to_string(),
            Self::Door(error) if self.row().openai.0 < 500 => error.to_string(),
            Self::Gateway(_) | Self::Door(_) => "No answer could be made; try again later.".to_owned(),
        }
    }

    /// When to come again, where that helps.
    fn again(&self) -> Option<Duration> {
        let wait = match self {
            Self::Flood(wait) => *wait,
            Self::Gateway(kind) => kind.retry_after(),
            Self::Door(Error::Flood(wait)) => *wait,
            _ => Duration::ZERO,
        };
        matches!(self.row().openai.0, 429 | 503).then(|| wait.max(COME_AGAIN))
    }

    /// Whether it is to be the last word. Both vendors' clients ask again by themselves after a 429 or a 5xx, also where
    /// only the operator can mend it, or where a message was taken and would be answered twice.
    fn is_last(&self) -> bool {
        let row = self.row();
        matches!(self, Self::Silent) || row == FAILED || row.openai.1 == USED_UP
    }

    pub(super) fn status(&self, wire: Wire) -> u16 {
        match wire {
            Wire::OpenAi => self.row().openai.0,
            Wire::Anthropic => self.row().anthropic.0,
        }
    }

    /// The body, or what stands in an error event.
    pub(super) fn body(&self, wire: Wire, request: &str) -> Value {
        let (row, message) = (self.row(), self.message(wire));
        match wire {
            Wire::OpenAi => {
                let (_, kind, code) = row.openai;
                let param = match self {
                    Self::Wrong(wrong) => Some(openai_place(&wrong.at)).filter(|at| !at.is_empty()),
                    Self::Model(_) => Some("model".to_owned()),
                    _ => None,
                };
                json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
            }
            Wire::Anthropic => json!({
                "type": "error",
                "error": { "type": row.anthropic.1, "message": message },
                "request_id": request,
            }),
        }
    }

    pub(super) fn response(&self, wire: Wire, request: &str) -> Response {
        let status = StatusCode::from_u16(self.status(wire)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            self.log(request);
        }
        let mut response = (status, Json(self.body(wire, request))).into_response();
        let headers = response.headers_mut();
        if let Some(again) = self.again() {
            let seconds = again.as_secs() + u64::from(again.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.is_last() {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }

    /// For the operator.
    pub(super) fn log(&self, request: &str) {
        let why = match self {
            Self::Gateway(kind) => kind.to_string(),
            Self::Door(error) => error.to_string(),
            other => other.message(Wire::OpenAi),
        };
        tracing::warn!(request, why, "a client got no answer");
    }
}

fn of_gateway(kind: &Kind) -> Row {
    match kind {
        Kind::OverBudget { again, .. } if *again <= SOON => FLOOD,
        Kind::OverBudget { .. } => row((429, USED_UP, Some(USED_UP)), (429, "rate_limit_error")),
        Kind::RateLimited { .. } => FLOOD,
        Kind::Invalid { .. } => invalid(None),
        Kind::TooLong { .. } => invalid(Some("context_length_exceeded")),
        Kind::Unsupported { .. } => invalid(Some("unsupported_parameter")),
        Kind::NoRoom => invalid(Some("max_tokens_too_small")),
        Kind::Refused => invalid(Some("content_policy_violation")),
        Kind::UnknownTier(_) => UNKNOWN,
        Kind::Unavailable { .. } | Kind::TooSlow { .. } | Kind::Quota { .. } => BUSY,
        Kind::Ledger { .. } => row((503, "server_error", None), (503, "api_error")),
        Kind::BadResponse { .. } | Kind::Interrupted => BROKEN,
        Kind::Auth { .. } | Kind::Denied | Kind::Config(_) => FAILED,
    }
}

fn of_door(error: &Error) -> Row {
    match error.status().0.as_u16() {
        413 => row((413, INVALID, Some("request_too_large")), (413, "request_too_large")),
        429 => FLOOD,
        503 => BUSY,
        404 => UNKNOWN,
        405 => row((405, INVALID, Some("method_not_supported")), (405, INVALID)),
        400..=499 => invalid(None),
        _ => FAILED,
    }
}

const fn code(what: &What) -> Option<&'static str> {
    Some(match what {
        What::Missing => "missing_required_parameter",
        What::Unknown => "unknown_parameter",
        What::Type(_) => "invalid_type",
        What::Value(_) => "invalid_value",
        What::Unsupported => "unsupported_parameter",
    })
}

/// `messages[0].content`.
fn openai_place(at: &str) -> String {
    let mut place = String::new();
    for step in at.split('.').filter(|step| !step.is_empty()) {
        match step.bytes().all(|byte| byte.is_ascii_digit()) {
            true => place.push_str(&format!("[{step}]")),
            false if place.is_empty() => place.push_str(step),
            false => place.push_str(&format!(".{step}")),
        }
    }
    place
}

fn openai_words(wrong: &Wrong) -> String {
    let at = openai_place(&wrong.at);
    match &wrong.what {
        What::Missing => format!("Missing required parameter: '{at}'."),
        What::Unknown => format!("Unknown parameter: '{at}'."),
        What::Type(expected) => format!("Invalid type for '{at}': expected {expected}."),
        What::Value(why) => format!("Invalid value for '{at}': {why}."),
        What::Unsupported => format!("Unsupported parameter: '{at}' is not supported with this model."),
    }
}

fn anthropic_words(wrong: &Wrong) -> String {
    let at = if wrong.at.is_empty() { "body" } else { &wrong.at };
    match &wrong.what {
        What::Missing => format!("{at}: Field required"),
        What::Unknown => format!("{at}: Extra inputs are not permitted"),
        What::Type(expected) => {
            let expected = expected.trim_start_matches("an ").trim_start_matches("a ");
            format!("{at}: Input should be a valid {expected}")
        }
        What::Value(why) => format!("{at}: {why}"),
        What::Unsupported => format!("{at}: not supported with this model"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{Blame, Quantity, TierId};

    /// Status, type and code for OpenAI's clients; status and type for Anthropic's.
    #[test]
    fn each_failure_has_its_place_in_both_formats() {
        let (zero, text) = (Duration::ZERO, || "x".to_owned());
        let limit = Quantity::requests(1);
        let over = |again| Kind::OverBudget { scope: text(), limit, used: limit, again };
        let rate = || ((429, "requests", "rate_limit_exceeded"), (429, "rate_limit_error"));
        for (kind, openai, anthropic) in [
            (over(SOON * 60), (429, USED_UP, "insufficient_quota"), (429, "rate_limit_error")),
            (over(SOON), rate().0, rate().1),
            (
                Kind::RateLimited { retry_after: zero },
                (429, "requests", "rate_limit_exceeded"),
                (429, "rate_limit_error"),
            ),
            (Kind::Invalid { code: text() }, (400, INVALID, ""), (400, INVALID)),
            (Kind::TooLong { code: text() }, (400, INVALID, "context_length_exceeded"), (400, INVALID)),
            (Kind::Unsupported { what: "x" }, (400, INVALID, "unsupported_parameter"), (400, INVALID)),
            (Kind::NoRoom, (400, INVALID, "max_tokens_too_small"), (400, INVALID)),
            (Kind::Refused, (400, INVALID, "content_policy_violation"), (400, INVALID)),
            (
                Kind::UnknownTier(TierId::new("x").unwrap()),
                (404, INVALID, "model_not_found"),
                (404, "not_found_error"),
            ),
            (
                Kind::Unavailable { code: text(), retry_after: zero },
                (503, "server_error", "overloaded"),
                (529, "overloaded_error"),
            ),
            (
                Kind::Quota { code: text(), retry_after: zero },
                (503, "server_error", "overloaded"),
                (529, "overloaded_error"),
            ),
            (Kind::TooSlow { after: zero }, (503, "server_error", "overloaded"), (529, "overloaded_error")),
            (Kind::Ledger { blame: Blame::Host, again: true }, (503, "server_error", ""), (503, "api_error")),
            (Kind::BadResponse { what: "x" }, (502, "server_error", ""), (502, "api_error")),
            (Kind::Interrupted, (502, "server_error", ""), (502, "api_error")),
            (Kind::Auth { code: text() }, (500, "server_error", ""), (500, "api_error")),
            (Kind::Denied, (500, "server_error", ""), (500, "api_error")),
            (Kind::Config(text()), (500, "server_error", ""), (500, "api_error")),
        ] {
            let refusal = Refusal::Gateway(kind);
            let body = refusal.body(Wire::OpenAi, "r");
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let told = (word(&body["error"]["type"]), word(&body["error"]["code"]));
            assert_eq!(told, (openai.1.to_owned(), openai.2.to_owned()), "{refusal:?}");
            assert_eq!(refusal.status(Wire::OpenAi), openai.0, "{refusal:?}");
            let body = refusal.body(Wire::Anthropic, "r");
            assert_eq!(word(&body["error"]["type"]), anthropic.1, "{refusal:?}");
            assert_eq!((word(&body["type"]), word(&body["request_id"])), ("error".into(), "r".into()));
            assert_eq!(refusal.status(Wire::Anthropic), anthropic.0, "{refusal:?}");
        }
    }

    #[test]
    fn an_empty_budget_says_when_to_come_again_and_whose_it_is_to_nobody() {
        let limit = Quantity::requests(1);
        let scope = "user:key:ann/bob/day".to_owned();
        let over = |again| {
            let over = Kind::OverBudget { scope: scope.clone(), limit, used: limit, again };
            Refusal::Gateway(over).response(Wire::OpenAi, "r")
        };
        let response = over(Duration::from_millis(3_600_001));
        assert_eq!(response.headers()["retry-after"], "3601");
        assert_eq!(response.headers()["x-should-retry"], "false");
        let soon = over(Duration::from_millis(6_001));
        assert_eq!(soon.headers()["retry-after"], "7");
        assert!(
            !soon.headers().contains_key("x-should-retry"),
            "a budget of a minute is a rate: it helps to wait"
        );
    }

    #[test]
    fn what_only_the_operator_can_mend_is_not_asked_again() {
        let says_no = |refusal: Refusal| {
            refusal.response(Wire::Anthropic, "r").headers().contains_key("x-should-retry")
        };
        for last in [Kind::Denied, Kind::Auth { code: "x".into() }, Kind::Config("x".into())] {
            assert!(says_no(Refusal::Gateway(last)));
        }
        for passes in [Kind::Interrupted, Kind::TooSlow { after: Duration::ZERO }] {
            assert!(!says_no(Refusal::Gateway(passes)));
        }
    }

    #[test]
    fn a_wrong_field_is_named_as_each_format_names_it() {
        let at = "messages.0.content";
        for (what, openai, anthropic) in [
            (
                What::Missing,
                "Missing required parameter: 'messages[0].content'.",
                "messages.0.content: Field required",
            ),
            (
                What::Unknown,
                "Unknown parameter: 'messages[0].content'.",
                "messages.0.content: Extra inputs are not permitted",
            ),
            (
                What::Type("a string"),
                "Invalid type for 'messages[0].content': expected a string.",
                "messages.0.content: Input should be a valid string",
            ),
        ] {
            let refusal = Refusal::Wrong(Wrong::new(at, what));
            let body = refusal.body(Wire::OpenAi, "r");
            assert_eq!(body["error"]["message"], openai);
            assert_eq!(body["error"]["param"], "messages[0].content");
            assert_eq!(refusal.body(Wire::Anthropic, "r")["error"]["message"], anthropic);
        }
    }
}
