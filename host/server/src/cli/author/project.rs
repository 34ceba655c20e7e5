//! An author's folder: which language it is written in, what its manifest says, where what is built of it goes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chela_sandbox::Manifest;
use chela_types::PluginId;
use clap::ValueEnum;

use super::super::Failure;
use super::publish::COMPONENT;
use crate::config::{Config, Plugin, Source};

/// The folder, in the author's own, that holds what a host loads: `plugin.toml` and one component.
pub(super) const BUILT: &str = "dist";
/// The folder, in the author's own, in which these commands keep what they may forget.
pub(super) const OWN: &str = ".chela";
/// Files that are looked at as sources, and folders deep: more are somebody's data.
const SOURCES_MAX: usize = 5_000;
const DEPTH_MAX: usize = 12;
/// Largest `plugin.toml` that is read.
const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// A language of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    /// A crate.
    Rust,
    /// A module.
    Python,
    /// A module of JavaScript or TypeScript.
    Js,
}

impl Lang {
    /// Files of which one tells the language.
    const MARKS: [(&str, Self); 5] = [
        ("Cargo.toml", Self::Rust),
        ("plugin.py", Self::Python),
        ("plugin.js", Self::Js),
        ("plugin.mjs", Self::Js),
        ("plugin.ts", Self::Js),
    ];

    /// As the folder of its sdk is called.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
        }
    }
}

/// A plugin that somebody writes.
#[derive(Debug, Clone)]
pub(super) struct Project {
    /// Its folder, absolute.
    pub(super) folder: PathBuf,
    pub(super) lang: Lang,
    pub(super) manifest: Manifest,
    /// The text of its manifest.
    pub(super) text: String,
}

impl Project {
    /// Looks into a folder.
    ///
    /// # Errors
    /// What is missing there, or wrong with its manifest.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let absolute = folder.canonicalize().map_err(|error| {
            Failure::from(error).help(format!("is {} a plugin's folder?", folder.display()))
        })?;
        let (manifest, text) = manifest(&absolute)?;
        Ok(Self { lang: lang(&absolute)?, folder: absolute, manifest, text })
    }

    /// Where what is built goes, unless somebody says otherwise.
    pub(super) fn built(&self) -> PathBuf {
        self.folder.join(BUILT)
    }

    /// Where these commands keep what they may forget.
    pub(super) fn own(&self) -> PathBuf {
        self.folder.join(OWN)
    }
}

impl Project {
    /// The plugin of a configuration that is built from here: it is named, or its folder is this one or the built one,
    /// or it has the same name and a folder.
    pub(super) fn place<'a>(
        &self,
        config: &'a Config,
        named: Option<&str>,
    ) -> Option<(&'a PluginId, &'a Plugin)> {
        let own = [self.folder.clone(), self.built()];
        let folder = |plugin: &Plugin| match &plugin.source {
            Source::Folder(folder) => Some(folder.canonicalize().unwrap_or_else(|_| folder.clone())),
            Source::Builtin(_) => None,
        };
        let mut plugins = config.plugins.iter();
        match named {
            Some(named) => plugins.find(|(name, _)| name.as_str() == named),
            None => (plugins.clone())
                .find(|(_, plugin)| folder(plugin).is_some_and(|folder| own.contains(&folder)))
                .or_else(|| {
                    plugins.find(|(name, plugin)| **name == self.manifest.name && folder(plugin).is_some())
                }),
        }
    }

    /// The author's own files. Blocks on the disk.
    pub(super) fn sources(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![(self.folder.clone(), 0)];
        while let Some((folder, depth)) = waiting.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
                if is_made(&entry.file_name()) || found.len() >= SOURCES_MAX {
                    continue;
                }
                if kind.is_dir() && depth < DEPTH_MAX {
                    waiting.push((path, depth + 1));
                } else if kind.is_file() {
                    found.insert(path);
                }
            }
        }
        found
    }

    /// Whether what was built is of these sources: it is younger than each of them, but for cases, of which nothing is
    /// built.
    pub(super) fn is_built(&self) -> bool {
        let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
        let Some(built) = changed(&self.built().join(COMPONENT)) else { return false };
        let cases = self.folder.join("cases");
        let newest: Option<SystemTime> = (self.sources().iter())
            .filter(|path| !path.starts_with(&cases))
            .filter_map(|path| changed(path))
            .max();
        newest.is_none_or(|newest| newest < built)
    }
}

/// The manifest of a folder, and its text.
pub(super) fn manifest(folder: &Path) -> Result<(Manifest, String), Failure> {
    let path = folder.join("plugin.toml");
    let failed = |error: std::io::Error| {
        Failure::new(format!("{} cannot be read: {error}", path.display()))
            .help("a plugin is a folder with `plugin.toml`; `chela plugin new` makes one")
    };
    if fs::metadata(&path).map_err(failed)?.len() > MANIFEST_BYTES_MAX {
        return Err(Failure::new(format!("{} is too large for a manifest", path.display())));
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    let manifest = Manifest::parse(&text).map_err(|error| {
        Failure::new(format!("{}: {error}", folder.display())).help("every key: docs/guide/plugins.md")
    })?;
    Ok((manifest, text))
}

fn lang(folder: &Path) -> Result<Lang, Failure> {
    let found = |(name, lang): &(&'static str, Lang)| folder.join(name).is_file().then_some((*name, *lang));
    let marks: Vec<_> = Lang::MARKS.iter().filter_map(found).collect();
    match marks[..] {
        [(_, lang)] => Ok(lang),
        [] => {
            let names = Lang::MARKS.map(|(name, _)| name).join(", ");
            Err(Failure::new(format!("{} is written in no language that is known here", folder.display()))
                .help(format!("beside `plugin.toml` there is one of {names}")))
        }
        [(one, _), (other, _), ..] => Err(Failure::new(format!(
            "{} holds `{one}` and `{other}`: a plugin is written in one language",
            folder.display()
        ))),
    }
}

/// What tools and these commands make, and what begins with a dot: no sources of the author's.
pub(super) fn is_made(name: &OsStr) -> bool {
    let made = [BUILT, "target", "node_modules", "__pycache__", "venv", "build"];
    let locks = ["Cargo.lock", "package-lock.json"];
    let ends = [".egg-info", ".wasm", ".new"];
    let name = name.to_string_lossy();
    name.starts_with('.')
        || made.iter().chain(&locks).any(|made| *made == name)
        || ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "name = \"a\"\nversion = \"1.0.0\"\nkind = \"router\"\ncontract = \"0.1.0\"\n";

    fn refused(folder: &Path) -> String {
        format!("{:?}", Project::open(folder).unwrap_err())
    }

    #[test]
    fn what_tools_put_there_is_no_source_and_what_is_older_is_not_built_again() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["src", "target", "dist", ".venv", "cases", "node_modules/a"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("a.py"), "").unwrap();
        }
        fs::write(folder.path().join("plugin.toml"), MANIFEST).unwrap();
        fs::write(folder.path().join("plugin.py"), "").unwrap();
        let project = Project::open(folder.path()).map_err(|failure| format!("{failure:?}")).unwrap();
        let sources = project.sources();
        let names: Vec<_> = sources
            .iter()
            .map(|path| path.strip_prefix(&project.folder).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["cases/a.py", "plugin.py", "plugin.toml", "src/a.py"]);
        assert!(!project.is_built());
        let at = |path: &str, seconds: u64| {
            let file = fs::File::options().append(true).create(true).open(project.folder.join(path)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        for (path, seconds) in [
            ("plugin.py", 10),
            ("plugin.toml", 10),
            ("src/a.py", 10),
            ("cases/a.py", 99),
            ("dist/plugin.wasm", 20),
        ] {
            at(path, seconds);
        }
        assert!(project.is_built());
        at("src/a.py", 30);
        assert!(!project.is_built());
    }

    #[test]
    fn a_folder_tells_its_language_or_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refused(folder.path()).contains("plugin new"));
        fs::write(folder.path().join("plugin.toml"), "nam = 1").unwrap();
        assert!(refused(folder.path()).contains("plugin.toml line 1"));
        fs::write(folder.path().join("plugin.toml"), MANIFEST).unwrap();
        assert!(refused(folder.path()).contains("plugin.ts"));
        fs::write(folder.path().join("plugin.ts"), "").unwrap();
        assert_eq!(Project::open(folder.path()).unwrap().lang, Lang::Js);
        fs::write(folder.path().join("plugin.py"), "").unwrap();
        assert!(refused(folder.path()).contains("one language"));
        assert!(refused(&folder.path().join("none")).contains("a plugin's folder?"));
    }
}
