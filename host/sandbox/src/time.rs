//! The virtual clock of one call: it starts where the host says and moves by what the guest does.
//!
//! Each reading adds one microsecond, so that a replay of the call reads the same times bit for bit, and so that
//! a guest cannot measure its neighbours. Stations move it forward when time really passed.

use chela_types::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a reading adds.
const TICK_NANOS: u64 = 1_000;

/// Nanoseconds since 1970. Clones share the time.
#[derive(Debug, Clone)]
pub(crate) struct VirtualTime {
    started: u64,
    now: Arc<AtomicU64>,
}

impl VirtualTime {
    pub(crate) fn starting_at(started: Millis) -> Self {
        let nanos = nanos(started);
        Self { started: nanos, now: Arc::new(AtomicU64::new(nanos)) }
    }

    /// Nanoseconds since 1970, one tick later than at the last reading.
    pub(crate) fn read_wall(&self) -> u64 {
        self.now.fetch_add(TICK_NANOS, Ordering::Relaxed).saturating_add(TICK_NANOS)
    }

    /// Nanoseconds since the call began, one tick later than at the last reading.
    pub(crate) fn read_monotonic(&self) -> u64 {
        self.read_wall().saturating_sub(self.started)
    }

    /// Nanoseconds since the call began, without a tick: for the host.
    pub(crate) fn monotonic(&self) -> u64 {
        self.now.load(Ordering::Relaxed).saturating_sub(self.started)
    }

    /// Now, without a tick.
    pub(crate) fn now(&self) -> Millis {
        Millis(i64::try_from(self.now.load(Ordering::Relaxed) / 1_000_000).unwrap_or(i64::MAX))
    }

    /// Moves forward to `then`; never back.
    pub(crate) fn move_to(&self, then: Millis) {
        self.now.fetch_max(nanos(then), Ordering::Relaxed);
    }

    /// Moves forward to so many nanoseconds after the start; never back.
    pub(crate) fn move_to_monotonic(&self, nanos: u64) {
        self.now.fetch_max(self.started.saturating_add(nanos), Ordering::Relaxed);
    }
}

fn nanos(at: Millis) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_by_what_the_guest_does() {
        let time = VirtualTime::starting_at(Millis(5));
        assert_eq!(time.read_wall(), 5_001_000);
        assert_eq!(time.read_monotonic(), 2_000);
        time.move_to(Millis(7));
        time.move_to(Millis(6));
        assert_eq!(time.now(), Millis(7), "never back");
        time.move_to_monotonic(4_000_000);
        assert_eq!(time.read_wall(), 9_001_000);
    }
}
