//! Which configuration runs, what is wrong with the one in the file, and what of it waits, for somebody or for a restart:
//! for whoever asks.

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
    waiting: Option<Waiting>,
    restart: Vec<String>,
}

/// What could run and waits for somebody to apply it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Digest of the configuration; the one that runs, if only what it names is another.
    pub configuration: Digest,
    /// What is another than in what runs. Never empty, and no secret.
    pub contents: Vec<String>,
}

/// Why the files were not taken over; what ran before runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// Since when.
    pub at: Millis,
    /// Where and why, as its author reads it. Holds no secret.
    pub text: String,
    /// True if nothing is wrong with the files: the host could not do it, and tries again.
    #[serde(default)]
    pub of_host: bool,
}

impl Invalid {
    /// In one sentence.
    pub fn what(&self) -> &'static str {
        if self.of_host { "the files could not be taken over" } else { "the files say what cannot run" }
    }
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

    /// Why the files were not taken over.
    pub fn invalid(&self) -> Option<Invalid> {
        self.0.read().invalid.clone()
    }

    /// What could run and waits for somebody to apply it.
    pub fn waiting(&self) -> Option<Waiting> {
        self.0.read().waiting.clone()
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

    /// The files say what could run, and what ran before runs on until somebody applies it. `contents`: what is another.
    pub(super) fn waits(&self, configuration: Digest, contents: Vec<String>) {
        metrics::gauge!("config_invalid").set(0.0);
        let mut told = self.0.write();
        told.invalid = None;
        told.waiting = (!contents.is_empty()).then_some(Waiting { configuration, contents });
    }

    /// The files are not taken over; true if that is news. The same trouble keeps its time.
    pub(super) fn fails(&self, invalid: Invalid) -> bool {
        metrics::gauge!("config_invalid").set(if invalid.of_host { 0.0 } else { 1.0 });
        let mut told = self.0.write();
        let is_news = told.invalid.as_ref().is_none_or(|known| known.text != invalid.text);
        if is_news {
            told.invalid = Some(invalid);
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
        let invalid = |at, text: &str| Invalid { at: Millis(at), text: text.to_owned(), of_host: false };
        assert!(standing.fails(invalid(1, "line 3")));
        assert!(!standing.fails(invalid(2, "line 3")));
        assert_eq!(standing.invalid(), Some(invalid(1, "line 3")));
        assert_eq!(standing.configuration(), one);
        assert!(standing.fails(invalid(3, "line 4")));
        assert_eq!(standing.invalid().unwrap().at, Millis(3));
        let contents = vec!["configuration 2".to_owned()];
        standing.waits(two, contents.clone());
        let waiting = Waiting { configuration: two, contents: contents.clone() };
        assert_eq!(
            (standing.invalid(), standing.configuration(), standing.waiting()),
            (None, one, Some(waiting))
        );
        standing.waits(one, Vec::new());
        assert_eq!(standing.waiting(), None, "the file is as it was");
        standing.waits(two, contents);
        standing.runs(two, vec!["server.public".to_owned()]);
        assert_eq!((standing.invalid(), standing.configuration()), (None, two));
        assert_eq!((standing.restart(), standing.waiting()), (vec!["server.public".to_owned()], None));
    }
}
