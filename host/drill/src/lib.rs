//! Hostile guests, what must come of each, and a drill that tries them against this machine's own limits.
//!
//! The corpus is data: an [`Attack`] says what it tries, how its guest is made and how it must end. `chela drill` runs it
//! in the installed program, the tests run the same. An attack is *contained* if it ends in one of the ways that it must,
//! in time, within its memory, leaves no place taken, tells no metric anything, and the next caller is served.

mod attack;
mod corpus;
mod cost;
mod drill;
mod generated;
mod ground;
mod guests;
mod labels;
mod outcome;
mod soak;
mod verdict;

pub use attack::{Attack, Family};
pub use corpus::{all, find};
pub use drill::Drill;
pub use ground::{AGENT, Ground, KindLimits};
pub use guests::{Built, built, router};
pub use labels::Labels;
pub use outcome::Outcome;
pub use soak::{Mark, Soak};
pub use verdict::{Cost, Score, Verdict};

/// Why a drill cannot be held. What an attack does is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the ground that it stands on.
    #[error("the drill has no ground to stand on: {0}")]
    Ground(Box<dyn std::error::Error + Send + Sync>),
    /// The guest that behaves does not.
    #[error("the guest that behaves was not served before any attack: {0}")]
    Honest(String),
    /// No attack of this name.
    #[error("no attack is called `{0}`; `chela drill --list` names them all")]
    Unknown(String),
}

impl Error {
    fn ground(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Ground(error.into())
    }
}
