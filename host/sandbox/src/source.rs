//! Where a plugin comes from: a folder, or bytes that this program carries.

use crate::error::Refusal;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};
use bytes::Bytes;
use chela_types::Digest;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where a plugin comes from.
#[derive(Clone)]
pub enum Source {
    /// A folder with `plugin.toml` and exactly one `*.wasm`.
    Folder(PathBuf),
    /// What the program carries.
    Embedded {
        /// The text of `plugin.toml`.
        manifest: String,
        /// The component.
        component: Bytes,
    },
}

impl fmt::Debug for Source {
    /// The bytes of a component are nothing to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            Self::Embedded { component, .. } => write!(f, "Embedded({} bytes)", component.len()),
        }
    }
}

/// What a source holds, in memory, so that what is checked, kept and run is the same.
#[derive(Debug, Clone)]
pub struct Build {
    /// The text of `plugin.toml`.
    pub text: String,
    /// What it says.
    pub manifest: Manifest,
    /// The component, unchecked but for its size.
    pub component: Bytes,
    /// Its digest.
    pub component_digest: Digest,
}

impl Build {
    pub(crate) fn parse(parts: Parts) -> Result<Self, Refusal> {
        let Parts { manifest: text, component } = parts;
        let manifest = Manifest::parse(&text)?;
        let component_digest = component_digest(&component);
        Ok(Self { text, manifest, component, component_digest })
    }

    /// Of manifest and component, whatever the operator configures of them.
    pub fn digest(&self) -> Digest {
        let manifest = serde_json::to_vec(&self.manifest).unwrap_or_default();
        Digest::of("chela 2026 build", &[&manifest, self.component_digest.as_bytes()])
    }

    /// As a source, to be loaded.
    pub fn source(&self) -> Source {
        Source::Embedded { manifest: self.text.clone(), component: self.component.clone() }
    }
}

/// Under which a component is kept and compiled.
pub(crate) fn component_digest(component: &[u8]) -> Digest {
    Digest::of("chela 2026 component", &[component])
}

/// What was read, unchecked but for its size.
pub(crate) struct Parts {
    pub(crate) manifest: String,
    pub(crate) component: Bytes,
}

impl Source {
    /// Reads everything into memory, so that what is checked is what is run. Blocks on the disk.
    pub(crate) fn read(&self, component_bytes_max: usize) -> Result<Parts, Refusal> {
        match self {
            Self::Folder(folder) => {
                let manifest = read_file(&within(folder, &folder.join("plugin.toml"))?, MANIFEST_BYTES_MAX)?;
                let manifest = String::from_utf8(manifest)
                    .map_err(|_| folder_refused(folder, "plugin.toml is not UTF-8 text".to_owned()))?;
                let component = read_file(&within(folder, &only_component(folder)?)?, component_bytes_max)?;
                Ok(Parts { manifest, component: component.into() })
            }
            Self::Embedded { manifest, component } => {
                if component.len() > component_bytes_max {
                    return Err(Refusal::TooLarge {
                        what: "component".into(),
                        limit_bytes: component_bytes_max as u64,
                    });
                }
                Ok(Parts { manifest: manifest.clone(), component: component.clone() })
            }
        }
    }
}

fn only_component(folder: &Path) -> Result<PathBuf, Refusal> {
    let failed = |error: std::io::Error| folder_refused(folder, error.to_string());
    let mut found = None;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") && found.replace(path).is_some() {
            return Err(folder_refused(folder, "holds more than one `*.wasm`".to_owned()));
        }
    }
    found.ok_or_else(|| folder_refused(folder, "holds no `*.wasm`".to_owned()))
}

/// The real file behind a name. A link that leads out of the folder is refused: whoever may write a name there would
/// choose what else this host reads.
fn within(folder: &Path, path: &Path) -> Result<PathBuf, Refusal> {
    let real = |path: &Path| path.canonicalize().map_err(|error| folder_refused(path, error.to_string()));
    let file = real(path)?;
    if file.starts_with(real(folder)?) {
        Ok(file)
    } else {
        Err(folder_refused(path, "a link that leads out of the plugin's folder".to_owned()))
    }
}

fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let failed = |error: std::io::Error| folder_refused(path, error.to_string());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        let what = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Err(Refusal::TooLarge { what, limit_bytes: bytes_max as u64 });
    }
    Ok(bytes)
}

fn folder_refused(path: &Path, problem: String) -> Refusal {
    Refusal::Folder { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_in_the_folder() {
        use std::os::unix::fs::symlink;
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("plugin.toml"), "name = 1").unwrap();
        std::fs::write(elsewhere.path().join("a.wasm"), [0; 8]).unwrap();
        symlink(elsewhere.path().join("a.wasm"), folder.path().join("a.wasm")).unwrap();
        let source = Source::Folder(folder.path().to_owned());
        match source.read(8) {
            Err(error) => assert!(error.to_string().contains("leads out"), "{error}"),
            Ok(_) => panic!("read"),
        }
        std::fs::write(folder.path().join("target"), [0; 8]).unwrap();
        std::fs::remove_file(folder.path().join("a.wasm")).unwrap();
        symlink("target", folder.path().join("a.wasm")).unwrap();
        assert!(source.read(8).is_ok(), "a link within the folder is a file's other name");
    }

    #[test]
    fn a_folder_holds_one_manifest_and_one_component() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::Folder(folder.path().to_owned());
        let refused = |part: &str| match source.read(8) {
            Err(error) => assert!(error.to_string().contains(part), "{error}"),
            Ok(_) => panic!("read"),
        };
        refused("plugin.toml");
        std::fs::write(folder.path().join("plugin.toml"), "name = 1").unwrap();
        refused("no `*.wasm`");
        std::fs::write(folder.path().join("a.wasm"), [0; 9]).unwrap();
        refused("8 bytes");
        std::fs::write(folder.path().join("a.wasm"), [0; 8]).unwrap();
        assert_eq!(source.read(8).map(|read| read.component.len()).ok(), Some(8));
        std::fs::write(folder.path().join("b.wasm"), [0; 8]).unwrap();
        refused("more than one");
    }
}
