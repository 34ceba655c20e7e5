//! The journey of a message and its stations: channel, router, agent. This room alone lends capabilities to
//! plugins, so that "plugin → model" exists nowhere else.
//!
//! Start reading in `journey.rs`.

mod agent;
mod attempt;
mod capability;
pub mod cases;
mod channel;
mod config;
mod contract;
mod desk;
mod dispatcher;
mod drafts;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod journey;
pub mod measure;
mod policy;
pub mod probe;
mod promptness;
mod rate;
mod retention;
mod router;
mod swap;
#[cfg(test)]
mod testing;
mod trust;
mod words;
pub mod worker;

pub use agent::Agent;
pub use channel::{Acknowledgement, Channel, Webhook};
pub use config::{
    AgentConfig, Ambiguous, ChannelConfig, Config, DeliveryConfig, Origin, OverBudget, PluginConfig, Reload,
    RetentionConfig, RoutingConfig, ShadowConfig, SwapConfig,
};
pub use drafts::Draft;
pub use engine::{ChannelHealth, Engine, Loaded, Rooms, check, session_events_key};
pub use error::{Error, Refusal};
pub use router::Router;
pub use swap::{
    Candidate, Difference, Order, Pending, Places, PluginStatus, Reloaded, ReplayProgress, ReplayReport,
    ReplayRequest, ReplayRooms, ShadowExample, ShadowStatus, SwapRefused, Under, Update, VersionStatus, Who,
    replay,
};
pub use trust::{TrustConfig, TrustedKey, Unsigned, Untrusted};
