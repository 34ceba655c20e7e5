//! Snapshot and compile, always in a child process.
//!
//! A compiler is no sandbox: a component that takes hours or gigabytes to compile is not a bug of the engine, and a
//! guest that fills its memory in `init` makes the snapshot panic. So both happen in a child of this binary with an
//! empty environment and limits on memory, processor time and wall-clock time; whatever it does, the host lives.
//!
//! The protocol is one job on stdin and frames on stdout: stages, log lines, and at the end a verdict or an artefact.

mod child;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod parent;
mod prepare;

pub use child::main;
pub(crate) use frame::Job;
pub(crate) use parent::run;

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The program that prepares plugins: this binary with its hidden subcommand, which calls [`main`].
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Wall-clock time for one plugin; then it is killed.
    pub wall: Duration,
    /// Processor time for one plugin.
    pub cpu: Duration,
    /// Address space of the child in bytes.
    pub address_space_bytes: u64,
    /// Largest artefact in bytes.
    pub artefact_bytes_max: u64,
    /// Plugins that are prepared at once.
    pub at_once: usize,
}

impl Compiler {
    /// Wall-clock time: 2 minutes. A Python component takes 6 seconds.
    pub const WALL: Duration = Duration::from_secs(120);
    /// Processor time: 2 minutes, all threads together.
    pub const CPU: Duration = Duration::from_secs(120);
    /// Address space: 4 GiB.
    pub const ADDRESS_SPACE_BYTES: u64 = 4 << 30;
    /// Largest artefact: 256 MiB.
    pub const ARTEFACT_BYTES_MAX: u64 = 256 << 20;
    /// One at once: the compiler uses all cores by itself.
    pub const AT_ONCE: usize = 1;

    /// With the documented limits.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            wall: Self::WALL,
            cpu: Self::CPU,
            address_space_bytes: Self::ADDRESS_SPACE_BYTES,
            artefact_bytes_max: Self::ARTEFACT_BYTES_MAX,
            at_once: Self::AT_ONCE,
        }
    }
}

/// How far the preparation of a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The child starts and reads its job.
    Start,
    /// `init` is compiled and run.
    Init,
    /// The memory is snapshotted.
    Snapshot,
    /// The snapshot is compiled.
    Compile,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Init => "init",
            Self::Snapshot => "snapshot",
            Self::Compile => "compile",
        })
    }
}
