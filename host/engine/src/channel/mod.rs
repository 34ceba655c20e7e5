//! Channels: what comes in is verified and read by the host, translated by a component, and what goes out is
//! rendered by the component, bound to its target and sent by the host.

mod case;
mod changes;
mod component;
mod delivery;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod inward;
mod json;
mod manifest;
mod progress;
mod request;
mod session;
mod station;
mod verify;
mod waiting;

pub(crate) use delivery::{Delivered, Delivery, session_key};
pub(crate) use inward::{Received, Response, whereabouts};
pub(crate) use manifest::Tables;
pub(crate) use progress::{Drawer, Showing, Shown};
pub(crate) use session::Sessions;
pub(crate) use station::{Account, ChannelStation, Parts};
pub use station::{Acknowledgement, Channel};
pub(crate) use verify::Verified;
pub use verify::Webhook;
pub(crate) use waiting::Waiting;
