//! Lines for the operator. The host stamps them with plugin and version, and caps them.
//!
//! Never write people's words here: logs are read by more eyes than conversations.

pub use crate::bindings::agent::chela::plugin::log::Level;

/// Writes a line.
pub fn write(level: Level, message: impl AsRef<str>) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::agent::chela::plugin::log::write(level, message.as_ref());
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::with(|host| host.lines.push((level, message.as_ref().to_owned())));
}

/// For somebody who looks for a fault.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message);
}

/// Worth knowing.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message);
}

/// Something to look at.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message);
}

/// Something is broken.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message);
}
