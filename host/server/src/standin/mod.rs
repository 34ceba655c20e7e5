//! Stand-ins for the outside: a Slack, a webhook partner and a model provider on loopback.
//!
//! They are part of the product, because the demo, the tour and the tests need a platform that signs like
//! the real one, checks what it is sent and can misbehave on demand. Each keeps a log of its own, so that a
//! check never has to trust the host's database.

mod log;
pub mod provider;
mod sender;
pub mod slack;
mod socket;
#[cfg(test)]
mod tests;
pub mod visitor;
pub mod webhook;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

pub use log::Log;
pub use sender::{Attempt, Sender, SenderSettings, Sent};

/// Why a stand-in could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The loopback port could not be bound.
    #[error("could not listen on {address}")]
    Listen {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The log file could not be opened.
    #[error("could not open the log {path}")]
    LogFile {
        /// Which.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The secret is not written as the signature recipe wants it.
    #[error("could not sign")]
    Sign(#[from] chela_types::signature::Error),
    /// The body could not be written as JSON.
    #[error("could not write the request")]
    Json(#[from] serde_json::Error),
}

/// One misbehaviour, used up by the next call that meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status and no sense in the body.
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    TooMany {
        /// Seconds.
        retry_after: u32,
    },
    /// The platform's own refusal: Slack's `{"ok":false,"error":…}` with 200; a provider's error event.
    Refusal(String),
    /// Answers properly, this much later.
    Delay(Duration),
    /// Does what was asked, and answers with this status all the same: a gateway that timed out.
    Late(u16),
    /// Does what was asked, then closes the connection without a word: the ambiguous case.
    Drop,
    /// Sends half of a stream, then closes the connection. Elsewhere the same as [`Fault::Drop`].
    Cut,
}

/// Misbehaviours that wait for their call, in order. Clones share the queue.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// The next `times` calls meet `fault`, after those that were injected before.
    pub fn inject(&self, fault: &Fault, times: usize) {
        self.0.lock().extend(std::iter::repeat_n(fault, times).cloned());
    }

    /// True once every injected fault was met.
    pub fn is_spent(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The fault for this call, waited out already if it is a delay.
    async fn meet(&self) -> Option<Fault> {
        let fault = self.0.lock().pop_front();
        if let Some(Fault::Delay(delay)) = &fault {
            tokio::time::sleep(*delay).await;
        }
        fault
    }
}

/// The answer to faults that refuse before anything is done; `None` for those that act later.
fn refused(fault: Option<&Fault>) -> Option<Response> {
    match fault {
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Some((status, "injected").into_response())
        }
        Some(Fault::TooMany { retry_after }) => {
            let header = [(RETRY_AFTER, retry_after.to_string())];
            Some((StatusCode::TOO_MANY_REQUESTS, header, "injected").into_response())
        }
        _ => None,
    }
}

/// The answer to a fault that strikes when everything is done.
fn belated(fault: Option<&Fault>) -> Option<Response> {
    match fault {
        Some(Fault::Late(status)) => refused(Some(&Fault::Status(*status))),
        _ => None,
    }
}

/// The bearer token of a request; empty if there is none.
fn bearer(headers: &axum::http::HeaderMap) -> &str {
    let value = headers.get(axum::http::header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    value.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default()
}

/// True if the request says that its body is JSON.
fn is_json(headers: &axum::http::HeaderMap) -> bool {
    let value =
        headers.get(axum::http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
