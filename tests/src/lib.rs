//! The harness of the whole-host tests, and the source tree as data.
//!
//! Features are tested at the host's boundary. Everything of our own is real: store, sandbox, gateway, engine,
//! the compiler's child process; only what lies outside is played, by stand-ins that keep logs of their own.
//! [`host()`] runs a host inside the test, where time can be moved by hand and a crash is a runtime that is torn
//! down; [`process`] runs the released program, for what only a real process can show.

pub mod browser;
pub mod compared;
pub mod folder;
pub mod guests;
mod host;
pub mod kill;
pub mod kill_budget;
pub mod kill_swap;
pub mod outside;
pub mod process;
pub mod recorded;
mod setup;
pub mod shop;
pub mod signing;
pub mod small;
pub mod tree;
pub mod versions;
mod wait;

pub use host::{Crashed, Host};
pub use outside::Outside;
pub use setup::{NOTICE, Setup, host, say};
pub use wait::{PATIENCE, eventually, eventually_some, eventually_within};
