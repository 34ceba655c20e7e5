//! A look at everything that is watched: names, sizes, times and places on the disk, and no contents. Two looks that
//! agree saw the same; that nothing is read makes it cheap enough for each hint and each poll.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::roots::Roots;

/// Folders within folders of documents: as deep as they are read.
const DEPTH_MAX: usize = 9;
/// Files of one folder of documents; more are refused when they are read.
const FILES_MAX: usize = 20_000;

/// What a look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen(BTreeMap<PathBuf, Mark>);

/// What tells a file from what lay there before. A folder's own times would tell of files that do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    /// Bytes, and the times of the contents and of the entry: a copy may bring its times along.
    file: Option<(u64, [i64; 4])>,
}

impl Mark {
    fn of(of: &Metadata) -> Self {
        let times = [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()];
        Self { device: of.dev(), inode: of.ino(), file: of.is_file().then_some((of.len(), times)) }
    }
}

impl Seen {
    /// Looks. Blocks on the disk; what cannot be seen is not there.
    pub(super) fn at(roots: &Roots) -> Self {
        let mut seen = Self::default();
        for path in roots.files.iter().chain(&roots.plugins).chain(&roots.documents) {
            seen.mark(path);
        }
        for folder in &roots.plugins {
            seen.plugin(folder);
        }
        for folder in &roots.documents {
            let mut left = FILES_MAX;
            seen.documents(folder, &roots.data, (0, &mut left));
        }
        seen
    }

    /// Whether a folder holds what a plugin is made of.
    pub(super) fn is_plugin(folder: &Path) -> bool {
        let mut seen = Self::default();
        seen.plugin(folder);
        seen.0.contains_key(&folder.join("plugin.toml")) && seen.0.len() > 1
    }

    /// Whether the file at a path is among what was seen, by whatever name.
    pub(super) fn has(&self, path: &Path) -> bool {
        let found = fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        found.is_some_and(|found| self.0.values().any(|mark| (mark.device, mark.inode) == found))
    }

    /// Whether both saw the same of one path.
    #[cfg(test)]
    pub(super) fn agrees_with(&self, other: &Self, path: &Path) -> bool {
        self.0.get(path) == other.0.get(path)
    }

    /// As the links lead.
    fn mark(&mut self, path: &Path) {
        if let Ok(found) = fs::metadata(path) {
            self.0.insert(path.to_owned(), Mark::of(&found));
        }
    }

    /// What is read of a plugin's folder: its author may keep other things there.
    fn plugin(&mut self, folder: &Path) {
        self.mark(&folder.join("plugin.toml"));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                self.mark(&path);
            }
        }
    }

    /// What is read of a folder of documents: links are not.
    fn documents(&mut self, folder: &Path, data: &Path, (depth, left): (usize, &mut usize)) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if *left == 0 {
                return;
            }
            if path == data {
                continue;
            }
            let is_document = path.extension().is_some_and(|extension| extension == "md");
            if kind.is_dir() && depth < DEPTH_MAX {
                self.documents(&path, data, (depth + 1, &mut *left));
            } else if kind.is_file() && is_document {
                *left -= 1;
                self.mark(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    struct World {
        folder: tempfile::TempDir,
        roots: Roots,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            for name in ["p", "docs/deep", "docs/data", "data"] {
                fs::create_dir_all(at(name)).unwrap();
            }
            for name in ["chela.toml", "p/plugin.toml", "p/a.wasm", "docs/deep/a.md", "docs/data/kept.md"] {
                fs::write(at(name), "first").unwrap();
            }
            let roots = Roots {
                files: BTreeSet::from([at("chela.toml"), at("later")]),
                plugins: BTreeSet::from([at("p")]),
                documents: BTreeSet::from([at("docs")]),
                data: at("docs/data"),
            };
            Self { folder, roots }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn look(&self) -> Seen {
            Seen::at(&self.roots)
        }

        /// Whether a change of this kind is seen.
        fn sees(&self, change: impl FnOnce()) -> bool {
            let before = self.look();
            change();
            self.look() != before
        }
    }

    #[test]
    fn what_counts_is_seen() {
        let world = World::new();
        assert_eq!(world.look(), world.look());
        let write = |name: &str, text: &str| fs::write(world.at(name), text).unwrap();
        assert!(world.sees(|| write("chela.toml", "longer text")));
        assert!(world.sees(|| write("p/plugin.toml", "longer text")));
        assert!(world.sees(|| write("docs/deep/a.md", "longer text")));
        assert!(world.sees(|| write("docs/b.md", "new")));
        assert!(world.sees(|| write("later", "it came")));
        assert!(world.sees(|| fs::remove_file(world.at("docs/b.md")).unwrap()));
    }

    #[test]
    fn another_file_of_the_same_size_and_time_is_another_file() {
        let world = World::new();
        let old = fs::metadata(world.at("p/a.wasm")).unwrap().modified().unwrap();
        assert!(world.sees(|| {
            fs::write(world.at("new"), "twice").unwrap();
            File::options().write(true).open(world.at("new")).unwrap().set_modified(old).unwrap();
            fs::rename(world.at("new"), world.at("p/a.wasm")).unwrap();
        }));
        let touched = SystemTime::now() + Duration::from_secs(5);
        let file = File::options().write(true).open(world.at("chela.toml")).unwrap();
        assert!(world.sees(|| file.set_modified(touched).unwrap()));
    }

    #[test]
    fn a_folder_that_was_swapped_is_another_folder() {
        let world = World::new();
        assert!(world.sees(|| {
            fs::create_dir(world.at("q")).unwrap();
            fs::rename(world.at("p/plugin.toml"), world.at("q/plugin.toml")).unwrap();
            fs::rename(world.at("p/a.wasm"), world.at("q/a.wasm")).unwrap();
            fs::rename(world.at("p"), world.at("old")).unwrap();
            fs::rename(world.at("q"), world.at("p")).unwrap();
        }));
    }

    #[test]
    fn what_does_not_count_is_not_seen() {
        let world = World::new();
        let write = |name: &str| fs::write(world.at(name), "new").unwrap();
        let names =
            ["p/src.rs", "docs/picture.png", "docs/data/kept.md", "docs/data/more.md", "data/chela.db", "x"];
        for name in names {
            assert!(!world.sees(|| write(name)), "{name}");
        }
        let link = || std::os::unix::fs::symlink(world.at("x"), world.at("docs/link.md")).unwrap();
        assert!(!world.sees(link), "a document that is a link is not read");
    }
}
