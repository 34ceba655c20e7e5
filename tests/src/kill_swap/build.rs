//! Builds of a plugin: each with a version and a component of its own, and told from its neighbours by what it answers.

use std::path::Path;

use bytes::Bytes;
use chela_types::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Swapped;
use crate::guests::{self, Guest};

/// A build of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Build {
    /// Of which plugin.
    pub plugin: Swapped,
    /// Counts up; the manifest's version is `1.NUMBER.0`, of a bad one `1.NUMBER.1`.
    pub number: u32,
    /// Each call of it fails by its own fault.
    pub is_bad: bool,
}

/// How a build comes into a plugin's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The component is replaced, then the manifest.
    FileByFile,
    /// The whole folder at once, by another one.
    AsAWhole,
}

impl Build {
    /// As its manifest says it.
    pub fn version(&self) -> String {
        format!("1.{}.{}", self.number, u8::from(self.is_bad))
    }

    /// The build with this version.
    pub fn of(plugin: Swapped, version: &str) -> Self {
        let (number, patch) = version.strip_prefix("1.").and_then(|rest| rest.split_once('.')).unzip();
        let number = number.and_then(|number| number.parse().ok());
        let number = number.unwrap_or_else(|| panic!("{version} is none of our versions"));
        Self { plugin, number, is_bad: patch == Some("1") }
    }

    /// What its manifest tells it to do: neighbours do it differently.
    fn behaviour(&self) -> &'static str {
        match (self.plugin, self.is_bad, self.number % 2) {
            (Swapped::Worker, false, 0) => "model",
            (Swapped::Worker, false, _) => "stream",
            // A word that is no agent's name: the default is chosen.
            (Swapped::Chooser, false, 0) => "nobody",
            (Swapped::Chooser, false, _) => Swapped::Worker.name(),
            (Swapped::Worker, true, 0) => "unsuitable",
            (Swapped::Chooser, true, 0) => "error",
            (Swapped::Worker | Swapped::Chooser, true, _) => "trap",
            (Swapped::Adapter, _, 0) => "receive-trap",
            // It finds no sender where the manifest says that he is.
            (Swapped::Adapter, ..) => "lie-sender",
        }
    }

    /// What it is made of. A bad adapter has the real one's manifest, and a guest behind it.
    fn made_of(&self) -> Guest {
        match (self.plugin, self.is_bad) {
            (Swapped::Worker, _) => guests::get("agent"),
            (Swapped::Chooser, _) => guests::get("router"),
            (Swapped::Adapter, false) => guests::product("webhook"),
            (Swapped::Adapter, true) => guests::get("channel"),
        }
    }

    /// Whether this answer of the agent, or this reason of the router, can be its own. An adapter says nothing, and a bad
    /// build never comes to it.
    pub fn can_have_said(&self, text: &str) -> bool {
        let is_odd = match self.plugin {
            Swapped::Worker => text.contains(" pieces, true: "),
            Swapped::Chooser => text == "the first word names it",
            Swapped::Adapter => return false,
        };
        !self.is_bad && is_odd == (self.number % 2 == 1)
    }

    /// Its manifest.
    pub fn manifest(&self) -> String {
        let (version, behaviour) = (self.version(), self.behaviour());
        match (self.plugin, self.is_bad) {
            (Swapped::Adapter, false) => self.made_of().manifest_in(&version),
            (Swapped::Adapter, true) => guests::product("webhook").manifest_of(&version, behaviour),
            _ => self.made_of().manifest_of(&version, behaviour),
        }
    }

    /// Its component: what it is made of, with a section of its own that nothing reads.
    pub fn component(&self) -> Bytes {
        let number = self.number.to_le_bytes();
        let name = b"build";
        let mut bytes = self.made_of().component.to_vec();
        bytes.extend([0, (1 + name.len() + number.len()) as u8, name.len() as u8]);
        bytes.extend(name.iter().chain(&number));
        bytes.into()
    }

    /// The name under which its component is kept.
    pub fn artefact(&self) -> Digest {
        guests::kept_as(&self.component())
    }

    /// Puts it into the plugin's folder below `parent`.
    pub fn land(&self, parent: &Path, way: Way) {
        let (folder, next) = (parent.join(self.plugin.name()), parent.join("next"));
        std::fs::create_dir_all(&next).unwrap();
        std::fs::write(next.join("plugin.toml"), self.manifest()).unwrap();
        std::fs::write(next.join("guest.wasm"), self.component()).unwrap();
        match way {
            _ if !folder.exists() => std::fs::rename(&next, &folder).unwrap(),
            Way::FileByFile => {
                for file in ["guest.wasm", "plugin.toml"] {
                    std::fs::rename(next.join(file), folder.join(file)).unwrap();
                }
            }
            Way::AsAWhole => renameat_with(CWD, &next, CWD, &folder, RenameFlags::EXCHANGE).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_told_apart_by_component_version_and_words() {
        let [one, two] = [1, 2].map(|number| Build { plugin: Swapped::Worker, number, is_bad: false });
        assert_ne!(one.artefact(), two.artefact());
        assert_ne!(one.version(), two.version());
        let bad = Build { is_bad: true, ..two };
        for build in [two, bad] {
            assert_eq!(Build::of(Swapped::Worker, &build.version()), build);
        }
        let (streamed, plain) = ("3 pieces, true: You said: x", "You said: x");
        assert!(one.can_have_said(streamed) && !one.can_have_said(plain));
        assert!(two.can_have_said(plain) && !two.can_have_said(streamed));
        assert!(!bad.can_have_said(plain) && !bad.can_have_said(streamed));
    }
}
