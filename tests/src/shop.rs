//! A service of somebody else that plugins ask: it says what it was asked, or misbehaves as its path says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET /orders/7?page=2`.
    pub line: String,
    /// Of the credential.
    pub authorization: String,
    /// The body as text.
    pub body: String,
}

/// The service.
#[derive(Debug)]
pub struct Shop {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _stop: DropGuard,
}

impl Shop {
    /// Opens.
    pub async fn open() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&asked));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Self { address, asked, _stop: stop.drop_guard() }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

async fn answer(State(asked): State<Arc<Mutex<Vec<Asked>>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap_or_default();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let heard = Asked {
        line: format!("{} {}", parts.method, parts.uri),
        authorization: header("authorization").to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let said = format!("{} {} {}", heard.line, header("x-kind"), heard.body);
    let credential = heard.authorization.clone();
    asked.lock().push(heard);
    let what = parts.uri.path().rsplit('/').next().unwrap_or_default();
    match what {
        "redirect" => (StatusCode::FOUND, [(LOCATION, "http://169.254.169.254/latest")]).into_response(),
        "missing" => (StatusCode::NOT_FOUND, "no such order").into_response(),
        "cookie" => ([(SET_COOKIE, "session=1")], said).into_response(),
        "large" => vec![b'x'; 2 << 20].into_response(),
        // Whom it was asked by, in pieces.
        "mirror" => pieces(credential),
        "mirror-header" => ([("x-mirror", credential)], said).into_response(),
        "hang" => std::future::pending().await,
        _ => said.into_response(),
    }
}

fn pieces(text: String) -> Response {
    let pieces: Vec<_> = text.into_bytes().chunks(3).map(<[u8]>::to_vec).collect();
    let pieces = futures::stream::iter(pieces).then(|piece| async move {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(piece)
    });
    Body::from_stream(pieces).into_response()
}
