//! Who waits for the other end looks at the socket for a moment before he sleeps, if his last wait was over so soon.
//!
//! Calls that come one upon the other, their ends, and the answers to what a guest asks of its host come sooner than a
//! sleeping thread is woken: on a virtual machine that alone takes longer than a routing call. A wait that was longer than a
//! look ends the looking until the next short one, so on a busy machine nobody looks; nor after a pause, when the other end
//! sleeps and may be woken on this very processor. What is given to halted virtual processors for the same reason, and taken
//! away by the same rule, are the adaptive polls of KVM (`Documentation/virt/kvm/halt-polling.rst`).

use parking_lot::Mutex;
use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// The longest look: as long as KVM's by default.
const LOOK: Duration = Duration::from_micros(200);

/// On a single processor, who looks keeps it from who is to speak.
static SEVERAL: LazyLock<bool> = LazyLock::new(|| available_parallelism().is_ok_and(|all| all.get() > 1));

/// Whether it pays to look for what one end says.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Last>);

/// The last wait.
#[derive(Debug, Default)]
struct Last {
    ended: Option<Instant>,
    /// It was over sooner than a look is, and had begun so soon after the one before it: the other end has waited as
    /// shortly, and looks as well.
    was_short: bool,
}

impl Last {
    fn is_recent(&self, now: Instant) -> bool {
        self.ended.is_some_and(|ended| now < ended + LOOK)
    }
}

impl Looks {
    /// The last wait was short, and not long ago.
    pub(super) fn pay(&self, now: Instant) -> bool {
        *SEVERAL && self.are_short(now)
    }

    fn are_short(&self, now: Instant) -> bool {
        let last = self.0.lock();
        last.was_short && last.is_recent(now)
    }

    /// A wait has been over now, which began then.
    pub(super) fn waited(&self, began: Instant, now: Instant) {
        let mut last = self.0.lock();
        *last = Last { ended: Some(now), was_short: now < began + LOOK && last.is_recent(began) };
    }
}

/// Looks from `began` on until something is there, or that has been too long. It does not give way to others: two ends on
/// one processor that give way to each other stay there, and who sleeps is woken on another one.
pub(super) fn look<T>(began: Instant, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
    while began.elapsed() < LOOK {
        let it = seen();
        if it.is_some() {
            return it;
        }
        std::hint::spin_loop();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pays_for_who_has_not_waited_for_long_again_and_again() {
        let (looks, then) = (Looks::default(), Instant::now());
        looks.waited(then, then);
        assert!(!looks.are_short(then), "nobody has waited before");
        looks.waited(then, then);
        assert_eq!([then, then + LOOK].map(|now| looks.are_short(now)), [true, false], "that is long ago");
        looks.waited(then + LOOK, then + LOOK);
        assert!(!looks.are_short(then + LOOK), "after a pause");
        looks.waited(then + LOOK, then + LOOK);
        assert!(looks.are_short(then + LOOK));
        looks.waited(then + LOOK, then + 2 * LOOK);
        assert!(!looks.are_short(then + 2 * LOOK), "a long wait");
    }

    #[test]
    fn a_look_ends_with_what_it_sees_and_is_not_long() {
        let mut left = 3;
        let third = || {
            left -= 1;
            (left == 0).then_some("it")
        };
        // No time goes by before it begins.
        assert_eq!(look(Instant::now() + Duration::from_secs(60), third), Some("it"));
        assert_eq!(look(Instant::now(), || None::<()>), None);
    }
}
