//! A hundred callers who ask and ask until they are refused, and remember when they asked and what they heard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::client::{Heard, Manner, Request};

/// Callers at once.
const CALLERS: u32 = 100;
/// Between a failure and the next request.
const PAUSE: Duration = Duration::from_millis(20);
/// No budget here pays for more calls of one caller.
const CALLS_MAX: u32 = 10_000;

/// A request as its caller saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// By which it is known to the providers.
    pub marker: String,
    /// How it was asked.
    pub manner: Manner,
    /// When.
    pub begun: Instant,
    /// When it was known what came of it.
    pub ended: Instant,
    /// What came of it.
    pub heard: Heard,
}

/// One caller.
#[derive(Clone)]
struct Caller {
    host: SocketAddr,
    round: u32,
    number: u32,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Caller {
    /// Of ten one hangs up, one hears streams and three speak to the agent.
    fn manner(&self) -> Manner {
        match self.number % 10 {
            0 => Manner::Leaving,
            1 => Manner::Streamed,
            2..5 => Manner::Turn,
            _ => Manner::Whole,
        }
    }

    async fn run(self, manner: Manner, mut random: StdRng) {
        for count in 0..CALLS_MAX {
            let marker = format!("#r{}-{}-{count}", self.round, self.number);
            let words = random.random_range(0..40);
            let request = Request { host: self.host, round: self.round, manner, marker, words };
            let begun = Instant::now();
            let Some(heard) = request.ask().await else {
                sleep(PAUSE).await;
                continue;
            };
            let (marker, ended) = (request.marker, Instant::now());
            self.log.lock().push(Asked { marker, manner, begun, ended, heard });
            match heard {
                Heard::Refused => return,
                Heard::Answered(_) | Heard::Left => {}
                Heard::Failed | Heard::Gone => sleep(PAUSE).await,
            }
        }
        panic!("caller {} of round {} was never refused", self.number, self.round);
    }
}

/// Those who ask.
#[derive(Debug)]
pub(super) struct Crowd {
    log: Arc<Mutex<Vec<Asked>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// All begin at once.
    pub(super) fn start(host: SocketAddr, round: u32, seed: u64) -> Self {
        let log = Arc::default();
        let task = |number| {
            let caller = Caller { host, round, number, log: Arc::clone(&log) };
            let random = StdRng::seed_from_u64(seed ^ ((u64::from(round) << 32) | u64::from(number)));
            tokio::spawn(caller.clone().run(caller.manner(), random))
        };
        let tasks = (0..CALLERS).map(task).collect();
        Self { log, tasks }
    }

    /// Whether all have been refused.
    pub(super) fn is_done(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all have been refused; returns what they asked.
    pub(super) async fn end(self) -> Vec<Asked> {
        for task in self.tasks {
            task.await.unwrap();
        }
        self.log.lock().clone()
    }
}

/// One more caller, alone, asks until he is refused: what was given back after the crowd had gone is used, too.
pub(super) async fn ask_until_refused(host: SocketAddr, round: u32) -> Vec<Asked> {
    let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let caller = Caller { host, round, number: CALLERS, log: Arc::clone(&log) };
    caller.run(Manner::Whole, StdRng::seed_from_u64(u64::from(round))).await;
    log.lock().clone()
}
