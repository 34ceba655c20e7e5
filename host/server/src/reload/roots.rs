//! What is watched: the paths of a configuration, by how much of each counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::{Config, Source};

/// Paths that count. Another set than before means that the configuration names other ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    /// Files: the configuration, personas, scripts, secrets; and whatever is named and not there yet.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Plugins' folders: manifest and component.
    pub(crate) plugins: BTreeSet<PathBuf>,
    /// Folders of documents, with the folders in them.
    pub(crate) documents: BTreeSet<PathBuf>,
    /// The data folder, in which the host itself writes.
    pub(crate) data: PathBuf,
}

impl Roots {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        let folder = |source: &Source| match source {
            Source::Folder(folder) => Some(folder.clone()),
            Source::Builtin(_) => None,
        };
        let plugins: BTreeSet<_> =
            config.plugins.values().filter_map(|plugin| folder(&plugin.source)).collect();
        let documents: BTreeSet<_> =
            config.agents.values().filter_map(|agent| agent.knowledge.clone()).collect();
        let is_file = |path: &&PathBuf| !plugins.contains(*path) && !documents.contains(*path);
        let mut files: BTreeSet<_> = config.paths.iter().filter(is_file).cloned().collect();
        files.insert(config.named.clone());
        Self { files, plugins, documents, data: config.store.folder.clone() }
    }

    /// Those of a configuration that was refused before it was known what its paths are.
    pub(super) fn of_files(paths: &BTreeSet<PathBuf>) -> Self {
        Self { files: paths.clone(), ..Self::default() }
    }

    /// With what another configuration names, which is refused or waits: what it misses may come. The data folder stays.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        self.plugins.extend(other.plugins);
        self.documents.extend(other.documents);
        self.files.extend(other.files);
        let is_folder = |path: &PathBuf| self.plugins.contains(path) || self.documents.contains(path);
        self.files.retain(|path| !is_folder(path));
        self
    }

    /// The folders to be watched, behind their links, and whether with the folders in them. Of what is not there, the
    /// nearest folder that is.
    pub(super) fn folders(&self) -> BTreeMap<PathBuf, bool> {
        let mut folders = BTreeMap::new();
        for root in self.documents.iter().filter_map(|root| root.canonicalize().ok()) {
            folders.insert(root, true);
        }
        let deep: Vec<_> = folders.keys().cloned().collect();
        let mut add = |folder: Option<PathBuf>| {
            let folder = folder.filter(|folder| !deep.iter().any(|root| folder.starts_with(root)));
            folder.map(|folder| folders.entry(folder).or_insert(false));
        };
        for path in self.files.iter().chain(&self.plugins).chain(&self.documents) {
            add(nearest(path.parent()));
            // A link's own folder tells of the link, that of its target of the target.
            let real = path.canonicalize().ok();
            add(real.as_deref().and_then(Path::parent).map(Path::to_owned));
        }
        for plugin in &self.plugins {
            add(plugin.canonicalize().ok());
        }
        folders
    }
}

/// The folder, or the nearest above it that is there, behind every link.
fn nearest(folder: Option<&Path>) -> Option<PathBuf> {
    folder?.ancestors().find_map(|folder| folder.canonicalize().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_configurations_paths_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("docs")).unwrap();
        fs::create_dir(at("p")).unwrap();
        fs::write(at("persona.md"), "kind").unwrap();
        let text = "[plugin.p]\nsource = \"p\"\n[agent.x]\nplugin = \"p\"\nknowledge = \"docs\"\npersona = \"file:persona.md\"\n[store]\nurl = \"sqlite:data\"\n";
        fs::write(at("chela.toml"), text).unwrap();
        let (config, _) = crate::config::load(&at("chela.toml"), &|_| None).unwrap();
        let roots = Roots::of(&config);
        assert_eq!(roots.files, BTreeSet::from([at("chela.toml"), at("persona.md")]));
        assert_eq!((roots.plugins.len(), roots.documents.len()), (1, 1));
        assert!(roots.data.ends_with("data"));
        let found = roots.folders();
        assert_eq!(found.get(&at("docs")), Some(&true));
        assert_eq!(found.get(&at("p")), Some(&false));
        assert_eq!(found.get(folder.path()), Some(&false), "{found:?}");
        let wanted = Roots::of_files(&BTreeSet::from([at("p"), at("later/persona.md")]));
        let more = roots.clone().and(wanted);
        assert_eq!(more.files.len(), roots.files.len() + 1, "a plugin's folder stays one");
        assert_eq!(more.folders(), found, "what is not there yet will come by a folder that is");
    }

    #[test]
    fn a_folder_of_a_configuration_that_does_not_run_is_looked_into() {
        let one = |path: &str| BTreeSet::from([PathBuf::from(path)]);
        let runs = Roots { files: one("/c/new"), data: PathBuf::from("/c/data"), ..Roots::default() };
        let refused = Roots {
            plugins: one("/c/new"),
            documents: one("/c/docs"),
            data: "/d".into(),
            ..Roots::default()
        };
        let both = runs.and(refused.clone());
        assert_eq!(both, Roots { data: PathBuf::from("/c/data"), ..refused });
    }

    #[test]
    fn a_link_is_watched_at_both_ends() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("real.toml"), "").unwrap();
        symlink(elsewhere.path().join("real.toml"), folder.path().join("chela.toml")).unwrap();
        let roots = Roots { files: BTreeSet::from([folder.path().join("chela.toml")]), ..Roots::default() };
        let found = roots.folders();
        assert!(found.contains_key(folder.path()) && found.contains_key(elsewhere.path()), "{found:?}");
    }
}
