//! The doors: a public listener for platforms and people, an admin listener and a Unix socket for operators.
//!
//! HTTP ends here. What comes in is bounded (connections, headers, body, time, requests at once) before any
//! room sees it; what rooms answer becomes a status in one place (`error.rs`).

mod admin;
mod bounds;
mod budgets;
mod cache;
mod error;
mod extract;
mod files;
mod listener;
mod public;
mod replay;
mod rights;
mod shares;
mod swap;
mod terminal;

pub use admin::{Admin, Status};
#[cfg(test)]
pub(crate) use bounds::Gates;
pub(crate) use bounds::StreamSeat;
pub use bounds::{Bounds, defaults};
pub(crate) use budgets::BUDGETS_MAX;
pub use budgets::{RaiseBudget, Raised};
pub use cache::{EvictCached, ExplainCached};
pub(crate) use error::Error;
pub use files::Files;
pub use listener::{Connections, Peer, serve};
pub use public::Public;
pub(crate) use public::{Address, Doors, acknowledged};
pub use replay::{ReplayJob, Replays};
pub(crate) use rights::is_plain;
pub use rights::{OPERATOR_HEADER, Operators, Proof};
pub(crate) use shares::Share;
pub use swap::{Orders, Reload};
pub use terminal::{Heard, Listening, Said};
