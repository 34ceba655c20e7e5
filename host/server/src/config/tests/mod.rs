//! Tests of the configuration: what is refused and how it reads, what is accepted, what is never shown.

mod bad;
mod good;
mod pages;
mod prices;
mod tiers;

use std::path::Path;

use super::{Config, ConfigError, Warning};

/// A configuration that is whole: one agent, no channel.
const BASE: &str =
    "[plugin.assistant]\nsource = \"builtin:assistant\"\n\n[agent.sales]\nplugin = \"assistant\"\n";

/// Secrets that tests name; none may ever be shown.
fn env(name: &str) -> Option<String> {
    match name {
        "EMPTY" => Some("  \n".into()),
        "UNSET" => None,
        "SHORT" => Some("hunter2-15-chars".chars().take(15).collect()),
        _ => Some(format!("hunter2-{name}")),
    }
}

/// Loads a text as if it stood in `folder/chela.toml`.
fn load_in(folder: &Path, text: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
    let folder = std::fs::canonicalize(folder).unwrap();
    super::parse("chela.toml", (&folder.join("chela.toml"), &folder), text, &env)
}

/// Loads a text where no other file is.
fn load(text: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
    load_in(tempfile::tempdir().unwrap().path(), text)
}

/// Compares with a stored text under a name of its own.
fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
