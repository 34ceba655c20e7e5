//! Our own components and the demo's documents, built on the way and embedded.
//!
//! Embedded, so that the released binary is whole: `builtin:keyword` in a configuration needs no file beside
//! it, and a bare `cargo run` works in a fresh clone.

/// A plugin that comes with the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// As written after `builtin:`.
    pub name: &'static str,
    /// The text of its `plugin.toml`.
    pub manifest: &'static str,
    /// Its component.
    pub component: &'static [u8],
}

/// A text file of the demo: a persona, a knowledge document, a table of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document {
    /// Path below the demo's folder, with `/`: `knowledge/support/returns.md`.
    pub path: &'static str,
    /// What stands in it.
    pub text: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// The plugin of this name.
#[must_use]
pub fn get(name: &str) -> Option<Builtin> {
    all().find(|builtin| builtin.name == name)
}

/// All of them.
pub fn all() -> impl Iterator<Item = Builtin> {
    BUILTINS.iter().copied()
}

/// The demo's file of this path.
#[must_use]
pub fn document(path: &str) -> Option<&'static str> {
    demo().find(|document| document.path == path).map(|document| document.text)
}

/// All of the demo's files, sorted by path.
pub fn demo() -> impl Iterator<Item = Document> {
    DEMO.iter().copied()
}
