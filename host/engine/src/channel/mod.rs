//! Channels: what comes in is verified and read by the host, translated by a component, and what goes out is
//! rendered by the component, bound to its target and sent by the host.

mod delivery;
mod identity;
mod json;
mod manifest;
mod session;
mod station;
mod verify;

pub(crate) use delivery::{Delivered, Delivery, session_key};
pub(crate) use session::Sessions;
pub use station::{Acknowledgement, Channel};
pub(crate) use station::{ChannelStation, Parts};
pub use verify::Webhook;
