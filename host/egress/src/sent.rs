//! A request's body that tells whether it was begun.
//!
//! The HTTP client asks for the body only once it holds a connection that stands, and before any byte of the request
//! leaves. So a body that nobody asked for means that the peer got nothing, however the exchange ended: the one thing
//! that no error of the client says for sure. A connection is another task's, which may ask in the very moment in which
//! somebody gives up; so whoever gives up says it here, and then none is given.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

/// Whether a request was begun. Clones watch the same request.
#[derive(Debug, Clone, Default)]
pub struct Begun(Arc<AtomicU8>);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// What a connection is told that asks too late.
#[derive(Debug, thiserror::Error)]
#[error("request was given up before it was begun")]
struct GivenUp;

impl Begun {
    /// The body of a request that this watches.
    pub(crate) fn watch(&self, body: Bytes) -> reqwest::Body {
        reqwest::Body::wrap(Watched { body: Some(body).filter(|body| !body.is_empty()), begun: self.clone() })
    }

    /// Says that it was; false if it was given up before.
    pub fn mark(&self) -> bool {
        self.turn(BEGUN) != Err(GIVEN_UP)
    }

    /// Gives it up. True if nothing of the request has left, and nothing will.
    pub fn give_up(&self) -> bool {
        self.turn(GIVEN_UP) != Err(BEGUN)
    }

    /// True if bytes of the request may have left.
    pub fn is_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) == BEGUN
    }

    fn turn(&self, into: u8) -> Result<u8, u8> {
        self.0.compare_exchange(WAITING, into, Ordering::AcqRel, Ordering::Acquire)
    }
}

struct Watched {
    body: Option<Bytes>,
    begun: Begun,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if !self.begun.mark() {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    /// Of an empty body this is all that is asked, at the same moment.
    fn is_end_stream(&self) -> bool {
        self.begun.mark() && self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &mut Watched) -> Option<Result<Bytes, GivenUp>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())),
            Poll::Pending => panic!("it waits for nothing"),
        }
    }

    #[test]
    fn what_was_given_up_is_never_begun_and_what_was_begun_cannot_be_given_up() {
        let body = |begun: &Begun| Watched { body: Some(Bytes::from_static(b"x")), begun: begun.clone() };
        let begun = Begun::default();
        assert_eq!(asked(&mut body(&begun)).unwrap().unwrap(), "x");
        assert!(begun.is_begun() && !begun.give_up());
        let begun = Begun::default();
        assert!(begun.give_up() && begun.give_up() && !begun.is_begun());
        let mut late = body(&begun);
        assert!(asked(&mut late).unwrap().is_err() && !begun.is_begun());
        // One without bytes is not told to be at its end either: its head would leave.
        assert!(!Watched { body: None, begun }.is_end_stream());
    }
}
