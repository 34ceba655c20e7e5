//! Where a plugin comes from: a folder, or bytes that this program carries.

use crate::error::Refusal;
use crate::manifest::MANIFEST_BYTES_MAX;
use bytes::Bytes;
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
                let manifest = read_file(&folder.join("plugin.toml"), MANIFEST_BYTES_MAX)?;
                let manifest = String::from_utf8(manifest)
                    .map_err(|_| folder_refused(folder, "plugin.toml is not UTF-8 text".to_owned()))?;
                let component = read_file(&only_component(folder)?, component_bytes_max)?;
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
