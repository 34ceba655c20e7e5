//! An agent's desk: its share of concurrency and rate, its department's share, and the line of turns that were sent
//! away because there was no seat.

use chela_types::TurnId;
use futures::FutureExt;
use governor::clock::{Clock, DefaultClock};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::AgentConfig;
use crate::rate;

/// How long a turn waits for its agent's share before it gives its place to another.
const BUSY_WAIT: Duration = Duration::from_secs(2);
/// Shortest and longest pause before a turn whose agent was busy comes again.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// The longest where it is the agent's rate that keeps the line: how long that takes is known.
const RATE_PAUSE_MAX: Duration = Duration::from_mins(1);
/// How long a turn that was sent away counts as one that will come back.
const LINE_MEMORY: Duration = Duration::from_mins(2);

/// An agent's and its department's share of concurrency, held while the agent works.
#[derive(Debug)]
pub(crate) struct Seat {
    _own: OwnedSemaphorePermit,
    _department: Option<OwnedSemaphorePermit>,
}

/// The share of concurrency that a department's agents have together.
#[derive(Debug, Clone)]
pub(crate) struct Department {
    pub(crate) turns: usize,
    seats: Arc<Semaphore>,
}

impl Department {
    pub(crate) fn new(turns: usize) -> Self {
        Self { turns, seats: Arc::new(Semaphore::new(turns.max(1))) }
    }
}

/// One configured agent's limits, whatever version of its plugin serves.
pub(crate) struct Desk {
    /// The agent's own share of concurrency.
    share: Arc<Semaphore>,
    /// Its department's, shared with the colleagues.
    department: Option<Department>,
    rate_per_minute: u32,
    rate: governor::DefaultDirectRateLimiter,
    concurrency: usize,
    line: Mutex<Line>,
}

impl Desk {
    pub(crate) fn new(agent: &AgentConfig, department: Option<Department>) -> Self {
        let concurrency = agent.concurrency.max(1);
        Self {
            share: Arc::new(Semaphore::new(concurrency)),
            department,
            rate_per_minute: agent.rate_per_minute,
            rate: rate::per_minute(agent.rate_per_minute),
            concurrency,
            line: Mutex::default(),
        }
    }

    /// Whether it is still the desk of this configuration: who sits there stays seated.
    pub(crate) fn fits(&self, agent: &AgentConfig, department: Option<&Department>) -> bool {
        let shared = |one: &Department, other: &Department| Arc::ptr_eq(&one.seats, &other.seats);
        let same_department = match (&self.department, department) {
            (Some(one), Some(other)) => shared(one, other),
            (None, None) => true,
            _ => false,
        };
        self.concurrency == agent.concurrency.max(1)
            && self.rate_per_minute == agent.rate_per_minute
            && same_department
    }

    /// A seat for a turn: at once, or after a wait if `waiting` has a place for it.
    ///
    /// # Errors
    /// When to come again.
    pub(crate) async fn seat(&self, turn: TurnId, waiting: &Semaphore) -> Result<Seat, Duration> {
        let mut seat = std::pin::pin!(self.free_seat());
        let seated = match seat.as_mut().now_or_never() {
            Some(at_once) => at_once,
            None => match waiting.try_acquire() {
                Ok(_place) => tokio::time::timeout(BUSY_WAIT, seat).await.ok().flatten(),
                Err(_) => None,
            },
        };
        match seated {
            Some(seat) => {
                self.line.lock().turns.remove(&turn);
                Ok(seat)
            }
            None => Err(self.pause(turn)),
        }
    }

    async fn free_seat(&self) -> Option<Seat> {
        // The department's last: who waits for the agent's own must not hold what its colleagues need.
        let own = Arc::clone(&self.share).acquire_owned().await.ok()?;
        loop {
            let department = match &self.department {
                Some(share) => Some(Arc::clone(&share.seats).acquire_owned().await.ok()?),
                None => None,
            };
            // The rate's allowance is taken when everything else is there, and the wait for it holds nothing of the
            // colleagues'.
            match self.rate.check() {
                Ok(()) => return Some(Seat { _own: own, _department: department }),
                Err(early) => {
                    drop(department);
                    self.line.lock().out_of_rate = Some(Instant::now());
                    tokio::time::sleep(early.wait_time_from(DefaultClock::default().now())).await;
                }
            }
        }
    }

    /// The pause of a turn that is sent away: the longer the line, the longer, so that a flood for one agent does
    /// not keep everybody busy with claiming it.
    fn pause(&self, turn: TurnId) -> Duration {
        let (line, is_out_of_rate) = self.line.lock().join(turn);
        let rate = is_out_of_rate.then_some(self.rate_per_minute);
        // Apart from each other, so that they do not come back together.
        takes(line, self.concurrency, rate).mul_f64(rand::random_range(0.5..1.0))
    }
}

/// How long a line of turns takes; `rate_per_minute` where that is what keeps it.
fn takes(line: usize, concurrency: usize, rate_per_minute: Option<u32>) -> Duration {
    let times = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (shortest, longest) = BUSY_PAUSE;
    let seats = shortest.saturating_mul(times(line / concurrency.max(1)).saturating_add(1)).min(longest);
    let rate = rate_per_minute.map_or(Duration::ZERO, |rate| {
        (Duration::from_mins(1) / rate.max(1)).saturating_mul(times(line)).min(RATE_PAUSE_MAX)
    });
    seats.max(rate)
}

/// Turns that were sent away and will come back. One that does not is forgotten.
#[derive(Debug, Default)]
struct Line {
    turns: HashMap<TurnId, Instant>,
    /// When the agent's rate last kept somebody waiting.
    out_of_rate: Option<Instant>,
    /// Length at which it is looked through for such turns again.
    sweep_at: usize,
}

impl Line {
    /// Adds a turn if it is not there; returns the length, and whether it is the agent's rate that keeps the line.
    fn join(&mut self, turn: TurnId) -> (usize, bool) {
        let now = Instant::now();
        self.turns.insert(turn, now);
        if self.turns.len() > self.sweep_at {
            self.turns.retain(|_, since| now.duration_since(*since) < LINE_MEMORY);
            self.sweep_at = self.turns.len() * 2;
        }
        let is_out_of_rate = self.out_of_rate.is_some_and(|last| now.duration_since(last) <= BUSY_WAIT);
        (self.turns.len(), is_out_of_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_stands_in_line_once_and_one_that_does_not_come_back_is_forgotten() {
        let mut line = Line::default();
        let turns: Vec<TurnId> = (0..5).map(|_| TurnId::new()).collect();
        for turn in turns.iter().cycle().take(50) {
            line.join(*turn);
        }
        assert_eq!(line.turns.len(), 5);
        let long_ago = Instant::now().checked_sub(LINE_MEMORY).unwrap();
        line.turns.values_mut().for_each(|since| *since = long_ago);
        for _ in 0..20 {
            line.join(TurnId::new());
        }
        assert_eq!(line.turns.len(), 20);
    }

    #[test]
    fn who_is_sent_away_comes_again_when_the_line_has_gone() {
        let (none, some) = (None, Some(600));
        let millis = |line, rate| takes(line, 64, rate).as_millis();
        assert_eq!([millis(1, none), millis(64, none), millis(1_000_000, none)], [250, 500, 10_000]);
        // Ten a second, whoever has a seat.
        assert_eq!([millis(1, some), millis(100, some), millis(1_000_000, some)], [250, 10_000, 60_000]);
    }

    #[test]
    fn a_line_is_the_rates_as_long_as_that_keeps_somebody_waiting() {
        let mut line = Line::default();
        assert!(!line.join(TurnId::new()).1);
        line.out_of_rate = Some(Instant::now());
        assert!(line.join(TurnId::new()).1);
        line.out_of_rate = Instant::now().checked_sub(2 * BUSY_WAIT);
        assert!(!line.join(TurnId::new()).1);
    }
}
