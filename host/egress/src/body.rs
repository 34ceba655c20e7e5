//! The answer's bytes under guard: not too many, not too late.
//!
//! Generic over the source, so that the guard is tested with paused time and no network.

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::leak::Watch;
use crate::{Error, Phase, Way};

/// What one answer may take.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// For errors.
    pub(crate) host: String,
    /// Most bytes in all.
    pub(crate) bytes_max: usize,
    /// Between two pieces.
    pub(crate) idle: Duration,
    /// The whole, and when it ends.
    pub(crate) total: (Duration, Instant),
    /// What must not be in it.
    pub(crate) leaks: Option<Watch>,
}

impl Guard {
    /// The same bytes, until one of the limits is met; after an error nothing follows.
    pub(crate) fn watch(
        self,
        source: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> BoxStream<'static, Result<Bytes, Error>> {
        let state = Some((self, 0_usize, Box::pin(source)));
        futures::stream::unfold(state, |state| async move {
            let (mut guard, seen, mut source) = state?;
            let (phase, after, until) = guard.next_deadline();
            let item = match timeout_at(until, source.next()).await {
                Err(_) => Err(Error::Timeout { host: guard.host.clone(), phase, after }),
                Ok(None) => return None,
                Ok(Some(item)) => item,
            };
            match item {
                Ok(bytes) if seen.saturating_add(bytes.len()) > guard.bytes_max => {
                    Some((Err(Error::TooLarge { host: guard.host, limit: guard.bytes_max }), None))
                }
                Ok(bytes) if guard.leaks.as_mut().is_some_and(|leaks| leaks.found_in(&bytes)) => {
                    Some((Err(Error::Leak { host: guard.host, way: Way::In }), None))
                }
                Ok(bytes) => {
                    let seen = seen.saturating_add(bytes.len());
                    Some((Ok(bytes), Some((guard, seen, source))))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    fn next_deadline(&self) -> (Phase, Duration, Instant) {
        let idle = Instant::now() + self.idle;
        if self.total.1 < idle {
            (Phase::Total, self.total.0, self.total.1)
        } else {
            (Phase::Idle, self.idle, idle)
        }
    }
}

/// Collects a guarded body; its limit is the guard's.
pub(crate) async fn collect(body: BoxStream<'static, Result<Bytes, Error>>) -> Result<Bytes, Error> {
    let whole = body
        .try_fold(BytesMut::new(), |mut whole, bytes| async move {
            whole.extend_from_slice(&bytes);
            Ok(whole)
        })
        .await?;
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn guard(bytes_max: usize) -> Guard {
        let total = Duration::from_secs(60);
        Guard {
            host: "h".into(),
            bytes_max,
            idle: Duration::from_secs(5),
            total: (total, Instant::now() + total),
            leaks: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_byte_limit_is_obeyed_and_violated() {
        let pieces = || stream::iter([Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"def"))]);
        assert_eq!(collect(guard(6).watch(pieces())).await.unwrap(), "abcdef");
        let error = collect(guard(5).watch(pieces())).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 5, .. }) && error.reached());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_the_stream_once() {
        let source = stream::iter([Ok(Bytes::from_static(b"a"))]).chain(stream::pending());
        let mut watched = guard(9).watch(source);
        assert!(watched.next().await.unwrap().is_ok());
        let error = watched.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Timeout { phase: Phase::Idle, .. }), "{error}");
        assert!(watched.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_ends_at_the_total_time() {
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Some((Ok(Bytes::from_static(b"a")), ()))
        });
        let error = collect(guard(1000).watch(drip)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { phase: Phase::Total, .. }), "{error}");
    }
}
