//! Which configuration runs, what is wrong with the one in the file, and what of it waits for a restart: for whoever
//! asks.

use std::sync::Arc;

use chela_types::{Digest, Millis};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

/// What is told. Clones share it.
#[derive(Debug, Clone)]
pub struct Standing(Arc<RwLock<Told>>);

#[derive(Debug)]
struct Told {
    configuration: Digest,
    invalid: Option<Invalid>,
    waiting: Option<Digest>,
    restart: Vec<String>,
}

/// What is wrong with the files; what ran before runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// Since when.
    pub at: Millis,
    /// Where and why, as its author reads it. Holds no secret.
    pub text: String,
}

impl Standing {
    /// At the start: the file and the host agree.
    pub fn new(configuration: Digest) -> Self {
        metrics::gauge!("config_invalid").set(0.0);
        Self(Arc::new(RwLock::new(Told { configuration, invalid: None, waiting: None, restart: Vec::new() })))
    }

    /// Digest of the configuration that runs.
    pub fn configuration(&self) -> Digest {
        self.0.read().configuration
    }

    /// What is wrong with the files.
    pub fn invalid(&self) -> Option<Invalid> {
        self.0.read().invalid.clone()
    }

    /// Digest of a configuration that could run and waits for somebody to apply it.
    pub fn waiting(&self) -> Option<Digest> {
        self.0.read().waiting
    }

    /// Keys of the file whose values wait for a restart.
    pub fn restart(&self) -> Vec<String> {
        self.0.read().restart.clone()
    }

    /// A new configuration runs.
    pub(super) fn runs(&self, configuration: Digest, restart: Vec<String>) {
        metrics::gauge!("config_invalid").set(0.0);
        *self.0.write() = Told { configuration, invalid: None, waiting: None, restart };
    }

    /// The files say what could run, and what ran before runs on until somebody applies it.
    pub(super) fn waits(&self, configuration: Digest) {
        metrics::gauge!("config_invalid").set(0.0);
        let mut told = self.0.write();
        told.invalid = None;
        told.waiting = (told.configuration != configuration).then_some(configuration);
    }

    /// The files cannot be used; true if that is news. The same trouble keeps its time.
    pub(super) fn fails(&self, now: Millis, text: String) -> bool {
        metrics::gauge!("config_invalid").set(1.0);
        let mut told = self.0.write();
        let is_news = told.invalid.as_ref().is_none_or(|known| known.text != text);
        if is_news {
            told.invalid = Some(Invalid { at: now, text });
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_until_it_is_over() {
        let (one, two) = (Digest::of("t", &[b"1"]), Digest::of("t", &[b"2"]));
        let standing = Standing::new(one);
        assert!(standing.fails(Millis(1), "line 3".to_owned()));
        assert!(!standing.fails(Millis(2), "line 3".to_owned()));
        assert_eq!(standing.invalid(), Some(Invalid { at: Millis(1), text: "line 3".to_owned() }));
        assert_eq!(standing.configuration(), one);
        assert!(standing.fails(Millis(3), "line 4".to_owned()));
        assert_eq!(standing.invalid().unwrap().at, Millis(3));
        standing.waits(two);
        assert_eq!(
            (standing.invalid(), standing.configuration(), standing.waiting()),
            (None, one, Some(two))
        );
        standing.waits(one);
        assert_eq!(standing.waiting(), None, "the file is as it was");
        standing.waits(two);
        standing.runs(two, vec!["server.public".to_owned()]);
        assert_eq!((standing.invalid(), standing.configuration()), (None, two));
        assert_eq!((standing.restart(), standing.waiting()), (vec!["server.public".to_owned()], None));
    }
}
