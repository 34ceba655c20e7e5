//! A model that trickles is as good as down.
//!
//! Before anything was shown the start of an answer is probed: what comes is held back until it has brought as much as
//! three seconds must, or the three seconds are over. So another model can still be asked, and nobody sees two
//! beginnings. Once something was shown the same speed holds for each half minute, and who falls below it is told as
//! broken off.

use std::time::Duration;

use tokio::time::Instant;

use crate::Kind;

/// How long the start of an answer is probed at most.
pub(crate) const PROBE: Duration = Duration::from_secs(3);
/// So much held back is enough, whatever speed is asked.
pub(crate) const PROBE_BYTES: usize = 64 << 10;
/// Over how long the speed is measured once something was shown.
pub(crate) const WINDOW: Duration = Duration::from_secs(30);

/// The probe of an answer's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// When it ends.
    pub(crate) until: Instant,
    enough: u64,
}

impl Probe {
    /// From the first text on.
    pub(crate) fn begin(min_chars_per_s: u32) -> Self {
        let enough = u64::from(min_chars_per_s).saturating_mul(PROBE.as_secs());
        Self { until: Instant::now() + PROBE, enough }
    }

    /// Whether the text so far passes before the time is over.
    pub(crate) fn is_passed(&self, text: &str) -> bool {
        text.len() >= PROBE_BYTES || text.chars().count() as u64 >= self.enough
    }

    /// Why it is not.
    pub(crate) const fn failure() -> Kind {
        Kind::TooSlow { after: PROBE }
    }
}

/// The speed of what is shown. Only the time in which the provider was waited for counts: who reads slowly does not make
/// the model slow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speed {
    min_chars_per_s: Option<u32>,
    waited: Duration,
    chars: u64,
}

impl Speed {
    pub(crate) fn of(min_chars_per_s: Option<u32>) -> Self {
        Self { min_chars_per_s, ..Self::default() }
    }

    /// How long may still be waited before the speed is looked at.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.min_chars_per_s.map(|_| WINDOW.saturating_sub(self.waited))
    }

    /// It was waited for so long.
    pub(crate) fn waited(&mut self, time: Duration) -> Result<(), Kind> {
        let Some(min) = self.min_chars_per_s else { return Ok(()) };
        self.waited = self.waited.saturating_add(time);
        if self.waited < WINDOW {
            return Ok(());
        }
        let is_slow = self.chars < u64::from(min).saturating_mul(WINDOW.as_secs());
        (self.waited, self.chars) = (Duration::ZERO, 0);
        if is_slow { Err(Kind::TooSlow { after: WINDOW }) } else { Ok(()) }
    }

    /// This came.
    pub(crate) fn came(&mut self, text: &str) {
        if self.min_chars_per_s.is_some() {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
        }
    }

    /// It thinks, which is no slowness of speech.
    pub(crate) fn thinks(&mut self) {
        (self.waited, self.chars) = (Duration::ZERO, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_characters_as_three_seconds_must_bring_pass_the_probe() {
        for (text, passes) in [("x".repeat(29), false), ("x".repeat(30), true), ("ü".repeat(29), false)] {
            assert_eq!(Probe::begin(10).is_passed(&text), passes, "{text}");
        }
        assert!(Probe::begin(u32::MAX).is_passed(&"x".repeat(PROBE_BYTES)));
    }

    #[test]
    fn each_half_minute_must_bring_its_share() {
        let mut speed = Speed::of(Some(2));
        speed.came(&"x".repeat(60));
        assert!(speed.waited(WINDOW).is_ok());
        speed.came(&"x".repeat(59));
        assert!(speed.waited(WINDOW / 2).is_ok());
        assert_eq!(speed.left(), Some(WINDOW / 2));
        assert_eq!(speed.waited(WINDOW / 2), Err(Kind::TooSlow { after: WINDOW }));
        assert!(speed.waited(WINDOW / 2).is_ok());
        speed.thinks();
        assert_eq!(speed.left(), Some(WINDOW), "thoughts begin it anew");
        let mut any = Speed::of(None);
        assert_eq!((any.left(), any.waited(WINDOW * 9)), (None, Ok(())));
    }
}
