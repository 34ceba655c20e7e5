//! What can go wrong in this room. Refusals (fenced, over budget, too large) are ordinary results of an
//! operation; the rest is the disk's or the operator's matter. Cloneable, because one failed commit is the
//! answer to everybody who waited for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chela_types::{Blame, ConversationId, Digest, Fault, PluginId, Quantity, Retry};

use crate::sql::DatabaseError;

/// Why the store refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process owns the data folder.
    #[error("the data folder {} is in use by process {pid}", folder.display())]
    Owned {
        /// The folder.
        folder: PathBuf,
        /// The owner; `?` if the lock file does not say.
        pid: String,
    },
    /// The folder or one of its files could not be made or opened.
    #[error("could not prepare the data folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// There is nothing to read.
    #[error("there is no store in the folder {}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The file is not a database that can be trusted. Never replaced by an empty one.
    #[error("the database {} is damaged: {reason}; restore it from a backup", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// A newer program has written here.
    #[error("the database {} has schema {version}, which is newer than this program", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its schema's version.
        version: i64,
    },
    /// A kept component is not what its name says: half of it is gone, or somebody has changed it.
    #[error("the component {} is damaged: it is not what was kept", file.display())]
    Artefact {
        /// The file.
        file: PathBuf,
    },
    /// The disk has no room for a component.
    #[error("there is no room in the folder {}", folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What the disk says.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// Kept components cannot be read or written.
    #[error("the folder {} cannot be used", folder.display())]
    Files {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// A deployment was changed by somebody else meanwhile: look at it again.
    #[error("the deployment of plugin `{0}` was changed meanwhile")]
    Changed(PluginId),
    /// A deployment names a version that is not kept.
    #[error("plugin `{plugin}` has no version {}", digest.short())]
    NoVersion {
        /// The plugin.
        plugin: PluginId,
        /// The version.
        digest: Digest,
    },
    /// The lease is not current any more: somebody else has the conversation, or nobody.
    #[error("the lease on conversation {0} is not current any more")]
    Fenced(ConversationId),
    /// A budget does not allow the amount.
    #[error("the budget of {scope} does not allow this: {used} of {limit} are used")]
    OverBudget {
        /// The scope that refused.
        scope: String,
        /// Its limit, raises counted.
        limit: Quantity,
        /// Settled and reserved so far.
        used: Quantity,
    },
    /// Above a limit.
    #[error("{what} is too large: {size}, at most {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How much was given.
        size: usize,
        /// How much is allowed.
        max: usize,
    },
    /// The request contradicts what is kept.
    #[error("{0}")]
    Invalid(&'static str),
    /// The commit queue stayed full.
    #[error("the store is busy: nothing left the commit queue for {0:?}")]
    Busy(Duration),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// Opened for reading.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// SQLite failed.
    #[error("the database failed")]
    Database(#[source] Arc<DatabaseError>),
    /// A commit failed; none of its operations happened.
    #[error("the commit failed")]
    Commit(#[source] Arc<DatabaseError>),
    /// A kept value cannot be read back.
    #[error("a kept {0} cannot be read")]
    Unreadable(&'static str),
}

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Fault for Error {
    fn blame(&self) -> Blame {
        match self {
            Self::Owned { .. } | Self::Folder { .. } | Self::Missing { .. } | Self::Newer { .. } => {
                Blame::Operator
            }
            Self::OverBudget { .. } | Self::Full { .. } | Self::Files { .. } => Blame::Operator,
            Self::Changed(_) | Self::NoVersion { .. } => Blame::Operator,
            Self::TooLarge { .. } => Blame::Plugin,
            _ => Blame::Host,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Database(_) | Self::Commit(_) | Self::Busy(_) => Retry::Later(Duration::ZERO),
            Self::OverBudget { .. } | Self::Full { .. } => Retry::Later(Duration::ZERO),
            _ => Retry::Never,
        }
    }
}

impl From<DatabaseError> for Error {
    fn from(cause: DatabaseError) -> Self {
        Self::Database(Arc::new(cause))
    }
}

impl Error {
    /// True for what a batch cannot be committed with.
    pub(crate) fn breaks_batch(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Commit(_))
    }
}
