//! A stream at its client's pace, up to a limit.
//!
//! A stream is moved on by the writes of its connection alone. A client that stops reading would hold all that is behind
//! an answer for as long as it likes, because no limit of time holds where nobody looks: a place at the provider, and the
//! money that is reserved in the budgets of its department and of all. So a task of its own moves it on, and gives up on
//! who leaves it unread.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;

/// Pieces that are ready before a client has read those before.
const AHEAD: usize = 64;
/// How long a client may keep an answer waiting, all its pieces together: who reads one a minute would never end.
pub(super) const UNREAD: Duration = Duration::from_mins(1);

/// The same pieces, until the client has gone or has left them unread for too long: then they break off without an end.
pub(super) fn at_its_pace<T: Send + 'static>(
    pieces: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> {
    let (tell, mut hear) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut pieces = std::pin::pin!(pieces);
        let mut left = UNREAD;
        loop {
            let next = tokio::select! {
                next = pieces.next() => next,
                () = tell.closed() => return,
            };
            let Some(piece) = next else { return };
            let began = Instant::now();
            match tell.send_timeout(piece, left).await {
                Ok(()) => left = left.saturating_sub(began.elapsed()),
                Err(SendTimeoutError::Closed(_)) => return,
                Err(SendTimeoutError::Timeout(_)) => {
                    tracing::info!("a client left its answer unread, and was cut off");
                    return;
                }
            }
        }
    });
    futures::stream::poll_fn(move |context| hear.poll_recv(context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Weak};
    use tokio::time::sleep;

    /// Numbers without end, and what is held as long as they are told.
    fn numbers() -> (impl Stream<Item = usize> + Send + 'static, Weak<()>) {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let numbers = futures::stream::iter(0..).map(move |number| {
            let _held = &held;
            number
        });
        (numbers, weak)
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_in_time_hears_everything_obeyed() {
        let (numbers, _held) = numbers();
        let mut paced = std::pin::pin!(at_its_pace(numbers.take(4 * AHEAD)));
        for number in 0..4 * AHEAD {
            if number % AHEAD == 0 {
                sleep(UNREAD / 5).await;
            }
            assert_eq!(paced.next().await, Some(number));
        }
        assert_eq!(paced.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_holds_nothing_violated() {
        let (numbers, held) = numbers();
        let mut paced = std::pin::pin!(at_its_pace(numbers));
        assert_eq!(paced.next().await, Some(0));
        sleep(UNREAD - Duration::from_secs(1)).await;
        assert!(held.upgrade().is_some(), "it is waited for");
        sleep(Duration::from_secs(2)).await;
        assert!(held.upgrade().is_none(), "what it held is free, though its connection is there");
        // What was ready is heard; no end is.
        assert!(paced.count().await <= AHEAD + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_little_now_and_then_does_not_hold_it_for_ever_either() {
        let (numbers, held) = numbers();
        let mut paced = std::pin::pin!(at_its_pace(numbers));
        for _ in 0..3 {
            sleep(UNREAD / 2).await;
            assert!(paced.next().await.is_some());
        }
        assert!(held.upgrade().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_holds_nothing() {
        let held = Arc::new(());
        let silent = futures::stream::pending::<()>().map({
            let held = Arc::clone(&held);
            move |()| drop(Arc::clone(&held))
        });
        let paced = at_its_pace(silent);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 2);
        drop(paced);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
