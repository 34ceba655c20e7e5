//! Speaks with a running host through the Unix socket in its data folder: a file that only its owner may open is all
//! the proof that is needed. Who sits here is said along, for the history.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::doors::{OPERATOR_HEADER, is_plain};

/// How long an answer is waited for: longer than a plugin may take to be prepared.
const ANSWER_WAIT: Duration = Duration::from_secs(600);
/// Most bytes of an answer: a long listing.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// So much of an answer that is no problem of ours is repeated to the person.
const SAID_CHARS_MAX: usize = 500;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody listens.
    #[error("the host does not answer at {path}: it is starting still, or stops")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the host broke off")]
    Broken(#[source] hyper::Error),
    /// It took too long.
    #[error("the host has not answered within {} s", ANSWER_WAIT.as_secs())]
    Late,
    /// It has been told to stop, and tells nothing more.
    #[error("the host stops")]
    Stops,
    /// The host says no.
    #[error("{said}")]
    Answer {
        /// Its status.
        status: u16,
        /// Why, in its words.
        said: String,
    },
    /// The host is another version than this command line.
    #[error("the host's answer is not understood: is it of another version than this program?")]
    Strange,
}

impl Error {
    /// A host that has answered before is gone, or about to go.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Stops | Self::Connect { .. })
    }
}

/// A running host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    socket: PathBuf,
}

impl Host {
    /// Behind this socket; nothing is connected yet.
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::GET, path, Body::empty()).await
    }

    /// Posts `body` as JSON to `path`.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|_| Error::Strange)?;
        self.ask(Method::POST, path, Body::from(body)).await
    }

    /// Ends what is at `path`.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::DELETE, path, Body::empty()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, Error> {
        let answer = tokio::time::timeout(ANSWER_WAIT, self.exchange(method, path, body));
        let (status, bytes) = answer.await.map_err(|_| Error::Late)??;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| Error::Strange)
    }

    async fn exchange(&self, method: Method, path: &str, body: Body) -> Result<(u16, Vec<u8>), Error> {
        let connected = UnixStream::connect(&self.socket).await;
        let stream = connected.map_err(|source| Error::Connect { path: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Broken)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json");
        if let Some(name) = std::env::var("USER").ok().filter(|name| is_plain(name)) {
            request = request.header(OPERATOR_HEADER, name);
        }
        let request = request.body(body).map_err(|_| Error::Strange)?;
        let asking = async {
            let answer = sender.send_request(request).await.map_err(Error::Broken)?;
            let status = answer.status().as_u16();
            let body = to_bytes(Body::new(answer.into_body()), ANSWER_BYTES_MAX).await;
            Ok((status, body.map_err(|_| Error::Strange)?.to_vec()))
        };
        // The connection is driven for as long as the answer is read, and no longer.
        tokio::pin!(asking, connection);
        tokio::select! {
            answer = &mut asking => answer,
            ended = &mut connection => match ended {
                Ok(()) => asking.await,
                Err(error) => Err(Error::Broken(error)),
            },
        }
    }
}

fn refusal(status: u16, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    match problem.pointer("/error/code").and_then(Value::as_str) {
        Some("draining") => Error::Stops,
        _ => Error::Answer { status, said: said(body) },
    }
}

/// The host's own words, or the beginning of what came instead.
fn said(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| problem.pointer(key).and_then(Value::as_str).map(str::to_owned);
    match (text("/error/message"), text("/error/code")) {
        // What an operator can mend is told in full; the host's own trouble is in its log.
        (Some(message), Some(code)) if message.starts_with("not served") => {
            format!("the host could not do it ({code}); its log says why")
        }
        (Some(message), _) => message,
        _ => String::from_utf8_lossy(body).chars().take(SAID_CHARS_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Path;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::json;
    use tokio::net::UnixListener;
    use tokio_util::sync::CancellationToken;

    use crate::doors::{Connections, serve};

    async fn host(folder: &std::path::Path) -> (Host, CancellationToken) {
        let path = folder.join("chela.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let refused = async || {
            let problem =
                json!({ "error": { "code": "swap", "message": "plugin `x` has no other version" } });
            (StatusCode::CONFLICT, Json(problem))
        };
        let router = Router::new()
            .route("/echo/{name}", get(async |Path(name): Path<String>| Json(name)))
            .route(
                "/who",
                get(async |headers: HeaderMap| {
                    Json(headers.get(OPERATOR_HEADER).map(|name| name.to_str().unwrap().to_owned()))
                }),
            )
            .route("/back", post(async |Json(body): Json<Value>| Json(body)))
            .route("/refused", get(refused))
            .route("/large", get(async || Json("x".repeat(1 << 20))))
            .route("/odd", get(async || "no JSON"));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, router, Connections::STANDARD, stop.clone()));
        (Host::at(path), stop)
    }

    #[tokio::test]
    async fn a_host_is_asked_and_answers() {
        let folder = tempfile::tempdir().unwrap();
        let (host, _stop) = host(folder.path()).await;
        assert_eq!(host.get::<String>("/echo/ann").await.unwrap(), "ann");
        let body = json!({ "order": "stop" });
        assert_eq!(host.post::<Value>("/back", &body).await.unwrap(), body);
        assert_eq!(host.get::<String>("/large").await.unwrap().len(), 1 << 20);
        let who: Option<String> = host.get("/who").await.unwrap();
        assert_eq!(who, std::env::var("USER").ok().filter(|name| is_plain(name)));
    }

    #[tokio::test]
    async fn a_refusal_is_in_the_hosts_words() {
        let folder = tempfile::tempdir().unwrap();
        let (host, _stop) = host(folder.path()).await;
        let error = host.get::<Value>("/refused").await.unwrap_err();
        assert_eq!(error.to_string(), "plugin `x` has no other version");
        assert!(matches!(error, Error::Answer { status: 409, .. }));
        assert!(matches!(host.get::<Value>("/odd").await, Err(Error::Strange)));
        assert!(matches!(host.get::<Value>("/none").await, Err(Error::Answer { status: 404, .. })));
        let nobody = Host::at(folder.path().join("none.sock"));
        assert!(matches!(nobody.get::<Value>("/echo/x").await, Err(Error::Connect { .. })));
    }
}
