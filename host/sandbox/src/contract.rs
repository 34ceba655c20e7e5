//! What the contract says that this room must know: versions, worlds, and who may import what.
//!
//! The worlds are `wit/0.1.0/worlds.wit`. The table is here and not asked from the linkers, because the refusal
//! must come before anything is compiled.

use crate::grants::Grant;
use crate::manifest::PluginKind;

/// The version of `chela:plugin` that this host serves.
pub const CONTRACT: &str = "0.1.0";

/// The contract's package.
pub(crate) const PACKAGE: &str = "chela:plugin/";

/// Interfaces that every world may import.
pub(crate) const BASE: [&str; 3] = ["config", "log", "types"];

/// WASI 0.2 interfaces with inert or virtual stand-ins.
pub(crate) const WASI: [&str; 18] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

impl PluginKind {
    /// The interface that a component of this kind exports.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Router => "routing",
            Self::Agent => "answering",
            Self::Channel => "translating",
        }
    }

    /// The kind that exports this interface.
    pub(crate) fn of_interface(name: &str) -> Option<Self> {
        [Self::Router, Self::Agent, Self::Channel].into_iter().find(|kind| kind.interface() == name)
    }

    /// Whether the world of this kind imports the capability.
    pub(crate) fn may_import(self, grant: Grant) -> bool {
        match self {
            Self::Router => matches!(grant, Grant::Models | Grant::Memory),
            Self::Agent => grant != Grant::History,
            Self::Channel => false,
        }
    }

    /// Whether a plugin of this kind has a use for the grant. `history` is no interface: a router is shown more.
    pub(crate) fn may_have(self, grant: Grant) -> bool {
        match grant {
            Grant::History => self == Self::Router,
            grant => self.may_import(grant),
        }
    }
}
