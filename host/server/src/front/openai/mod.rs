//! OpenAI's chat completions and embeddings, from the side of who is asked.

mod ask;
mod embed;
mod tell;

pub(super) use ask::read;
pub(super) use embed::{Wanted, listed, wanted};
pub(super) use tell::{Teller, whole};
