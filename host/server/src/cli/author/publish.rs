//! A built plugin comes into its place in one step: a host that watches it reads the one before or this one, whole, and
//! never the manifest of the one with the component of the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chela_sandbox::SIGNATURE_FILE;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::super::Failure;

/// The name of the component in a folder that these commands make.
pub(super) const COMPONENT: &str = "plugin.wasm";

/// A folder beside the place of another one, to be filled and then put there.
#[derive(Debug)]
pub(super) struct Aside {
    made: TempDir,
    place: PathBuf,
}

impl Aside {
    /// # Errors
    /// The place holds something else than a built plugin, or no folder can be made beside it.
    pub(super) fn of(place: &Path) -> Result<Self, Failure> {
        refuse_foreign(place)?;
        let place = std::path::absolute(place)?;
        let above = place.parent().unwrap_or(&place);
        fs::create_dir_all(above)?;
        let made = tempfile::Builder::new().prefix(".chela-build-").tempdir_in(above)?;
        // As any folder that is made here: a host may run as another user.
        let usual = fs::metadata(above)?.permissions();
        fs::set_permissions(made.path(), usual)?;
        Ok(Self { made, place })
    }

    pub(super) fn path(&self) -> &Path {
        self.made.path()
    }

    /// Where the component goes.
    pub(super) fn component(&self) -> PathBuf {
        self.path().join(COMPONENT)
    }

    /// Puts it into its place.
    ///
    /// # Errors
    /// Those of the disk; what was there is still there then.
    pub(super) fn publish(self) -> io::Result<()> {
        match exchange(self.path(), &self.place) {
            // What was there goes with `self.made`.
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::rename(self.made.keep(), &self.place)
            }
            // A file system that cannot exchange: the component first, which the manifest before allows at most.
            Err(_) => [COMPONENT, "plugin.toml"]
                .iter()
                .try_for_each(|name| fs::rename(self.path().join(name), self.place.join(name))),
        }
    }
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// What is replaced as a whole must hold nothing of anybody's.
fn refuse_foreign(place: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        // A signature goes with what it was made of.
        if name != "plugin.toml" && name != COMPONENT && name != SIGNATURE_FILE {
            return Err(Failure::new(format!(
                "{} holds `{}`, and would be replaced as a whole",
                place.display(),
                name.to_string_lossy()
            ))
            .help("what is built goes into a folder of its own: `dist`, or another `--out`"));
        }
    }
    Ok(())
}

/// Puts a component alone into its place, beside the manifest that is the author's own.
pub(super) fn component(from: &Path, place: &Path) -> io::Result<()> {
    let beside = place.with_extension("new");
    fs::copy(from, &beside)?;
    fs::rename(beside, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(place: &Path, text: &str) -> Result<(), String> {
        let aside = Aside::of(place).map_err(|failure| format!("{failure:?}"))?;
        fs::write(aside.component(), text).unwrap();
        fs::write(aside.path().join("plugin.toml"), text).unwrap();
        aside.publish().map_err(|error| error.to_string())
    }

    #[test]
    fn a_build_takes_the_place_of_the_one_before_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/dist");
        for text in ["one", "two"] {
            published(&place, text).unwrap();
            for name in [COMPONENT, "plugin.toml"] {
                assert_eq!(fs::read_to_string(place.join(name)).unwrap(), text);
            }
        }
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_holds_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lib.rs"), "mine").unwrap();
        let error = published(folder.path(), "one").unwrap_err();
        assert!(error.contains("lib.rs") && error.contains("--out"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
