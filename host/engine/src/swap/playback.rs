//! The world of a part that is run again: what the recording holds, and nothing else. Where the component asks for what
//! is not there, the run has *diverged*, and ends, or goes on alone: with models that are billed to a scope of their
//! own, with what may be read, and with a memory that is written nowhere.

use std::collections::BTreeMap;

use crate::contract::memory::{Entry, Scope};
use crate::error::Error;
use crate::journal::Asked;
use crate::swap::recording::{Ended, Said};

/// What stands for the world.
#[derive(Debug)]
pub(crate) struct Playback {
    /// What the recorded run still waited for when its time was over.
    cut: Vec<Asked>,
    /// Whether a run that diverges goes on, and who pays then.
    live: Option<&'static str>,
    /// Where it diverged.
    diverged: Option<Asked>,
    memory: BTreeMap<(String, String), Own>,
}

/// A value that this run has written.
#[derive(Debug)]
struct Own {
    entry: Entry,
    /// Nothing is kept under its key.
    is_new: bool,
}

/// Why a run that is played ended before its component did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(unreachable_pub, reason = "stands in the engine's own error, which is public; nobody else meets it")]
pub enum Stop {
    /// The recorded run ended here, too.
    #[error("the recorded call ended while it waited for `{}`", .0.function)]
    Cut(Asked),
    /// It asked for what the recording does not hold.
    #[error("it asked for `{}` as call {}, and the recording holds no such call", .0.function, .0.seq)]
    Diverged(Asked),
}

impl Playback {
    pub(crate) fn of(ended: &Ended, live: Option<&'static str>) -> Self {
        let cut = match ended.said {
            Said::Failed(_) => ended.pending.clone(),
            Said::Answered(_) => Vec::new(),
        };
        Self { cut, live, diverged: None, memory: BTreeMap::new() }
    }

    /// The recording does not hold this call.
    pub(crate) fn leave(&mut self, asked: Asked) -> Result<(), Error> {
        if self.cut.contains(&asked) && self.diverged.is_none() {
            return Err(Stop::Cut(asked).into());
        }
        let first = self.diverged.get_or_insert(asked).clone();
        match self.live {
            Some(_) => Ok(()),
            None => Err(Stop::Diverged(first).into()),
        }
    }

    /// The run reads further in a stream than the recorded one did.
    pub(crate) fn beyond(&mut self, asked: Asked) -> Result<(), Error> {
        match self.cut.contains(&asked) && self.diverged.is_none() {
            true => Err(Stop::Cut(asked).into()),
            // The rest of a stream cannot be asked for alone.
            false => Err(Stop::Diverged(self.diverged.get_or_insert(asked).clone()).into()),
        }
    }

    /// Where the run left the recording.
    pub(crate) fn diverged(&self) -> Option<&Asked> {
        self.diverged.as_ref()
    }

    /// Who pays for what the recording does not hold.
    pub(crate) fn purse(&self) -> &'static str {
        self.live.unwrap_or("replay")
    }

    /// What this run itself has written.
    pub(crate) fn remembered(&self, scope: Scope, key: &str) -> Option<Entry> {
        self.memory.get(&slot(scope, key)).map(|own| own.entry.clone())
    }

    /// How many keys it has added to a scope.
    pub(crate) fn new_keys(&self, scope: Scope) -> usize {
        let scope = format!("{scope:?}");
        self.memory.iter().filter(|((of, _), own)| *of == scope && own.is_new).count()
    }

    /// What the recorded run has written, as this one would read it.
    pub(crate) fn enter(&mut self, (scope, key): (Scope, &str), value: String, version: u64) {
        self.memory.insert(slot(scope, key), Own { entry: Entry { value, version }, is_new: false });
    }

    /// Writes as the store would, for this run alone: whether it was written, and the version that stands then.
    pub(crate) fn remember(
        &mut self,
        (scope, key): (Scope, &str),
        value: String,
        (stands, expected): (u64, Option<u64>),
    ) -> (bool, u64) {
        if expected.is_some_and(|expected| expected != stands) {
            return (false, stands);
        }
        let version = stands + 1;
        let slot = slot(scope, key);
        let is_new = self.memory.get(&slot).map_or(stands == 0, |own| own.is_new);
        self.memory.insert(slot, Own { entry: Entry { value, version }, is_new });
        (true, version)
    }
}

fn slot(scope: Scope, key: &str) -> (String, String) {
    (format!("{scope:?}"), key.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chela_types::{AgentId, Digest, SystemClock};

    use super::*;
    use crate::journal::{Found, Function, Journal, Streamed};
    use crate::swap::recording::{Began, Failed, Recording};
    use crate::testing::Bench;

    async fn begun(bench: &Bench) -> Journal {
        let clock = Arc::new(SystemClock);
        let mut journal =
            Journal::open(bench.store.clone(), bench.claimed.lease.clone(), clock).await.unwrap();
        let began = Began {
            agent: Some(AgentId::new("sales").unwrap()),
            version: Digest::from_bytes([1; 32]),
            frame: Digest::from_bytes([2; 32]),
            past: 0,
            heard: Digest::from_bytes([3; 32]),
            sticky: None,
            purpose: "test".to_owned(),
        };
        journal.begin_agent(&began).await.unwrap();
        journal
    }

    /// Its time is over; the part as the disk has it, played.
    async fn late(bench: &Bench, mut journal: Journal) -> Journal {
        let said = Said::Failed(Failed::Waiting);
        journal.end(Ended { began: None, said, pending: Vec::new() }).await.unwrap();
        bench.store.renew(std::slice::from_ref(&bench.claimed.lease)).await;
        let recording = Recording::read(&bench.store.journal(&bench.claimed.lease).await.unwrap()).unwrap();
        let part = &recording.parts[0];
        Journal::played(Playback::of(&part.ended, None), (recording.start, part), Arc::new(SystemClock))
    }

    fn is_cut<T>(asked: Result<T, Error>) -> bool {
        matches!(asked, Err(Error::Replay(Stop::Cut(_))))
    }

    #[tokio::test]
    async fn a_part_that_ended_in_its_first_call_ends_there_again() {
        let bench = Bench::new().await;
        let mut journal = begun(&bench).await;
        let asked = journal.place::<String>(Function::Complete, &"slow").await.unwrap();
        assert!(matches!(asked, Found::Fresh(_)));
        let mut played = late(&bench, journal).await;
        assert!(is_cut(played.place::<String>(Function::Complete, &"slow").await));
    }

    #[tokio::test]
    async fn what_the_disk_got_too_late_for_the_component_is_not_heard_when_it_is_played() {
        let bench = Bench::new().await;
        let mut journal = begun(&bench).await;
        let Found::Fresh(place) = journal.place::<String>(Function::Complete, &"slow").await.unwrap() else {
            panic!("nobody has asked before");
        };
        // The write has gone off, and the call that awaits it is over.
        let entry = journal.entry(&place, &"late").unwrap();
        bench.store.record(&bench.claimed.lease, entry).await.unwrap();
        let mut played = late(&bench, journal).await;
        assert!(is_cut(played.place::<String>(Function::Complete, &"slow").await));
    }

    #[tokio::test]
    async fn the_end_of_a_stream_that_came_too_late_is_not_heard_when_it_is_played() {
        let bench = Bench::new().await;
        let mut journal = begun(&bench).await;
        let Found::Fresh(place) = journal.place::<Streamed<String>>(Function::Stream, &"slow").await.unwrap()
        else {
            panic!("nobody has asked before");
        };
        journal.opened(&place).lock().push("one".to_owned());
        let (spoken, end) = (vec!["one".to_owned()], Some("late".to_owned()));
        let whole = Streamed { spoken, end, refused: false, content: None };
        let entry = journal.entry(&place, &whole).unwrap();
        bench.store.record(&bench.claimed.lease, entry).await.unwrap();
        let mut played = late(&bench, journal).await;
        let found = played.place::<Streamed<String>>(Function::Stream, &"slow").await.unwrap();
        let Found::Kept(kept, _) = found else { panic!("it has heard the first piece") };
        assert_eq!((kept.spoken, kept.end), (vec!["one".to_owned()], None));
        assert!(is_cut(played.playback().unwrap().beyond(place.asked())));
    }
}
