//! Write Chela plugins in Rust: one trait for each kind, one export macro.
//!
//! A plugin is a small crate with `crate-type = ["cdylib"]`, built for `wasm32-wasip2`, and a `plugin.toml`
//! beside it that says what it asks for. This is a whole agent:
//!
//! ```
//! use chela_sdk::{Agent, AnsweringError, Outcome, Reply, Turn};
//!
//! struct Echo;
//!
//! impl Agent for Echo {
//!     fn init() -> Result<Self, String> {
//!         Ok(Echo)
//!     }
//!
//!     fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
//!         Ok(Reply::text(format!("You said: {}", turn.message.text)).into())
//!     }
//! }
//!
//! chela_sdk::export!(agent: Echo);
//! ```
//!
//! **State.** `init` runs once when a version is loaded; the host keeps a snapshot of the memory it leaves
//! behind, and every call starts from that snapshot in a sandbox of its own. So what `init` prepares costs
//! nothing later, and what a call changes is gone after it. That is why the other methods take `&self`:
//! whatever must outlive a call goes through [`memory`].
//!
//! **Imports.** A component imports only what it calls: an agent that never calls [`models`] does not
//! import it, and needs no grant for it.
//!
//! **Tests.** On any target but wasm there is no host; [`testing::Host`] stands in for it, so that a plugin
//! is tested with plain `cargo test`.

// The types are generated from the contract, whose comments they carry; the lists below are explicit, so
// that what a plugin sees changes only on purpose.
#[doc(hidden)]
pub mod bindings;

mod agent;
pub mod blobs;
mod channel;
mod config;
#[doc(hidden)]
pub mod export;
pub mod http;
pub mod knowledge;
pub mod log;
pub mod memory;
pub mod models;
mod reply;
mod router;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod tools;

pub use agent::Agent;
pub use channel::Channel;
pub use config::{config, config_json};
pub use router::Router;

/// What all kinds share.
pub use bindings::agent::chela::plugin::types::{
    Attachment, Block, Choice, HostError, Link, Message, Person, Reply, Speaker, Utterance,
};

/// What an agent speaks of.
pub use bindings::agent::exports::chela::plugin::answering::{
    AnsweringError, Colleague, Escalation, HandOver, Later, Outcome, Profile, Turn,
};

/// What a router speaks of.
pub use bindings::router::exports::chela::plugin::routing::{
    Alternative, Candidate, Context, Decision, RoutingError,
};

/// What a channel speaks of.
pub use bindings::channel::exports::chela::plugin::translating::{
    Acknowledgement, Change, Deferral, DeliveryState, DeliveryStatus, Edit, Event, Frame, Header, HttpFrame,
    Identity, Inbound, Incoming, Interaction, Key, Outbound, Outgoing, Rejection, RenderingError, Request,
    Response, Revision, Step, Surroundings, Target, TransportFrame,
};
