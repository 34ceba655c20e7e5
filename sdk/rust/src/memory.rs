//! Small values that outlive a turn. Grant: `memory`.
//!
//! Keys: 1 to 128 bytes. Values: at most the limit in the configuration, 16 KiB by default.

pub use crate::bindings::agent::chela::plugin::memory::{Entry, Scope};

use crate::HostError;

/// The value and its version.
///
/// # Errors
/// [`HostError`].
pub fn get(scope: Scope, key: &str) -> Result<Option<Entry>, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::memory::get(scope, key);
    #[cfg(not(target_arch = "wasm32"))]
    return Ok(crate::testing::with(|host| host.memory.get(&(scope as u8, key.to_owned())).cloned()));
}

/// Writes, whatever was there. Returns the new version.
///
/// # Errors
/// [`HostError`].
pub fn set(scope: Scope, key: &str, value: &str) -> Result<u64, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::memory::set(scope, key, value);
    #[cfg(not(target_arch = "wasm32"))]
    return Ok(crate::testing::with(|host| host.remember(scope, key, value)));
}

/// Writes only if the version is still `expected` (0: if there is none). False: somebody was faster.
///
/// # Errors
/// [`HostError`].
pub fn compare_and_set(scope: Scope, key: &str, expected: u64, value: &str) -> Result<bool, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::memory::compare_and_set(scope, key, expected, value);
    #[cfg(not(target_arch = "wasm32"))]
    return Ok(crate::testing::with(|host| {
        let version = host.memory.get(&(scope as u8, key.to_owned())).map_or(0, |entry| entry.version);
        if version == expected {
            host.remember(scope, key, value);
        }
        version == expected
    }));
}
