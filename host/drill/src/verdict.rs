//! What came of an attack, for people and machines.

use chela_sandbox::Level;
use serde::Serialize;

use crate::attack::Family;

/// What came of one attack.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The attack.
    pub attack: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// What it is about.
    pub family: Family,
    /// Where its calls ran.
    pub isolation: Level,
    /// Whether it was contained.
    pub contained: bool,
    /// How it ended, in a word.
    pub ended: String,
    /// How it must.
    pub must_end: Vec<String>,
    /// What the host said of it.
    pub said: String,
    /// What speaks against it, if it was not contained.
    pub against: Vec<String>,
    /// What it cost to load it.
    pub load: Cost,
    /// What it cost to call it; absent if it was not called.
    pub call: Option<Cost>,
}

/// What a load or a call cost, and what it might.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// Milliseconds.
    pub ms: u64,
    /// The most that they might be.
    pub ms_max: u64,
    /// Bytes by which this process grew at most; absent where the system does not tell.
    pub host_bytes: Option<u64>,
    /// The most that they might be.
    pub host_bytes_max: u64,
    /// Bytes by which the largest of its children grew at most.
    pub child_bytes: Option<u64>,
    /// The most that they might be.
    pub child_bytes_max: u64,
}

impl Cost {
    /// What is over its bound.
    pub(crate) fn over(&self, what: &str) -> Vec<String> {
        let mib = |bytes: u64| bytes >> 20;
        let mut over = Vec::new();
        if self.ms > self.ms_max {
            over.push(format!("{what} took {} ms, at most {} are its own", self.ms, self.ms_max));
        }
        let memories = [
            ("the host", self.host_bytes, self.host_bytes_max),
            ("a child", self.child_bytes, self.child_bytes_max),
        ];
        for (whose, bytes, max) in memories {
            if let Some(bytes) = bytes.filter(|bytes| *bytes > max) {
                over.push(format!(
                    "{what} took {} MiB of {whose}, at most {} are its own",
                    mib(bytes),
                    mib(max)
                ));
            }
        }
        over
    }
}

/// What came of all of them.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// Attacks that were contained.
    pub contained: usize,
    /// All that were tried.
    pub tried: usize,
    /// Each of them, in the order in which they were tried.
    pub attacks: Vec<Verdict>,
}

impl Score {
    /// Of these.
    #[must_use]
    pub fn of(attacks: Vec<Verdict>) -> Self {
        let contained = attacks.iter().filter(|verdict| verdict.contained).count();
        Self { contained, tried: attacks.len(), attacks }
    }

    /// Whether nothing was tried, or something was not contained.
    #[must_use]
    pub fn has_a_hole(&self) -> bool {
        self.tried == 0 || self.contained < self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost() -> Cost {
        Cost {
            ms: 10,
            ms_max: 10,
            host_bytes: Some(1 << 20),
            host_bytes_max: 1 << 20,
            child_bytes: None,
            child_bytes_max: 0,
        }
    }

    #[test]
    fn bounds_obeyed() {
        assert_eq!(cost().over("the call"), Vec::<String>::new());
    }

    #[test]
    fn bounds_violated() {
        let over =
            Cost { ms: 11, host_bytes: Some(3 << 20), child_bytes: Some(5 << 20), ..cost() }.over("the call");
        assert_eq!(
            over,
            [
                "the call took 11 ms, at most 10 are its own",
                "the call took 3 MiB of the host, at most 1 are its own",
                "the call took 5 MiB of a child, at most 0 are its own"
            ]
        );
    }
}
