//! A request's body that tells whether it was begun.
//!
//! The HTTP client asks for the body only once it holds a connection that stands, and before any byte of the request
//! leaves. So a body that nobody asked for means that the peer got nothing, however the exchange ended: the one thing
//! that no error of the client says for sure.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Whether a request was begun. Clones watch the same request.
#[derive(Debug, Clone, Default)]
pub struct Begun(Arc<AtomicBool>);

impl Begun {
    /// The body of a request that this watches.
    pub(crate) fn watch(&self, body: Bytes) -> reqwest::Body {
        reqwest::Body::wrap(Watched { body: Some(body).filter(|body| !body.is_empty()), begun: self.clone() })
    }

    /// Says that it was.
    pub fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True if bytes of the request may have left.
    pub fn is_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Watched {
    body: Option<Bytes>,
    begun: Begun,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.begun.mark();
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    /// Of an empty body this is all that is asked, at the same moment.
    fn is_end_stream(&self) -> bool {
        self.begun.mark();
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
