//! What fuzzing runs: one function for each place where hostile bytes reach the host, with what must hold whatever they
//! are. `fuzz/` drives them with libFuzzer; `tests/smoke.rs` replays the kept corpus, and a bounded number of
//! mutations of it, with every test run.
//!
//! A target panics where something does not hold. What it returns says how far the bytes came, so that a corpus that
//! reaches nothing is seen.

pub mod corpus;
mod loading;
pub mod mutation;
mod oracle;
mod processes;
mod requests;
mod stations;
mod streams;

pub use loading::{loader, manifest};
pub use processes::{compiler, worker};
pub use requests::requests;
pub use stations::{agent, asked, inbound, outbound, router, webhook};
pub use streams::{chat, messages, responses};

/// How far the bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// They say nothing.
    Unread,
    /// They are read, and what they say is refused.
    Refused,
    /// What they say is taken.
    Taken,
}

/// A place where hostile bytes reach the host.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the binary in `fuzz/`, and of its folder in the corpus.
    pub name: &'static str,
    /// Drives it.
    pub run: fn(&[u8]) -> Reach,
    /// Mutations in the smoke run. Fewer where each is written to a disk.
    pub mutations: usize,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "loader", run: loader, mutations: 3_000 },
    Target { name: "manifest", run: manifest, mutations: 5_000 },
    Target { name: "worker", run: worker, mutations: 5_000 },
    Target { name: "compiler", run: compiler, mutations: 5_000 },
    Target { name: "router", run: router, mutations: 5_000 },
    Target { name: "agent", run: agent, mutations: 5_000 },
    Target { name: "inbound", run: inbound, mutations: 10_000 },
    Target { name: "outbound", run: outbound, mutations: 5_000 },
    Target { name: "webhook", run: webhook, mutations: 5_000 },
    Target { name: "asked", run: asked, mutations: 500 },
    Target { name: "requests", run: requests, mutations: 10_000 },
    Target { name: "chat", run: chat, mutations: 10_000 },
    Target { name: "responses", run: responses, mutations: 10_000 },
    Target { name: "messages", run: messages, mutations: 10_000 },
];
