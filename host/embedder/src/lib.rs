//! Vectors of texts by a sentence model in a folder, as sentence-transformers publishes them: BERT with WordPiece, mean
//! pooling, length 1. On this machine's processor, in Rust, without network; all-MiniLM-L6-v2 is the class of it.
//!
//! One kind of model is written down here (`bert.rs`, `words.rs`: some three hundred lines), instead of a framework that
//! could run any: what it brings is matrix products, and nothing is compiled beside what runs. Whatever a folder says that
//! would make other vectors of its model than these is refused by name (`folder.rs`).
//!
//! The feature `local-embeddings` builds it. The types are there without it, so that nobody else needs to ask.

#[cfg(feature = "local-embeddings")]
mod bert;
mod error;
mod folder;
mod model;
#[cfg(feature = "local-embeddings")]
mod tensors;
#[cfg(feature = "local-embeddings")]
mod weights;
#[cfg(feature = "local-embeddings")]
mod words;

pub use error::Error;
pub use folder::Folder;
pub use model::{Made, Model};

/// Whether this program can run models.
pub const IS_BUILT: bool = cfg!(feature = "local-embeddings");
