//! Builds of a plugin: each with a version and a component of its own, and told from its neighbours by what it answers.

use std::path::Path;

use bytes::Bytes;
use chela_types::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Swapped;
use crate::guests;

/// A build of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Build {
    /// Of which plugin.
    pub plugin: Swapped,
    /// Counts up; the manifest's version is `1.NUMBER.0`.
    pub number: u32,
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
        format!("1.{}.0", self.number)
    }

    /// The build with this version.
    pub fn of(plugin: Swapped, version: &str) -> Self {
        let number = version.strip_prefix("1.").and_then(|rest| rest.strip_suffix(".0"));
        let number = number.and_then(|number| number.parse().ok());
        Self { plugin, number: number.unwrap_or_else(|| panic!("{version} is none of our versions")) }
    }

    /// What its manifest tells it to do: neighbours do it differently.
    fn behaviour(&self) -> &'static str {
        match (self.plugin, self.number % 2) {
            (Swapped::Worker, 0) => "model",
            (Swapped::Worker, _) => "stream",
            // A word that is no agent's name: the default is chosen.
            (Swapped::Chooser, 0) => "nobody",
            (Swapped::Chooser, _) => Swapped::Worker.name(),
        }
    }

    /// Whether this answer of the agent, or this reason of the router, can be its own.
    pub fn can_have_said(&self, text: &str) -> bool {
        let is_odd = match self.plugin {
            Swapped::Worker => text.contains(" pieces, true: "),
            Swapped::Chooser => text == "the first word names it",
        };
        is_odd == (self.number % 2 == 1)
    }

    /// Its manifest.
    pub fn manifest(&self) -> String {
        guests::get(self.plugin.guest()).manifest_of(&self.version(), self.behaviour())
    }

    /// Its component: the guest's, with a section of its own that nothing reads.
    pub fn component(&self) -> Bytes {
        let number = self.number.to_le_bytes();
        let name = b"build";
        let mut bytes = guests::get(self.plugin.guest()).component.to_vec();
        bytes.extend([0, (1 + name.len() + number.len()) as u8, name.len() as u8]);
        bytes.extend(name.iter().chain(&number));
        bytes.into()
    }

    /// The name under which its component is kept.
    pub fn artefact(&self) -> Digest {
        Digest::of("chela 2026 component", &[&self.component()])
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
        let [one, two] = [1, 2].map(|number| Build { plugin: Swapped::Worker, number });
        assert_ne!(one.artefact(), two.artefact());
        assert_ne!(one.version(), two.version());
        assert_eq!(Build::of(Swapped::Worker, &two.version()), two);
        let (streamed, plain) = ("3 pieces, true: You said: x", "You said: x");
        assert!(one.can_have_said(streamed) && !one.can_have_said(plain));
        assert!(two.can_have_said(plain) && !two.can_have_said(streamed));
    }
}
