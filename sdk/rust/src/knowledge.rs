//! The agent's own documents. Grant: `knowledge`.

pub use crate::bindings::agent::chela::plugin::knowledge::Passage;

use crate::HostError;

/// The best passages, best first; `limit` is 1 to 20. Words of any form; no query syntax.
///
/// # Errors
/// [`HostError`].
pub fn search(query: &str, limit: u32) -> Result<Vec<Passage>, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::knowledge::search(query, limit);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::search(query, limit);
}
