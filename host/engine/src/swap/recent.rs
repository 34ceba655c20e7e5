//! The few things that were asked for last, by their digest: what a long replay loads again and again, and not all of
//! what it ever met.

use chela_types::Digest;
use std::collections::VecDeque;
use std::sync::Arc;

/// At most so many; whatever was not asked for the longest goes.
#[derive(Debug)]
pub(super) struct Recent<V> {
    max: usize,
    /// The last one was asked for last.
    kept: VecDeque<(Digest, Arc<V>)>,
}

impl<V: Default> Recent<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: VecDeque::new() }
    }

    /// The one with this digest; an empty one if it is not there.
    pub(super) fn get(&mut self, digest: Digest) -> Arc<V> {
        let at = self.kept.iter().position(|(known, _)| *known == digest);
        let (_, value) = at.and_then(|at| self.kept.remove(at)).unwrap_or_else(|| (digest, Arc::default()));
        self.kept.push_back((digest, Arc::clone(&value)));
        while self.kept.len() > self.max {
            self.kept.pop_front();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::OnceCell;

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let digest = |n| Digest::from_bytes([n; 32]);
        let mut recent = Recent::<OnceCell<u8>>::new(2);
        for n in [1, 2] {
            recent.get(digest(n)).set(n).unwrap();
        }
        assert_eq!(recent.get(digest(1)).get(), Some(&1));
        recent.get(digest(3)).set(3).unwrap();
        assert_eq!(recent.get(digest(1)).get(), Some(&1), "it was asked for in between");
        assert_eq!(recent.get(digest(2)).get(), None);
        assert_eq!(recent.kept.len(), 2);
    }
}
