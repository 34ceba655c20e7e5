//! Builds plugin crates of this workspace into components, for build scripts.
//!
//! A build script is part of a cargo build and wants another one, for another target. Three things go wrong
//! easily, so they live here once: the inner build must have a target directory of its own, or it waits
//! for the outer one's lock for ever; the outer build's flags and wrappers (clippy, coverage, sanitizers)
//! must not reach it; and a missing wasm target must be added or named, not met as `can't find crate for std`.

mod cargo;
mod target;

use std::path::{Path, PathBuf};

pub use target::ADD_TARGET;

/// The target of all components.
pub const TARGET: &str = "wasm32-wasip2";

/// One plugin to build.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// The crate's name, as in its `Cargo.toml`.
    pub package: String,
    /// Its folder; `plugin.toml` stands there too.
    pub folder: PathBuf,
}

/// One plugin that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The crate's name.
    pub package: String,
    /// Its component.
    pub component: PathBuf,
    /// Its manifest.
    pub manifest: PathBuf,
}

/// What could not be done. Shown by cargo as the failure of a build script.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable that cargo sets for build scripts is missing.
    #[error("{0} is not set: this runs in build scripts only")]
    NotABuildScript(&'static str),
    /// A program could not be started.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The wasm target is missing and could not be added.
    #[error("the target wasm32-wasip2 is not installed and could not be added; run `{ADD_TARGET}` ({why})")]
    NoTarget {
        /// What the attempt said.
        why: String,
    },
    /// The plugins do not compile; the compiler's own words are above this line.
    #[error("plugins do not compile: {0} (the compiler's messages are above)")]
    Compile(String),
    /// Cargo said it was well, yet the file is not there.
    #[error("no component at {0}; is `crate-type = [\"cdylib\"]` in its Cargo.toml?")]
    NoComponent(PathBuf),
}

/// Builds `plugins`, members of the workspace at `workspace`, and tells cargo what to watch: the plugins'
/// folders and `watch` (what they are made of: the sdk, the contract).
///
/// # Errors
/// [`Error`]; return it from the build script's `main`.
pub fn build(workspace: &Path, plugins: &[Plugin], watch: &[PathBuf]) -> Result<Vec<Built>, Error> {
    let out = cargo::variable("OUT_DIR")?;
    let rerun = plugins.iter().map(|plugin| &plugin.folder).chain(watch);
    for path in rerun.chain([&workspace.join("Cargo.lock"), &workspace.join("Cargo.toml")]) {
        announce(path);
    }
    target::ensure()?;
    let folder = Path::new(&out).join("components");
    cargo::build(workspace, plugins, &folder)?;
    plugins.iter().map(|plugin| locate(&folder, plugin)).collect()
}

fn locate(folder: &Path, plugin: &Plugin) -> Result<Built, Error> {
    let file = format!("{}.wasm", plugin.package.replace('-', "_"));
    let component = folder.join(TARGET).join("release").join(file);
    if !component.is_file() {
        return Err(Error::NoComponent(component));
    }
    Ok(Built { package: plugin.package.clone(), component, manifest: plugin.folder.join("plugin.toml") })
}

#[allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]
fn announce(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
