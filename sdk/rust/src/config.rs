//! The plugin's own configuration.

use serde::de::DeserializeOwned;

/// The `config` table of this plugin (or agent, or channel), read as `T`. Usually in `init`; give `T`
/// `#[serde(deny_unknown_fields)]`, so that a misspelt key is refused there.
///
/// # Errors
/// A sentence that names the key, fit to be returned from `init`.
///
/// ```
/// # use chela_sdk::testing::Host;
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Config {
///     passages: u32,
/// }
/// # impl Default for Config { fn default() -> Self { Self { passages: 4 } } }
///
/// # Host::new().config(serde_json::json!({ "passages": 3 })).run(|| {
/// let config: Config = chela_sdk::config()?;
/// assert_eq!(config.passages, 3);
/// # Ok::<(), String>(()) }).unwrap();
/// ```
pub fn config<T: DeserializeOwned>() -> Result<T, String> {
    serde_json::from_str(&config_json()).map_err(|error| format!("config: {error}"))
}

/// The same as one JSON object, `{}` if there is none.
#[must_use]
pub fn config_json() -> String {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::agent::chela::plugin::config::json();
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::with(|host| host.config.to_string());
}
