//! Files that this process may have open, and who gets how many. Each connection is one.
//!
//! The system gives a process few until it asks for more, and one that has none left accepts nobody: neither a
//! platform nor the operator who would look why. So each of the doors has a share, and leaves the others theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With so many, every share below is as large as it gets. No more are asked for: what starts children and closes
/// their files one by one would take long with millions.
const ENOUGH: usize = 1 << 16;
/// Connections of the public listener.
const PUBLIC_MAX: usize = 10_000;
/// Connections of one of the operators' listeners.
const OPERATORS_MAX: usize = 256;

/// How many files there are to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files(usize);

impl Files {
    /// Raises the soft limit as far as it is of use and the hard one allows. `calls_max`: calls to the outside that
    /// are wanted at once.
    pub fn raise(calls_max: usize) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
        let wanted = hard.min(calls_max.saturating_mul(4).max(ENOUGH) as u64);
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        let all = if soft < wanted && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { soft };
        Self(usize::try_from(all).unwrap_or(usize::MAX))
    }

    /// Connections of the public listener: half.
    pub fn public(self) -> usize {
        PUBLIC_MAX.min(self.0 / 2)
    }

    /// Connections of each of the operators' two listeners.
    pub fn operators(self) -> usize {
        OPERATORS_MAX.min(self.0 / 16)
    }

    /// Calls to the outside: a quarter. What is left is the store's, the plugins' and the log's.
    pub fn calls(self) -> usize {
        self.0 / 4
    }

    /// Whether so many connections were served if there were more.
    pub fn are_too_few_for(self, connections: usize) -> bool {
        self.public() < connections.min(PUBLIC_MAX)
    }

    /// All of them.
    pub fn all(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_leave_each_other_theirs() {
        for all in [256, 1_024, 4_096, ENOUGH] {
            let files = Files(all);
            let shared = files.public() + 2 * files.operators() + files.calls();
            assert!(shared <= all - all / 8, "{all}: {shared}");
        }
        let many = Files(ENOUGH);
        assert!(!many.are_too_few_for(100_000) && Files(1_024).are_too_few_for(513));
        assert_eq!((many.public(), many.operators(), many.calls()), (PUBLIC_MAX, OPERATORS_MAX, 16_384));
    }

    #[test]
    fn the_soft_limit_is_raised_and_the_hard_one_is_kept() {
        let before = getrlimit(Resource::Nofile);
        let files = Files::raise(0);
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        assert!(files.all() as u64 >= before.maximum.unwrap_or(u64::MAX).min(ENOUGH as u64));
    }
}
