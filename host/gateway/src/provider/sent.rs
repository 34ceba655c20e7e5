//! How far a request has come, for whoever gives up on it.
//!
//! Three answers, and each is paid for and told otherwise: it waits for its turn here, which says nothing of the
//! provider; it was not begun, which costs nothing; it was begun, and may be billed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chela_egress::Begun;

use super::Trouble;
use crate::Kind;

/// How far. Clones tell of the same request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    begun: Begun,
    waits: Arc<AtomicBool>,
}

impl Sent {
    /// What is set before the first byte may leave.
    pub(crate) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// True if the provider may have got it.
    pub(crate) fn is_begun(&self) -> bool {
        self.begun.is_begun()
    }

    /// Whether it waits for its turn among this host's own requests.
    pub(crate) fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Release);
    }

    /// Gives it up. True if the provider may have got it; otherwise it never will.
    pub(crate) fn give_up(&self) -> bool {
        !self.begun.give_up()
    }

    /// Gives it up after so long without a sign of life, and says why.
    pub(crate) fn late(&self, after: Duration) -> Trouble {
        let was_begun = self.give_up();
        if self.waits.load(Ordering::Acquire) {
            Trouble::QUEUED
        } else {
            Trouble::new(Kind::TooSlow { after }, was_begun)
        }
    }

    /// It has begun.
    pub(crate) fn mark(&self) {
        self.begun.mark();
    }
}
