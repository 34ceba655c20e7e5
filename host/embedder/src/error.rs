//! Why there is no model. All of it is the operator's to mend, and names the file.

use std::path::{Path, PathBuf};

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program cannot run models.
    #[error("this program was built without the feature `local-embeddings`")]
    NotBuilt,
    /// A file that cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {what}", file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// What about it.
        what: String,
    },
}

impl Error {
    pub(crate) fn wrong(file: &Path, what: impl Into<String>) -> Self {
        Self::Wrong { file: file.to_owned(), what: what.into() }
    }
}
