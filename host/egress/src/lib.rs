//! The one way out: every byte that leaves this host for another machine passes here.
//!
//! One place, so that the rules hold for all callers alike: where one may connect to (`address`), which
//! secret goes along and never comes back in a log (`request`), how much and how long (`body`, [`Config`]),
//! and what an error means for the question "may the peer have got it?" ([`Error::reached`]).
//! reqwest lives in this crate only.

mod address;
mod body;
mod client;
mod error;
mod leak;
mod local;
mod request;
mod resolver;
mod retry_after;
mod sent;

pub use client::{Config, Egress, Heard, Response, StreamResponse, defaults};
pub use error::{Error, Phase, Way};
pub use leak::Leaks;
pub use local::Local;
pub use request::{Credential, Request, Signing, Timeouts};
pub use retry_after::{RETRY_AFTER_MAX, retry_after};
pub use sent::Begun;
