//! The host and what is around it: rounds are played, and in the end all books are looked into.

use std::collections::BTreeMap;
use std::time::Duration;

use chela_types::{Clock, Millis, Money, SystemClock};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::books::{Books, Killed, Standing};
use super::crowd::{Asked, Crowd, ask_until_refused};
use super::judge::Round;
use super::watch::{Watch, listed};
use super::world::{Rounds, World, limit, scope, worst};
use crate::process::Process;
use crate::wait::{PATIENCE, eventually};

/// A kill comes so long after the host is ready, at the latest.
const MOMENT: Duration = Duration::from_millis(1_200);
/// Between two rounds, so that each row of the ledger is of one of them.
const BETWEEN: Duration = Duration::from_millis(20);
/// Between two looks at what is still held.
const LOOK: Duration = Duration::from_millis(100);

/// The host and what is around it.
#[derive(Debug)]
pub struct Rig {
    process: Process,
    world: World,
    rounds: Rounds,
    random: StdRng,
    seed: u64,
    /// How kills left all budgets, and in which round.
    left: Vec<(u32, BTreeMap<String, Standing>)>,
}

/// A round that was played.
#[derive(Debug)]
pub struct Played {
    number: u32,
    began: Millis,
    seen: Vec<Vec<Standing>>,
    asked: Vec<Asked>,
    first_kill: Option<Instant>,
    kills: Vec<Killed>,
}

impl Rig {
    /// A host that is ready.
    pub async fn begin(rounds: Rounds, seed: u64) -> Self {
        let world = World::begin().await;
        let mut process = Process::prepare(|folder| world.configuration(folder, rounds));
        process.start();
        process.ready().await; // the first start compiles the plugins
        Self { process, world, rounds, random: StdRng::seed_from_u64(seed), seed, left: Vec::new() }
    }

    /// A hundred callers begin at once and go on until each was refused, and then one more; the host is killed meanwhile,
    /// if this is such a round.
    pub async fn play(&mut self, number: u32) -> Played {
        self.world.misbehave(&mut self.random);
        sleep(BETWEEN).await;
        let began = SystemClock.now();
        let mut played = Played {
            number,
            began,
            seen: Vec::new(),
            asked: Vec::new(),
            first_kill: None,
            kills: Vec::new(),
        };
        let crowd = Crowd::start(self.process.public, number, self.seed);
        if self.rounds.is_killed(number) {
            for _ in 0..self.random.random_range(1..=2) {
                self.kill(&mut played).await;
            }
        }
        let watch = self.watch(number);
        if !self.rounds.is_killed(number) {
            played.seen.push(listed(&self.process, &scope(number), &crowd).await);
        }
        played.asked.extend(crowd.end().await);
        let books = Books::beside(&self.process.data()).await;
        eventually("the turns are answered", async || !books.is_at_work().await).await;
        books.close().await;
        played.asked.extend(ask_until_refused(self.process.public, number).await);
        played.seen.push(watch.end().await);
        played
    }

    fn watch(&self, number: u32) -> Watch {
        Watch::begin(self.process.data(), scope(number))
    }

    /// Kills, reads what is left, and starts again.
    async fn kill(&mut self, played: &mut Played) {
        let watch = self.watch(played.number);
        // The moment is the test.
        sleep(Duration::from_micros(self.random.random_range(0..MOMENT.as_micros() as u64))).await;
        played.first_kill.get_or_insert_with(Instant::now);
        self.process.kill().await;
        played.seen.push(watch.end().await);
        let books = Books::beside(&self.process.data()).await;
        let (killed, all) = books.killed(&scope(played.number)).await;
        books.close().await;
        played.kills.push(killed);
        self.left.push((played.number, all));
        self.process.start();
        self.process.ready().await;
    }

    /// What kills of later rounds found in slices of this round's budget, which nobody had used for less than ten seconds.
    fn left_later(&self, number: u32) -> Money {
        let later = self.left.iter().filter(|(killed, _)| *killed != number);
        later.filter_map(|(_, all)| all.get(&scope(number))).map(|left| left.reserved).sum()
    }

    /// Waits until the host holds nothing any more while it runs, stops it, and reads all books.
    pub async fn end(mut self, played: Vec<Played>) -> Vec<Round> {
        let books = Books::beside(&self.process.data()).await;
        let deadline = Instant::now() + PATIENCE;
        while let Some(held) = books.held().await {
            assert!(Instant::now() < deadline, "after a minute of quiet something is held: {held}");
            sleep(LOOK).await;
        }
        books.close().await;
        assert!(self.process.terminate().await, "it does not stop well:\n{}", self.process.log());
        let books = Books::beside(&self.process.data()).await;
        let (budgets, rows, turns) = (books.budgets().await, books.rows().await, books.turns().await);
        books.close().await;
        let ends: Vec<Millis> =
            played.iter().skip(1).map(|next| next.began).chain([Millis(i64::MAX)]).collect();
        let rounds = played.into_iter().zip(ends).map(|(played, until)| Round {
            limit: limit(),
            worst: worst(),
            rows: rows.iter().filter(|row| (played.began..until).contains(&row.at)).cloned().collect(),
            end: budgets.get(&scope(played.number)).copied().unwrap_or_default(),
            bill: self.world.bill(played.number),
            later: self.left_later(played.number),
            turns: turns.clone(),
            seen: played.seen,
            asked: played.asked,
            first_kill: played.first_kill,
            kills: played.kills,
        });
        rounds.collect()
    }
}
