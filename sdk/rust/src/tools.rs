//! Tools behind the host. Grant: `tools`. Hosts of this contract may answer `not-granted`.

pub use crate::bindings::agent::chela::plugin::tools::Tool;

use crate::HostError;

/// One page of the tools this agent may call; `after` is the last name of the page before.
///
/// # Errors
/// [`HostError`].
pub fn list_tools(after: Option<&str>) -> Result<Vec<Tool>, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::tools::list_tools(after);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::refuse(after);
}

/// Calls a tool; `arguments` and the result are JSON texts.
///
/// # Errors
/// [`HostError`].
pub fn call(name: &str, arguments: &str) -> Result<String, HostError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::tools::call(name, arguments);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::refuse((name, arguments));
}
