//! Connections: how many, how long a head may take, how large it may be, and how they end.
//!
//! hyper is driven here by hand, because a server that waits for ever for a request's head can be held
//! open by anyone with patience.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How long a listener that is told to stop still takes what has come: longer than that needs to be seen.
const LAST_CALL: Duration = Duration::from_millis(50);

/// Bounds of one listener's connections.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Open at once; more wait in the system's backlog.
    pub open_max: usize,
    /// Time for a request's head.
    pub head_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// Time that requests get to end when the listener closes.
    pub close_timeout: Duration,
}

impl Connections {
    /// 10,000 connections; 10 s, 32 KiB and 100 headers for a head; 5 s to close.
    pub const STANDARD: Self = Self {
        open_max: 10_000,
        head_timeout: Duration::from_secs(10),
        head_bytes_max: 32 << 10,
        headers_max: 100,
        close_timeout: Duration::from_secs(5),
    };
}

/// Who is at the other end of a TCP connection; requests over the Unix socket have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// An address type that may tell a peer.
pub trait Address: Send + 'static {
    /// The peer, if it has an address.
    fn peer(&self) -> Option<Peer>;
}

impl Address for SocketAddr {
    fn peer(&self) -> Option<Peer> {
        Some(Peer(*self))
    }
}

impl Address for tokio::net::unix::SocketAddr {
    fn peer(&self) -> Option<Peer> {
        None
    }
}

/// Serves until `stop`, and what has come by then: who has connected or asked, and is not heard yet, would be told by the
/// system that the connection broke. Then lets requests that run come to their end, and closes.
pub async fn serve<L>(mut listener: L, router: Router, bounds: Connections, stop: CancellationToken)
where
    L: Listener,
    L::Addr: Address,
{
    let (seats, open) = (Arc::new(Semaphore::new(bounds.open_max)), TaskTracker::new());
    let closing = CancellationToken::new();
    let mut last_call = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    });
    loop {
        let accept = async {
            let seat = Arc::clone(&seats).acquire_owned().await.ok();
            (seat, listener.accept().await)
        };
        let (seat, (stream, address)) = tokio::select! {
            accepted = accept => accepted,
            () = &mut last_call => break,
        };
        let connection =
            connection(TokioIo::new(stream), router.clone(), address.peer(), bounds.clone(), closing.clone());
        open.spawn(async move {
            connection.await;
            drop(seat);
        });
    }
    drop(listener);
    closing.cancel();
    open.close();
    if tokio::time::timeout(bounds.close_timeout, open.wait()).await.is_err() {
        tracing::warn!(open = open.len(), "closed with requests unfinished");
    }
}

async fn connection<I>(
    io: TokioIo<I>,
    router: Router,
    peer: Option<Peer>,
    bounds: Connections,
    closing: CancellationToken,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let response = router.oneshot(request).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_headers(bounds.headers_max)
        .max_buf_size(bounds.head_bytes_max)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        // First what has come, then the end.
        biased;
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
