//! Anthropic's messages, from the side of who is asked.

mod ask;
mod tell;

pub(super) use ask::read;
pub(super) use tell::{Teller, whole};
