//! The end: the load stops, everything acknowledged is waited for, the host stops well, and all books are looked into.

use std::fmt;

use chela_store::Store;

use super::{Rig, judge_turns};
use crate::kill::{Books, Evidence, Name, check, rest};

/// What came of it all.
#[derive(Debug)]
pub struct Ended {
    /// Everything that must not be. Empty: the test has passed.
    pub wrong: Vec<String>,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    turns: usize,
    cut: usize,
    repeats: u64,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, turns, cut, repeats, .. } = self;
        write!(
            f,
            "{acknowledged} messages acknowledged, {turns} turns, {cut} cut off in an agent's hands, {repeats} repeats of ambiguous sends"
        )
    }
}

impl Rig {
    /// Stops the load and the host, and judges what was sent, what was seen and what is kept.
    pub async fn end(mut self) -> Ended {
        self.load.end().await;
        rest(&self.process, || self.evidence()).await;
        assert!(self.process.terminate().await, "it does not stop well:\n{}", self.process.log());
        let store = Store::open_read_only(&self.process.data()).await.unwrap();
        let (counts, ledger) = (store.counts().await.unwrap(), store.ledger(0).await.unwrap());
        let mut evidence = self.evidence();
        evidence.books = Books {
            bill: self.outside.provider.total(),
            settled: ledger.settled,
            unknown: ledger.unknown,
            reserved: ledger.reserved,
        };
        let turns = store.recent_turns(usize::MAX).await.unwrap();
        for turn in &turns {
            let record = store.turn_record(*turn).await.unwrap().unwrap();
            let text = record.message.as_ref().map(|message| message.text.clone()).unwrap_or_default();
            let (name, _) =
                Name::read(text.split(' ').next().unwrap_or_default()).expect("one of our messages");
            evidence.ambiguous.insert(name, record.outbox.map_or(0, |outbox| u64::from(outbox.ambiguous)));
        }
        let verdict = check(&evidence);
        let mut wrong = verdict.wrong;
        wrong.extend(judge_turns(&store, &self.windows, &self.cut).await);
        let left = (counts.waiting, counts.leased, counts.dead, counts.undelivered);
        if left != (0, 0, 0, 0) {
            wrong.push(format!("waiting, leased, dead, undelivered: {left:?}"));
        }
        Ended {
            wrong,
            acknowledged: verdict.acknowledged,
            turns: turns.len(),
            cut: self.cut.begun(),
            repeats: verdict.repeats,
        }
    }

    fn evidence(&self) -> Evidence {
        let sent = self.load.sent().into_iter().chain(self.probes.iter().cloned()).collect();
        Evidence { sent, seen: self.load.seen(), ..Evidence::default() }
    }
}
