//! What can go wrong with a plugin, stamped with its name and version.
//!
//! A refusal names the file and the key to change. Whether a call ended by the plugin's fault or by another's is
//! decided here, once: what a station reports through [`HostError`] is the host's, a deadline that strikes while the
//! guest waits for a capability is whoever's that stands behind it, all else that ends a guest is the plugin's.

use crate::compiler::Stage;
use crate::grants::Grant;
use crate::limits::Limit;
use crate::manifest::{ManifestError, PluginKind};
use crate::signature::SignatureError;
use chela_types::{Blame, Fault, PluginId, Retry};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of one plugin.
#[derive(Debug)]
pub struct Error {
    /// The plugin as the configuration names it.
    pub plugin: PluginId,
    /// Its version, once the manifest is read.
    pub version: Option<String>,
    /// What happened.
    pub reason: Box<Reason>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin `{}`", self.plugin)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for Error {
    /// The host's own failure. All else is said in the text already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.reason {
            Reason::Host(error) => Some(error),
            _ => None,
        }
    }
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It was not loaded.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The guest trapped, exited or broke the canonical ABI.
    #[error("trapped: {short}")]
    Trap {
        /// One line.
        short: String,
        /// With the guest's stack, bounded.
        message: String,
    },
    /// The call, host calls included, took too long, and the guest was at work when its time was over.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The call's time was over while the guest waited for a host call.
    #[error("it still waited for `{for_what}` after {} ms", .after.as_millis())]
    Waiting {
        /// The capability.
        for_what: Grant,
        /// The deadline.
        after: Duration,
    },
    /// The call reached a limit.
    #[error("{}", .limit.with_bound(*.bound))]
    Limit {
        /// Which.
        limit: Limit,
        /// Its value.
        bound: u64,
    },
    /// It was loaded, and the operator has withdrawn his trust since then.
    #[error("closed: it is not trusted any more")]
    Closed,
    /// The process that ran it ended.
    #[error("the process that ran it is gone: {0}")]
    Worker(Ending),
    /// A capability failed in a way that the guest must not see, or the host itself did.
    #[error("the host failed")]
    Host(#[from] HostError),
}

/// A failure of the host in the middle of a call or a load. A station wraps its own error with [`HostError::new`]
/// and returns it as a trap; it comes back whole in [`Reason::Host`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HostError(Box<dyn std::error::Error + Send + Sync>);

impl HostError {
    /// Wraps a station's error.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The station's own error, if it is of this type.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// The station's own error.
    pub fn into_inner(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.0
    }
}

/// Why a plugin was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The folder is not a plugin.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The folder or the file in it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Signed, and not rightly.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Larger than the host accepts.
    #[error("{what} is larger than {limit_bytes} bytes, the limit of this host")]
    TooLarge {
        /// The file.
        what: String,
        /// The bound.
        limit_bytes: u64,
    },
    /// Not WebAssembly at all.
    #[error("the component is not WebAssembly: it does not begin with `\\0asm`")]
    NotWasm,
    /// A core module.
    #[error(
        "the file is a core module, expected a component; build for `wasm32-wasip2`, or encode it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Truncated or otherwise invalid.
    #[error("the component is not valid: {message} (at byte {offset})")]
    Invalid {
        /// What the validator says.
        message: String,
        /// Where.
        offset: u64,
    },
    /// Of another kind than it should be.
    #[error(
        "expected kind `{expected}`, and it is of kind `{found}`; see `kind` in plugin.toml and the key that names the plugin in chela.toml"
    )]
    Kind {
        /// What the place wants.
        expected: PluginKind,
        /// What the manifest or the component is.
        found: PluginKind,
    },
    /// It exports no world of ours.
    #[error("the component is not of a world of `chela:plugin`: it lacks the export `{missing}`")]
    World {
        /// The export that it lacks.
        missing: String,
    },
    /// Built for a version that is not served.
    #[error("the component was built for {found}, this host serves {served}")]
    Contract {
        /// The interface and version in the component.
        found: String,
        /// The version that is served.
        served: String,
    },
    /// Imports what no plugin may.
    #[error("the component imports `{interface}`: {advice}")]
    Import {
        /// The interface.
        interface: String,
        /// How a toolchain leaves it out.
        advice: &'static str,
    },
    /// Imports what its world does not have.
    #[error("the component imports `{interface}`, which a {kind} may not")]
    NotInWorld {
        /// The interface.
        interface: String,
        /// The plugin's kind.
        kind: PluginKind,
    },
    /// Imports a capability that its manifest does not ask for.
    #[error(
        "the component imports `{interface}`; add \"{grant}\" to `grants` in its plugin.toml, or to `optional`"
    )]
    NotRequested {
        /// The interface.
        interface: String,
        /// The grant it needs.
        grant: Grant,
    },
    /// Asks for a capability that the operator did not give.
    #[error(
        "it asks for `{grant}`; to allow it add \"{grant}\" to `grants` of [plugin.{plugin}] in chela.toml"
    )]
    NotGranted {
        /// The plugin as the configuration names it.
        plugin: String,
        /// The grant.
        grant: Grant,
    },
    /// `init` returned an error: mostly a configuration that the plugin does not accept.
    #[error("init says: {message}")]
    Init {
        /// The plugin's own words.
        message: String,
    },
    /// `init` trapped.
    #[error("init trapped: {message}")]
    InitTrap {
        /// What the engine says.
        message: String,
    },
    /// `init` reached a limit.
    #[error("init reached the {}", .limit.with_bound(*.bound))]
    InitLimit {
        /// Which.
        limit: Limit,
        /// Its value.
        bound: u64,
    },
    /// `init` ended with handles of the host, which a snapshot cannot keep: it printed, mostly.
    #[error(
        "init printed, or keeps a stream or a clock of the host; none of it is there in a call, so write lines in init \
         with the interface `log` (Rust: `chela_sdk::log`)"
    )]
    InitHandles,
    /// The snapshot cannot be taken.
    #[error(
        "its memory cannot be snapshotted: {message}; `snapshot = false` in plugin.toml loads it without"
    )]
    Snapshot {
        /// What the engine says.
        message: String,
    },
    /// The engine cannot compile or link it.
    #[error("it cannot be compiled: {message}")]
    Compile {
        /// What the engine says.
        message: String,
    },
    /// The child process that prepares it did not finish.
    #[error("preparing it in a child process ended in stage {stage}: {ending}")]
    Preparation {
        /// How far it came.
        stage: Stage,
        /// How it ended.
        ending: Ending,
    },
}

/// How the child process ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// It ran longer than the wall-clock limit and was killed.
    #[error("not finished within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It used more processor time than allowed.
    #[error("it used more processor time than allowed")]
    CpuTime,
    /// It crashed, most often of too little memory.
    #[error("it crashed ({status}){}", if .stderr.is_empty() { String::new() } else { format!(": {}", .stderr) })]
    Crashed {
        /// Exit status or signal.
        status: String,
        /// The end of what it wrote to stderr, bounded.
        stderr: String,
    },
    /// It answered what the protocol does not know, or too much.
    #[error("it broke the protocol: {0}")]
    Protocol(String),
}

impl Error {
    pub(crate) fn new(plugin: &PluginId, version: Option<&str>, reason: impl Into<Reason>) -> Self {
        Self { plugin: plugin.clone(), version: version.map(str::to_owned), reason: Box::new(reason.into()) }
    }

    /// One word for metrics: `refused`, `closed`, `trap`, `timeout`, `waiting`, `limit`, `worker` or `host`.
    pub fn outcome(&self) -> &'static str {
        match *self.reason {
            Reason::Refused(_) => "refused",
            Reason::Closed => "closed",
            Reason::Trap { .. } => "trap",
            Reason::Timeout(_) => "timeout",
            Reason::Waiting { .. } => "waiting",
            Reason::Limit { .. } => "limit",
            Reason::Worker(_) => "worker",
            Reason::Host(_) => "host",
        }
    }
}

impl Fault for Error {
    fn blame(&self) -> Blame {
        match &*self.reason {
            // What is closed was closed by the operator, and is his to open: until then its messages wait.
            Reason::Limit { limit: Limit::Pool, .. } | Reason::Host(_) | Reason::Closed => Blame::Host,
            Reason::Waiting { for_what, .. } => match for_what {
                Grant::Models | Grant::Tools | Grant::Http => Blame::Provider,
                Grant::Knowledge | Grant::Memory | Grant::History | Grant::Blobs => Blame::Host,
            },
            Reason::Trap { .. } | Reason::Timeout(_) | Reason::Limit { .. } | Reason::Worker(_) => {
                Blame::Plugin
            }
            Reason::Refused(Refusal::NotGranted { .. } | Refusal::Folder { .. } | Refusal::Init { .. }) => {
                Blame::Operator
            }
            Reason::Refused(_) => Blame::Plugin,
        }
    }

    fn retry(&self) -> Retry {
        match *self.reason {
            Reason::Refused(_) => Retry::Never,
            _ => Retry::Later(Duration::ZERO),
        }
    }
}
