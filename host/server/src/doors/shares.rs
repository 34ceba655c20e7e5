//! Seats that are counted by whom they are given to, so that nobody takes all of them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Seats of each, at most `max`. Remembers only those who have some.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    max: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// One seat; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share<K: Eq + Hash> {
    of: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// A seat for `of`; `None` if he has as many as he may.
    pub(crate) fn take(&self, of: K) -> Option<Share<K>> {
        let mut taken = self.taken.lock();
        let count = taken.get(&of).copied().unwrap_or_default();
        if count >= self.max {
            return None;
        }
        taken.insert(of.clone(), count + 1);
        Some(Share { of, taken: Arc::clone(&self.taken) })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        let Some(count) = taken.get_mut(&self.of) else { return };
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_obeyed() {
        let shares = Shares::new(2);
        let _two = (shares.take("ann").unwrap(), shares.take("ann").unwrap());
        assert!(shares.take("bob").is_some(), "one's seats are not another's");
    }

    #[test]
    fn a_share_violated() {
        let shares = Shares::new(2);
        let (one, _two) = (shares.take("ann").unwrap(), shares.take("ann").unwrap());
        assert!(shares.take("ann").is_none());
        drop(one);
        assert!(shares.take("ann").is_some());
    }

    #[test]
    fn who_has_none_is_forgotten() {
        let shares = Shares::new(2);
        drop((shares.take("ann"), shares.take("bob")));
        assert!(shares.taken.lock().is_empty());
    }
}
