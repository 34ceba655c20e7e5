//! Requests to where the manifest's `[[http]]` says. Grant: `http`.

pub use crate::bindings::agent::chela::plugin::http::{Header, Request, Response};

use crate::HostError;

/// Sends a request; credentials are named in it, never seen.
///
/// # Errors
/// [`HostError`].
pub fn fetch(request: &Request) -> Result<Response, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::http::fetch(request);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::refuse(request);
}
