//! The parts of the test that kills the host while more people call than a budget can pay: two providers that are slow,
//! fail and bill, a crowd that asks until it is refused, what the store says meanwhile, and a judge of it all.
//!
//! The judge is a function over plain data, so that tests show each of its verdicts going red.

mod books;
mod client;
mod crowd;
mod judge;
mod rig;
mod watch;
mod world;

pub use books::{Killed, Row, Standing};
pub use client::{Heard, Manner};
pub use crowd::Asked;
pub use judge::{Round, judge, told};
pub use rig::{Played, Rig};
pub use world::Rounds;
