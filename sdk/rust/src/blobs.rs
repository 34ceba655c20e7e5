//! Files that are too large for a message: the agent's own, of one conversation. Grant: `blobs`.

use crate::HostError;

/// At most 64 KiB from `offset`; an empty list at the end.
///
/// # Errors
/// [`HostError`].
pub fn read(handle: &str, offset: u64) -> Result<Vec<u8>, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::blobs::read(handle, offset);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::refuse((handle, offset));
}

/// Keeps bytes; returns their handle.
///
/// # Errors
/// [`HostError`].
pub fn write(name: &str, media_type: &str, bytes: &[u8]) -> Result<String, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::blobs::write(name, media_type, bytes);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::refuse((name, media_type, bytes));
}
