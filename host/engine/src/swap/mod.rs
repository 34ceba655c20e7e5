//! Versions of plugins and how one takes another's place while messages come in. What serves at a moment is a *house*
//! ([`House`]): it is never changed, but replaced as a whole, and whoever works in it ends in it.

mod carry;
mod change;
mod compare;
mod edition;
mod fleet;
mod follow;
mod health;
mod house;
mod lineup;
mod orders;
pub(crate) mod playback;
mod plugging;
mod recent;
pub(crate) mod recording;
mod refused;
mod release;
mod reload;
mod replay;
mod replayed;
mod report;
mod rerun;
mod settings;
mod shadow;
mod shadowing;
mod state;
mod status;
mod succession;
mod work;

pub(crate) use edition::{Edition, ROUTING, Settled, serves_agent, serves_channel};
pub use fleet::Update;
pub(crate) use fleet::{Below, Fleet};
pub(crate) use health::{ANSWER, DELIVER, RECEIVE, ROUTE, Went};
pub(crate) use house::House;
pub(crate) use lineup::{Chosen, Lineup, Post, Share};
pub use refused::SwapRefused;
pub(crate) use release::Seen;
pub use replay::{ReplayRequest, ReplayRooms, Under, replay};
pub use replayed::{Difference, ReplayProgress, ReplayReport};
pub(crate) use shadow::Shown;
pub(crate) use shadowing::{Place, Shadowing, shadow_place};
pub(crate) use state::check_strangers;
pub use status::{
    Candidate, Order, Pending, Places, PluginStatus, Reloaded, ShadowExample, ShadowStatus, VersionStatus,
    Who,
};
