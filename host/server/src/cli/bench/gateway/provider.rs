//! The model that all are sent to: it answers at once, always the same, and counts.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use super::super::super::Failure;

/// Bytes of a request that are read.
const REQUEST_MAX: usize = 1 << 20;

/// How a gateway asks that wants the answer as it comes.
const STREAMED: [&[u8]; 2] = [br#""stream":true"#, br#""stream": true"#];

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"model","choices":[{"index":0,"message":{"role":"assistant","content":"Yes: any order can be returned within thirty days. Send it back with the label that came with it."},"finish_reason":"stop"}],"usage":{"prompt_tokens":52,"completion_tokens":21,"total_tokens":73}}"#;

/// The same as events.
const EVENTS: &str = concat!(
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"model","choices":[{"index":0,"delta":{"content":"Yes: any order can be returned within thirty days. "},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"model","choices":[{"index":0,"delta":{"content":"Send it back with the label that came with it."},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"model","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"model","choices":[],"usage":{"prompt_tokens":52,"completion_tokens":21,"total_tokens":73}}"#,
    "\n\ndata: [DONE]\n\n",
);

/// A provider on a thread of its own.
pub(super) struct Provider {
    pub(super) address: SocketAddr,
    answered: Arc<AtomicU64>,
    runtime: Option<Runtime>,
}

impl Provider {
    pub(super) async fn start() -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let answered = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&answered);
        let listener = runtime.spawn(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await??;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                let counted = Arc::clone(&counted);
                let service = service_fn(move |request| answer(request, Arc::clone(&counted)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Ok(Self { address, answered, runtime: Some(runtime) })
    }

    /// As providers are configured.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Calls so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(request: Request<Incoming>, counted: Arc<AtomicU64>) -> Result<Response<Body>, Infallible> {
    let is_chat = request.uri().path() == "/v1/chat/completions";
    let read = axum::body::to_bytes(Body::new(request.into_body()), REQUEST_MAX).await;
    let Some(asked) = read.ok().filter(|_| is_chat) else {
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::NOT_FOUND;
        return Ok(refused);
    };
    counted.fetch_add(1, Ordering::Relaxed);
    let is_streamed = STREAMED.iter().any(|word| says(&asked, word));
    let (kind, text) = match is_streamed {
        true => ("text/event-stream", EVENTS),
        false => ("application/json", ANSWER),
    };
    let mut response = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn says(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
