//! Many calls, a tenth of them hostile: what a host keeps of them must not grow.

use chela_sandbox::Level;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

use crate::attack::{Act, Attack, Guest};
use crate::corpus;
use crate::cost::{descriptors, field};
use crate::outcome::Outcome;
use crate::{Drill, Error};

/// Calls at once.
const AT_ONCE: u64 = 32;
/// Every so many calls, one is hostile.
const HOSTILE: u64 = 10;
/// Figures are taken so many times.
const MARKS: u64 = 10;

/// The hostile ones: those that end by themselves or at a count, so that a million calls end, too.
const ATTACKS: [&str; 12] = [
    "trap",
    "divide",
    "out-of-bounds",
    "deep-recursion",
    "memory-steps",
    "handles",
    "host-ping-pong",
    "bad-utf8",
    "string-4-gib",
    "list-large",
    "realloc-calls-out",
    "guessed-handle",
];

/// What this process holds after so many calls.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mark {
    /// Calls so far.
    pub calls: u64,
    /// Calls a second since the mark before.
    pub per_second: u64,
    /// Resident bytes of this process.
    pub resident_bytes: Option<u64>,
    /// Its open descriptors.
    pub descriptors: Option<usize>,
}

/// What many calls came to.
#[derive(Debug, Clone, Serialize)]
pub struct Soak {
    /// Where they ran.
    pub isolation: Level,
    /// Calls.
    pub calls: u64,
    /// Of them, hostile ones.
    pub hostile: u64,
    /// Calls that ended otherwise than they must.
    pub wrong: u64,
    /// At each tenth.
    pub marks: Vec<Mark>,
}

impl Soak {
    /// By how much this process grew from the first mark, when everything is warm, to the last.
    #[must_use]
    pub fn growth_bytes(&self) -> Option<u64> {
        let bytes = |mark: &Mark| mark.resident_bytes;
        let (first, last) = (self.marks.first().and_then(bytes)?, self.marks.last().and_then(bytes)?);
        Some(last.saturating_sub(first))
    }

    /// The same of descriptors.
    #[must_use]
    pub fn more_descriptors(&self) -> Option<usize> {
        let open = |mark: &Mark| mark.descriptors;
        let (first, last) = (self.marks.first().and_then(open)?, self.marks.last().and_then(open)?);
        Some(last.saturating_sub(first))
    }
}

impl Drill {
    /// Makes so many calls at this level, and tells of each mark.
    ///
    /// # Errors
    /// A guest that cannot be loaded.
    pub async fn soak(
        self: &Arc<Self>,
        calls: u64,
        level: Level,
        mut tell: impl FnMut(&Mark),
    ) -> Result<Soak, Error> {
        let mut guests = Vec::new();
        for attack in ATTACKS.iter().filter_map(|name| corpus::find(name)) {
            guests.push((attack.ends, self.loaded(guest(attack)?, level).await?));
        }
        let honest = self.loaded("honest", level).await?;
        let (guests, honest) = (Arc::new(guests), Arc::new(honest));
        let (next, wrong) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut soak =
            Soak { isolation: level, calls, hostile: calls / HOSTILE, wrong: 0, marks: Vec::new() };
        for mark in 1..=MARKS {
            let (end, began) = (calls * mark / MARKS, Instant::now());
            let before = calls * (mark - 1) / MARKS;
            let mut callers = JoinSet::new();
            for _ in 0..AT_ONCE {
                let drill = Arc::clone(self);
                let (guests, honest) = (Arc::clone(&guests), Arc::clone(&honest));
                let (next, wrong) = (Arc::clone(&next), Arc::clone(&wrong));
                callers.spawn(async move {
                    loop {
                        let call = next.fetch_add(1, Ordering::Relaxed);
                        if call >= end {
                            break;
                        }
                        let at = usize::try_from(call / HOSTILE).unwrap_or_default() % guests.len().max(1);
                        let (ends, probed) = match guests.get(at).filter(|_| call % HOSTILE == 0) {
                            Some((ends, probed)) => (*ends, probed),
                            None => (&[Outcome::Answered][..], &*honest),
                        };
                        if !ends.contains(&drill.ask(probed, call).await) {
                            wrong.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            while callers.join_next().await.is_some() {}
            next.store(end, Ordering::Relaxed);
            let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            let mark = Mark {
                calls: end,
                per_second: (end - before).saturating_mul(1_000) / millis,
                resident_bytes: field("self", "VmRSS:"),
                descriptors: descriptors(),
            };
            tell(&mark);
            soak.marks.push(mark);
        }
        soak.wrong = wrong.load(Ordering::Relaxed);
        Ok(soak)
    }
}

fn guest(attack: &Attack) -> Result<&'static str, Error> {
    match (attack.guest, attack.act) {
        (Guest::Written(name), Act::Ask(..)) => Ok(name),
        _ => Err(Error::Unknown(attack.name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_of_a_soak_is_an_attack_in_text() {
        for name in ATTACKS {
            assert!(guest(corpus::find(name).unwrap()).is_ok(), "{name}");
        }
    }
}
