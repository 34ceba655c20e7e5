//! The inner cargo, kept apart from the outer one.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Plugin, TARGET};

/// Components are small rather than fast: most of a call is its sandbox. Fat LTO over one unit halves them.
const PROFILE: [(&str, &str); 7] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "none"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
];

/// What the inner build may know of the outer one: where things are kept, how the network is reached, and
/// the jobserver, so that both together use the cores once.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_MAKEFLAGS"];

pub(crate) fn variable(name: &'static str) -> Result<OsString, Error> {
    std::env::var_os(name).ok_or(Error::NotABuildScript(name))
}

pub(crate) fn build(workspace: &Path, plugins: &[Plugin], folder: &Path) -> Result<(), Error> {
    let cargo = variable("CARGO")?;
    let mut command = Command::new(&cargo);
    forget_outer(&mut command);
    command.current_dir(workspace).envs(PROFILE).stdin(Stdio::null());
    command
        .args(["build", "--release", "--lib", "--target", TARGET, "--color", "never", "--target-dir"])
        .arg(folder);
    if workspace.join("Cargo.lock").is_file() {
        command.arg("--locked");
    }
    for plugin in plugins {
        command.args(["--package", &plugin.package]);
    }
    // Standard error goes through untouched, so that the compiler's messages arrive as it wrote them.
    // Standard output would be taken for directives to the outer cargo; nobody needs it.
    command.stdout(Stdio::null());
    let program = cargo.to_string_lossy().into_owned();
    let status = command.status().map_err(|source| Error::Run { program, source })?;
    if status.success() { Ok(()) } else { Err(Error::Compile(status.to_string())) }
}

/// Takes away what the outer cargo, clippy or a coverage tool set for its own compiler.
fn forget_outer(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_outer) {
            command.env_remove(name);
        }
    }
}

fn is_outer(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_", "CLIPPY_", "__CARGO", "DEP_"];
    const NAMES: [&str; 14] = [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
    ];
    let kept = KEPT.iter().any(|prefix| name.starts_with(prefix));
    !kept && (NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::is_outer;

    #[test]
    fn flags_and_wrappers_stay_outside() {
        let outer =
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "OUT_DIR"];
        for name in
            outer.into_iter().chain(["CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "CARGO_PROFILE_RELEASE_LTO"])
        {
            assert!(is_outer(name), "{name}");
        }
    }

    #[test]
    fn home_network_and_jobserver_are_shared() {
        for name in ["PATH", "HOME", "CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_MAKEFLAGS", "RUSTUP_TOOLCHAIN"]
        {
            assert!(!is_outer(name), "{name}");
        }
    }
}
