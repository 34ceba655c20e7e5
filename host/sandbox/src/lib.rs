//! Plugins under wasmtime: load, snapshot, compile, limit, call. Knows nothing of models or HTTP.
//!
//! Loading does everything that can fail before a message arrives: it validates the component, checks its world and
//! its grants, and lets a child process run `init`, snapshot the memory and compile ([`compiler`]). A call then gets
//! a store and an instance of its own, copy-on-write from the snapshot, so that no state outlives it. What a call
//! may ask for is lent to it by the stations of the engine, through [`Call::lend`] only.

mod cache;
mod call;
pub mod compiler;
mod contract;
mod cpu;
mod dropper;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod grants;
mod inspect;
mod limits;
mod link;
mod log;
mod manifest;
mod plugin;
pub mod pool;
mod random;
mod sandbox;
mod signature;
mod source;
mod time;
mod wasi;
pub mod worker;

pub use call::Call;
pub use compiler::{Compiler, Stage};
pub use contract::CONTRACT;
pub use error::{Ending, Error, HostError, Reason, Refusal};
pub use grants::{Grant, Grants, NotGranted};
pub use limits::{Limit, Limits, Requested, Unit};
pub use link::bindings;
pub use manifest::{Manifest, ManifestError, PluginKind};
pub use plugin::{BoxFuture, CallOptions, Kind, Plugin};
pub use pool::Pool;
pub use sandbox::{Config, Level, Progress, Sandbox, Settings};
pub use signature::{Provenance, PublicKey, SIGNATURE_FILE, Signature, SignatureError, SigningKey};
pub use source::{Build, Source};
pub use wasmtime;
pub use worker::Isolation;
