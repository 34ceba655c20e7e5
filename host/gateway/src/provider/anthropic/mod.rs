//! Anthropic messages: what is asked, and how the stream is read.

mod ask;
mod read;

pub(crate) use ask::body;
pub(crate) use read::Reader;

/// The API version that this wire format has.
pub(crate) const VERSION: &str = "2023-06-01";
