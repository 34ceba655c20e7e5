//! Versions of plugins and how one takes another's place while messages come in. What serves at a moment is a *house*
//! ([`House`]): it is never changed, but replaced as a whole, and whoever works in it ends in it.

mod compare;
mod deploy;
mod edition;
mod fleet;
mod health;
mod house;
mod lineup;
pub(crate) mod playback;
pub(crate) mod recording;
mod release;
mod replay;
mod report;
mod rerun;
mod shadow;
mod shadowing;
mod status;

pub use deploy::SwapRefused;
pub(crate) use edition::{Edition, ROUTING, Settled, serves_agent, serves_channel};
pub use fleet::Update;
pub(crate) use fleet::{Below, Fleet, check_strangers};
pub(crate) use house::House;
pub(crate) use lineup::{Chosen, Lineup, Post, Share};
pub(crate) use release::Seen;
pub use replay::{Difference, ReplayProgress, ReplayReport, ReplayRequest, ReplayRooms, Under, replay};
pub(crate) use shadow::Shown;
pub(crate) use shadowing::Shadowing;
pub use status::{Candidate, Order, PluginStatus, Reloaded, ShadowExample, ShadowStatus, VersionStatus, Who};
