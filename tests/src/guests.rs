//! Components for tests: guests that misbehave as they are told, and the first lesson's agent.

use bytes::Bytes;
use chela_sandbox::Source;
use chela_types::Digest;
use std::path::{Path, PathBuf};

/// A component with its manifest.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// Its name in the tests.
    pub name: &'static str,
    /// The text of its `plugin.toml`.
    pub manifest: &'static str,
    /// The component.
    pub component: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The guest of this name: `agent`, `router`, `channel`, `files`, `sockets` or `echo`.
pub fn get(name: &str) -> Guest {
    let hostile = chela_drill::built(name).map(|guest| Guest {
        name: guest.name,
        manifest: guest.manifest,
        component: guest.component,
    });
    let own = || GUESTS.iter().find(|guest| guest.name == name).copied();
    hostile.or_else(own).unwrap_or_else(|| panic!("no guest is called {name}"))
}

impl Guest {
    /// As a plugin's source.
    pub fn source(&self) -> Source {
        self.with_component(self.component.to_vec())
    }

    /// The same manifest with another component.
    pub fn with_component(&self, component: Vec<u8>) -> Source {
        Source::Embedded { manifest: self.manifest.to_owned(), component: Bytes::from(component) }
    }

    /// The same component in another version, with another behaviour by its manifest's own configuration.
    pub fn version(&self, version: &str, behaviour: &str) -> Source {
        Source::Embedded {
            manifest: self.manifest_of(version, behaviour),
            component: Bytes::from_static(self.component),
        }
    }

    /// Its manifest in another version.
    pub fn manifest_in(&self, version: &str) -> String {
        let lines = self.manifest.lines().map(|line| match line.starts_with("version = ") {
            true => format!("version = \"{version}\"\n"),
            false => format!("{line}\n"),
        });
        lines.collect()
    }

    /// Its manifest in another version, with another behaviour.
    pub fn manifest_of(&self, version: &str, behaviour: &str) -> String {
        let manifest = self.manifest_in(version);
        let config = format!("[config]\nbehaviour = \"{behaviour}\"\n");
        match manifest.contains("[config]\n") {
            true => manifest.replacen("[config]\n", &config, 1),
            false => format!("{manifest}\n{config}"),
        }
    }

    /// As a plugin's folder below `parent`, the way an author ships it.
    pub fn folder(&self, parent: &Path) -> PathBuf {
        let folder = parent.join(self.name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("plugin.toml"), self.manifest).unwrap();
        std::fs::write(folder.join(format!("{}.wasm", self.name)), self.component).unwrap();
        folder
    }
}

/// A component that comes with the product, with its manifest.
pub fn product(name: &'static str) -> Guest {
    let found = chela_bundle::get(name).unwrap_or_else(|| panic!("no component is called {name}"));
    Guest { name, manifest: found.manifest, component: found.component }
}

/// The name under which a component is kept.
pub fn kept_as(component: &[u8]) -> Digest {
    Digest::of("chela 2026 component", &[component])
}

/// A component that comes with the product.
pub fn builtin(name: &str) -> Source {
    let found = chela_bundle::get(name).unwrap_or_else(|| panic!("no component is called {name}"));
    Source::Embedded { manifest: found.manifest.to_owned(), component: Bytes::from_static(found.component) }
}

/// Names of everything that a component imports, decoded.
pub fn imports(component: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => {
                depth += 1
            }
            wasmparser::Payload::End(_) => depth -= 1,
            wasmparser::Payload::ComponentImportSection(section) if depth == 0 => {
                names.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    names
}
