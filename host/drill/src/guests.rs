//! The guests that this program carries.

use bytes::Bytes;
use chela_sandbox::Source;

use crate::attack::manifest;

/// A guest in Rust, of `tests/guests`, with its manifest.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    /// Its name.
    pub name: &'static str,
    /// The text of its `plugin.toml`.
    pub manifest: &'static str,
    /// Its component.
    pub component: &'static [u8],
}

/// A router in text, of `tests/guests/wat`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) name: &'static str,
    /// Whether it can be snapshotted.
    pub(crate) snapshot: bool,
    pub(crate) component: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The guest in Rust of this name.
#[must_use]
pub fn built(name: &str) -> Option<Built> {
    BUILT.iter().find(|guest| guest.name == name).copied()
}

/// The router in text of this name.
pub(crate) fn written(name: &str) -> Option<Written> {
    WRITTEN.iter().find(|guest| guest.name == name).copied()
}

/// The router in text of this name, which asks the host for nothing; snapshotted or not.
#[must_use]
pub fn router(name: &str, snapshot: bool) -> Option<Source> {
    let guest = written(name)?;
    let component = Bytes::from_static(guest.component);
    Some(Source::Embedded { manifest: manifest(snapshot), component })
}

#[cfg(test)]
pub(crate) fn all_written() -> impl Iterator<Item = &'static str> {
    WRITTEN.iter().map(|guest| guest.name)
}
