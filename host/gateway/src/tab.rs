//! What a call owes while its answer is under way, told upwards before it is owed.
//!
//! An answer that another model goes on with costs more than its beginning said. Whoever stops listening then must be
//! charged for both, and whoever has stopped must not be charged for anything new.

use std::sync::Arc;

use chela_types::{Money, Tokens};
use parking_lot::Mutex;

/// Shared by all layers of one call.
#[derive(Debug, Clone, Default)]
pub struct Tab(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    owed: Option<(Money, Tokens)>,
    is_closed: bool,
    is_shared: bool,
}

impl Tab {
    /// Whoever pays will owe so much, all attempts together. False: he has gone, and nobody would pay.
    pub(crate) fn owe(&self, cost: Money, tokens: Tokens) -> bool {
        let mut state = self.0.lock();
        if !state.is_closed {
            state.owed = Some((cost, tokens));
        }
        !state.is_closed
    }

    /// Somebody else pays: the answer is the one that he asked for.
    pub(crate) fn share(&self) {
        self.0.lock().is_shared = true;
    }

    /// Whether nobody was asked for this call.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.lock().is_shared
    }

    /// Whether another model went on with the answer.
    pub(crate) fn is_extended(&self) -> bool {
        self.0.lock().owed.is_some()
    }

    /// Whoever pays has gone. What he owes, if it is another sum than the answer's beginning said.
    pub(crate) fn close(&self) -> Option<(Money, Tokens)> {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_new_is_owed_by_who_has_gone() {
        let tab = Tab::default();
        assert!(tab.owe(Money::from_nanos(7), Tokens(3)));
        let shared = tab.clone();
        assert_eq!(shared.close(), Some((Money::from_nanos(7), Tokens(3))));
        assert!(!tab.owe(Money::from_nanos(9), Tokens(4)));
        assert_eq!(Tab::default().close(), None);
    }
}
