//! The wasm target: there, added, or named.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use crate::{Error, TARGET, cargo};

/// What a person types if it cannot be added for them.
pub const ADD_TARGET: &str = "rustup target add wasm32-wasip2";

/// Sees to it that the compiler of this build has the target.
pub(crate) fn ensure() -> Result<(), Error> {
    let (rustup, arguments) = ADD_TARGET.split_once(' ').unwrap_or((ADD_TARGET, ""));
    let mut add = Command::new(rustup);
    add.args(arguments.split(' '));
    ensure_with(&cargo::variable("RUSTC")?, add)
}

/// Asks the very compiler that will be used. A toolchain that rustup does not manage may have the target
/// too, so rustup is asked only if it lacks.
fn ensure_with(rustc: &OsStr, mut add: Command) -> Result<(), Error> {
    if is_there(rustc)? {
        return Ok(());
    }
    let said = match add.output() {
        Ok(output) if output.status.success() => "rustup added it to another toolchain".to_owned(),
        Ok(output) => last_line(&output),
        Err(error) => format!("rustup: {error}"),
    };
    if is_there(rustc)? { Ok(()) } else { Err(Error::NoTarget { why: said }) }
}

fn is_there(rustc: &OsStr) -> Result<bool, Error> {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]);
    let program = rustc.to_string_lossy().into_owned();
    let output = command.output().map_err(|source| Error::Run { program, source })?;
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(folder.trim()).is_dir())
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().last().unwrap_or("rustup said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_cannot_be_added_is_named_with_its_command() {
        for add in [Command::new("false"), Command::new("true"), Command::new("no-such-program")] {
            let said = ensure_with(OsStr::new("false"), add).unwrap_err().to_string();
            assert!(said.contains("run `rustup target add wasm32-wasip2`"), "{said}");
        }
    }

    #[test]
    fn a_compiler_that_is_not_there_is_named() {
        let said = ensure_with(OsStr::new("no-such-compiler"), Command::new("true")).unwrap_err();
        assert_eq!(said.to_string(), "cannot run no-such-compiler");
    }
}
