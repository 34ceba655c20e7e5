//! The one edge where errors become HTTP: a status, a short code, and words only for whose fault it is.
//!
//! A sender reads why it was refused. What a plugin or the host did wrong is the operator's to read, in the
//! log; the sender learns whether to come again.

use std::time::Duration;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chela_engine::Refusal;
use chela_types::{Blame, Fault, Retry};
use serde_json::json;

use crate::config::Right;

/// When a busy host wants to be asked again, if nobody knows better.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Why a request got no answer of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing is served at this address.
    #[error("nothing is served here")]
    NotFound,
    /// Another method than the address has.
    #[error("this address does not know the method")]
    Method,
    /// The body is longer than the limit.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The body could not be read to its end.
    #[error("the body could not be read")]
    Body,
    /// It took longer than the limit.
    #[error("the request took too long")]
    TimedOut,
    /// As many requests as the limit allows are being served.
    #[error("too many requests at once")]
    Busy,
    /// The host has been told to stop, and nothing new will be heard of it.
    #[error("the host stops")]
    Draining,
    /// This client comes more often than its rate allows; when it may come again.
    #[error("too many requests")]
    Flood(Duration),
    /// This session or client has as many event streams open as it may.
    #[error("too many event streams at once")]
    Streams,
    /// No token, or a wrong one.
    #[error("a token is needed")]
    Unauthorized,
    /// A token that opens this host, but not this door.
    #[error("this needs the right `{}`: see `rights` of [operator.NAME] in chela.toml", .0.as_str())]
    Forbidden(Right),
    /// What the files say cannot run.
    #[error("{}", .0.text())]
    Reload(crate::reload::Error),
    /// A browser on another site's page sent this.
    #[error("requests from other sites are refused")]
    ForeignOrigin,
    /// A word of the request is not what it should be.
    #[error("{0}")]
    Invalid(String),
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] chela_engine::Error),
    /// An order about a plugin's versions was not carried out. Whoever gave it can mend most of its causes.
    #[error(transparent)]
    Order(chela_engine::Error),
    /// The store's.
    #[error(transparent)]
    Store(#[from] chela_store::Error),
}

impl Error {
    pub(crate) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Body => (StatusCode::BAD_REQUEST, "body"),
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "timed_out"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::Flood(_) => (StatusCode::TOO_MANY_REQUESTS, "rate"),
            Self::Streams => (StatusCode::TOO_MANY_REQUESTS, "streams"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Reload(error) if error.is_of_files() => invalid(),
            Self::Reload(crate::reload::Error::Compose(crate::compose::Error::Store(error))) => blamed(error),
            Self::Reload(crate::reload::Error::Engine(error)) => engine(error),
            Self::Reload(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Self::Order(error @ chela_engine::Error::Swap(_)) => engine(error),
            // Another node was quicker.
            Self::Order(chela_engine::Error::Store(chela_store::Error::Changed(_))) => {
                (StatusCode::CONFLICT, "changed")
            }
            Self::Order(error) => reloading(error),
            Self::Engine(error) => engine(error),
            Self::Store(error) => blamed(error),
        }
    }

    /// When to come again, if that helps.
    fn again(&self, status: StatusCode) -> Option<Duration> {
        let said = match self {
            Self::Engine(error) | Self::Order(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::Flood(wait) => Retry::Later(*wait),
            _ => Retry::Later(COME_AGAIN),
        };
        let helps = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        match said {
            Retry::Later(after) if helps => Some(after.max(COME_AGAIN)),
            _ => helps.then_some(COME_AGAIN),
        }
    }
}

/// The operator's files are at fault, and he who asks is told how.
fn invalid() -> (StatusCode, &'static str) {
    (StatusCode::UNPROCESSABLE_ENTITY, "configuration")
}

fn reloading(error: &chela_engine::Error) -> (StatusCode, &'static str) {
    match error.blame() {
        Blame::Operator | Blame::Plugin => invalid(),
        _ => engine(error),
    }
}

fn engine(error: &chela_engine::Error) -> (StatusCode, &'static str) {
    match error {
        chela_engine::Error::UnknownChannel(_) | chela_engine::Error::UnknownAgent(_) => {
            (StatusCode::NOT_FOUND, "not_found")
        }
        chela_engine::Error::Swap(_) => (StatusCode::CONFLICT, "swap"),
        chela_engine::Error::Flooded(_) => (StatusCode::TOO_MANY_REQUESTS, "rate"),
        chela_engine::Error::Refused { kind, .. } => {
            let status = match kind {
                Refusal::Unverified => StatusCode::UNAUTHORIZED,
                Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
                Refusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Refusal::Malformed => StatusCode::BAD_REQUEST,
            };
            (status, kind.word())
        }
        error => blamed(error),
    }
}

/// What a platform should do about a fault that is not its own: come again, at once or later.
fn blamed(error: &impl Fault) -> (StatusCode, &'static str) {
    match error.blame() {
        Blame::Sender => (StatusCode::BAD_REQUEST, "refused"),
        Blame::Plugin => (StatusCode::INTERNAL_SERVER_ERROR, "plugin"),
        Blame::Operator => (StatusCode::INTERNAL_SERVER_ERROR, "configuration"),
        Blame::Provider => (StatusCode::BAD_GATEWAY, "outside"),
        Blame::Host => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        metrics::counter!("refused_total", "code" => code).increment(1);
        let again = self.again(status);
        // That it stops is no trouble of the host's.
        let is_trouble = status.is_server_error() && !matches!(self, Self::Draining);
        let message = if is_trouble { "not served; see `code`".to_owned() } else { self.to_string() };
        if is_trouble {
            let error: &dyn std::error::Error = &self;
            tracing::warn!(error, status = status.as_u16(), code, "request failed");
        }
        let mut problem = json!({ "code": code, "message": message });
        if let (Self::Forbidden(right), Some(problem)) = (&self, problem.as_object_mut()) {
            problem.insert("right".to_owned(), right.as_str().into());
        }
        let body = Json(json!({ "error": problem }));
        let mut response = (status, body).into_response();
        if let Some(again) = again {
            let seconds = again.as_secs() + u64::from(again.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::Unauthorized) {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::PluginId;

    fn response(error: Error) -> (u16, Option<String>) {
        let response = error.into_response();
        let again = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), again)
    }

    #[test]
    fn senders_faults_are_4xx_and_the_hosts_ask_to_come_again() {
        let refused = |kind| chela_engine::Error::Refused {
            channel: chela_types::ChannelId::new("c").unwrap(),
            kind,
            reason: String::new(),
        };
        for (error, status, again) in [
            (Error::Engine(refused(Refusal::Unverified)), 401, None),
            (Error::Engine(refused(Refusal::Malformed)), 400, None),
            (Error::Engine(refused(Refusal::TooLarge)), 413, None),
            (Error::Engine(refused(Refusal::ContentType)), 415, None),
            (Error::Engine(chela_engine::Error::UnknownChannel("x".into())), 404, None),
            (Error::Busy, 503, Some("1".to_owned())),
            (Error::Draining, 503, Some("1".to_owned())),
            (Error::TimedOut, 503, Some("1".to_owned())),
            (Error::Flood(Duration::ZERO), 429, Some("1".to_owned())),
            (Error::Flood(Duration::from_millis(118_001)), 429, Some("119".to_owned())),
            (Error::Forbidden(Right::Content), 403, None),
            (Error::Engine(chela_engine::Error::UnknownAgent("x".into())), 404, None),
            (Error::Streams, 429, Some("1".to_owned())),
            (Error::Order(chela_store::Error::Changed(PluginId::new("x").unwrap()).into()), 409, None),
        ] {
            assert_eq!(response(error), (status, again));
        }
    }
}
