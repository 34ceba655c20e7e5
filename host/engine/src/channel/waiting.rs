//! Platforms' requests that wait for the answer: it becomes their response if it is there in time.
//!
//! A request is put down under its turn before the message is kept, because a worker may have the answer at once.
//! Whoever comes first wins: an answer that is handed over is the response, also if the time is up in that moment;
//! one that comes later finds nobody and goes out in the usual way.

use chela_types::TurnId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use super::station::Acknowledgement;

/// The requests that wait. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    requests: Arc<Mutex<HashMap<TurnId, oneshot::Sender<Acknowledgement>>>>,
    max: usize,
}

/// A request's place among them, left when it is dropped.
#[derive(Debug)]
pub(crate) struct Wait {
    waiting: Waiting,
    turn: TurnId,
    answer: oneshot::Receiver<Acknowledgement>,
}

impl Waiting {
    /// At most `max` at once.
    pub(crate) fn new(max: usize) -> Self {
        Self { requests: Arc::default(), max }
    }

    /// Puts a request down under its turn; `None`: too many wait.
    pub(crate) fn put(&self, turn: TurnId) -> Option<Wait> {
        let mut waiting = self.requests.lock();
        if waiting.len() >= self.max {
            metrics::counter!("responses_refused_total").increment(1);
            return None;
        }
        let (sender, answer) = oneshot::channel();
        waiting.insert(turn, sender);
        Some(Wait { waiting: self.clone(), turn, answer })
    }

    /// Whether the turn's request still waits.
    pub(crate) fn waits(&self, turn: TurnId) -> bool {
        self.requests.lock().get(&turn).is_some_and(|sender| !sender.is_closed())
    }

    /// Hands the answer over. False: nobody waits any more.
    pub(crate) fn answer(&self, turn: TurnId, response: Acknowledgement) -> bool {
        let sender = self.requests.lock().remove(&turn);
        sender.is_some_and(|sender| sender.send(response).is_ok())
    }
}

impl Wait {
    /// The answer, if it comes in time.
    pub(crate) async fn within(mut self, deadline: Duration) -> Option<Acknowledgement> {
        match tokio::time::timeout(deadline, &mut self.answer).await {
            Ok(answered) => answered.ok(),
            Err(_) => self.no_longer(),
        }
    }

    /// From here on nobody can hand anything over; what was handed over just now counts.
    fn no_longer(mut self) -> Option<Acknowledgement> {
        self.answer.close();
        self.answer.try_recv().ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waiting.requests.lock().remove(&self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(body: &str) -> Acknowledgement {
        Acknowledgement { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_in_time_is_the_response_and_who_comes_late_finds_nobody() {
        let (waiting, turn) = (Waiting::new(1), TurnId::new());
        let wait = waiting.put(turn).unwrap();
        assert!(waiting.waits(turn));
        assert!(waiting.answer(turn, response("first")));
        assert!(!waiting.answer(turn, response("second")));
        assert_eq!(wait.within(Duration::from_secs(1)).await, Some(response("first")));

        let late = waiting.put(turn).unwrap();
        assert_eq!(late.within(Duration::from_secs(1)).await, None);
        assert!(!waiting.waits(turn) && !waiting.answer(turn, response("late")));
        assert!(waiting.requests.lock().is_empty(), "nothing is left behind");
    }

    #[test]
    fn what_is_handed_over_in_the_last_moment_counts() {
        let (waiting, turn) = (Waiting::new(1), TurnId::new());
        let wait = waiting.put(turn).unwrap();
        assert!(waiting.answer(turn, response("just now")), "handed over, and so delivered");
        assert_eq!(wait.no_longer(), Some(response("just now")));
        assert_eq!(waiting.put(turn).unwrap().no_longer(), None);
    }

    #[test]
    fn a_request_that_is_gone_waits_no_more_and_the_places_are_limited() {
        let waiting = Waiting::new(2);
        let turn = TurnId::new();
        drop(waiting.put(turn).unwrap());
        assert!(!waiting.waits(turn));
        let places: Vec<_> = (0..2).map(|_| waiting.put(TurnId::new()).unwrap()).collect();
        assert!(waiting.put(TurnId::new()).is_none());
        drop(places);
        assert!(waiting.put(TurnId::new()).is_some());
    }
}
