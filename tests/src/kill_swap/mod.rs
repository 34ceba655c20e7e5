//! The parts of the test that kills a host while it swaps plugins: builds that can be told apart by what they answer, a
//! host under load whose folders and orders change, and what must be true of the store and of every turn afterwards.

mod after;
mod build;
mod end;
mod rig;
mod rounds;
mod steps;
mod watch;

pub use after::{Stage, Standing, Turns, Window, judge_turns, part_files, standing};
pub use build::{Build, Way};
pub use end::Ended;
pub use rig::{Asked, Kill, Mode, Rig, Swapped, Trigger};
pub use rounds::{begin, end, from_environment, goes_on, kills, tell};
pub use steps::{FILE_STEPS, Step};
