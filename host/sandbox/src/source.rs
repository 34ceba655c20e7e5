//! Where a plugin comes from: a folder, or bytes that this program carries.

use crate::error::Refusal;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};
use crate::signature::{Provenance, SIGNATURE_BYTES_MAX, SIGNATURE_FILE, Signature};
use bytes::Bytes;
use chela_types::Digest;
use rustix::fs::{Dir, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a plugin comes from.
#[derive(Clone)]
pub enum Source {
    /// A folder with `plugin.toml`, exactly one `*.wasm`, and `plugin.sig` if it is signed.
    Folder(PathBuf),
    /// What the program carries.
    Embedded {
        /// The text of `plugin.toml`.
        manifest: String,
        /// The component.
        component: Bytes,
    },
    /// What was read before, and kept.
    Kept {
        /// The text of `plugin.toml`.
        manifest: String,
        /// The component.
        component: Bytes,
        /// Where it came from, as [`Provenance::text`] says.
        provenance: String,
    },
}

impl fmt::Debug for Source {
    /// The bytes of a component are nothing to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            Self::Embedded { component, .. } => write!(f, "Embedded({} bytes)", component.len()),
            Self::Kept { component, .. } => write!(f, "Kept({} bytes)", component.len()),
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
    /// Where both come from: a signature that does not hold is not read at all.
    pub provenance: Provenance,
}

impl Build {
    pub(crate) fn parse(parts: Parts) -> Result<Self, Refusal> {
        let Parts { manifest: text, component, provenance } = parts;
        let manifest = Manifest::parse(&text)?;
        let component_digest = component_digest(&component);
        Ok(Self { text, manifest, component, component_digest, provenance })
    }

    /// Of manifest and component, and of who signed them; whatever the operator configures of them.
    pub fn digest(&self) -> Digest {
        let manifest = serde_json::to_vec(&self.manifest).unwrap_or_default();
        let both: [&[u8]; 2] = [&manifest, self.component_digest.as_bytes()];
        match &self.provenance {
            Provenance::Signed(signature) => {
                let [manifest, component] = both;
                Digest::of("chela 2026 signed build", &[manifest, component, signature.text().as_bytes()])
            }
            Provenance::Builtin | Provenance::Unsigned => Digest::of("chela 2026 build", &both),
        }
    }

    /// As a source, to be loaded.
    pub fn source(&self) -> Source {
        Source::Kept {
            manifest: self.text.clone(),
            component: self.component.clone(),
            provenance: self.provenance.text(),
        }
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
    pub(crate) provenance: Provenance,
}

impl Source {
    /// What it holds, read into memory, without a signature that it may have: as something that is to be signed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn without_signature(&self, component_bytes_max: usize) -> Result<Self, Refusal> {
        let (manifest, component) = match self {
            Self::Folder(path) => {
                let folder = Folder::open(path)?;
                (folder.manifest()?, folder.component(component_bytes_max)?)
            }
            Self::Embedded { manifest, component } | Self::Kept { manifest, component, .. } => {
                (manifest.clone(), component.clone())
            }
        };
        Ok(Self::Kept { manifest, component, provenance: Provenance::Unsigned.text() })
    }

    /// Reads everything into memory, so that what is checked is what is run. Blocks on the disk.
    pub(crate) fn read(&self, component_bytes_max: usize) -> Result<Parts, Refusal> {
        match self {
            Self::Folder(path) => {
                let folder = Folder::open(path)?;
                let (manifest, component) = (folder.manifest()?, folder.component(component_bytes_max)?);
                let provenance =
                    match folder.read_if_there(OsStr::new(SIGNATURE_FILE), SIGNATURE_BYTES_MAX)? {
                        None => Provenance::Unsigned,
                        Some(text) => {
                            let text = String::from_utf8_lossy(&text);
                            Provenance::Signed(Signature::check(&text, &manifest, &component)?)
                        }
                    };
                Ok(Parts { manifest, component, provenance })
            }
            Self::Embedded { manifest, component } => {
                within(component, component_bytes_max)?;
                let (manifest, component) = (manifest.clone(), component.clone());
                Ok(Parts { manifest, component, provenance: Provenance::Builtin })
            }
            Self::Kept { manifest, component, provenance } => {
                within(component, component_bytes_max)?;
                let provenance = Provenance::of_kept(provenance, manifest, component)?;
                Ok(Parts { manifest: manifest.clone(), component: component.clone(), provenance })
            }
        }
    }
}

fn within(component: &[u8], limit: usize) -> Result<(), Refusal> {
    match component.len() <= limit {
        true => Ok(()),
        false => Err(Refusal::TooLarge { what: "component".into(), limit_bytes: limit as u64 }),
    }
}

/// A folder that was opened: whatever is put into its place, both files are read from this one.
struct Folder<'a> {
    path: &'a Path,
    opened: OwnedFd,
}

impl<'a> Folder<'a> {
    fn open(path: &'a Path) -> Result<Self, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let opened = opened.map_err(|error| folder_refused(path, io::Error::from(error).to_string()))?;
        Ok(Self { path, opened })
    }

    fn manifest(&self) -> Result<String, Refusal> {
        let text = self.read(OsStr::new("plugin.toml"), MANIFEST_BYTES_MAX)?;
        String::from_utf8(text)
            .map_err(|_| folder_refused(self.path, "plugin.toml is not UTF-8 text".to_owned()))
    }

    fn component(&self, bytes_max: usize) -> Result<Bytes, Refusal> {
        Ok(self.read(&self.only_component()?, bytes_max)?.into())
    }

    fn only_component(&self) -> Result<OsString, Refusal> {
        let failed = |error| folder_refused(self.path, io::Error::from(error).to_string());
        let mut found = None;
        for entry in Dir::read_from(&self.opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let is_component = Path::new(name).extension().is_some_and(|extension| extension == "wasm");
            if is_component && found.replace(name.to_owned()).is_some() {
                return Err(folder_refused(self.path, "holds more than one `*.wasm`".to_owned()));
            }
        }
        found.ok_or_else(|| folder_refused(self.path, "holds no `*.wasm`".to_owned()))
    }

    fn read(&self, name: &OsStr, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
        let absent = || folder_refused(&self.path.join(name), "no such file".to_owned());
        self.read_if_there(name, bytes_max)?.ok_or_else(absent)
    }

    fn read_if_there(&self, name: &OsStr, bytes_max: usize) -> Result<Option<Vec<u8>>, Refusal> {
        let path = self.path.join(name);
        let failed = |error: io::Error| folder_refused(&path, error.to_string());
        let file = match self.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > bytes_max {
            let what = name.to_string_lossy().into_owned();
            return Err(Refusal::TooLarge { what, limit_bytes: bytes_max as u64 });
        }
        Ok(Some(bytes))
    }

    /// A file in the folder. What was opened is looked at, and not its name, which may lead elsewhere the next moment.
    fn file(&self, name: &OsStr) -> io::Result<File> {
        // Without waiting: a pipe that nobody writes into would be waited for without end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(beneath(&self.opened, name, flags)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a file")),
        }
    }
}

/// Opens what lies in a folder. A link that leads out of it is refused: whoever may write a name there would choose what
/// else this host reads.
fn beneath(folder: &OwnedFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        use rustix::io::Errno;
        match openat2(folder, name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
        {
            Err(Errno::XDEV) => return Err(io::Error::other("a link that leads out of the plugin's folder")),
            // An old kernel, or a filter that does not know this call.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened.map_err(io::Error::from),
        }
    }
    match rustix::fs::openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => {
            Err(io::Error::other("a link, which this system cannot follow safely"))
        }
        opened => Ok(opened?),
    }
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

    /// Whoever opens a pipe waits until somebody writes into it.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_pipe_is_no_file_and_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("plugin.toml");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_bits_truncate(0o600), 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let source = Source::Folder(folder.path().to_owned());
        std::thread::spawn(move || tell.send(source.read(8).err().map(|error| error.to_string())));
        let told = told.recv_timeout(std::time::Duration::from_secs(30)).expect("it is not waited for");
        assert!(told.as_ref().is_some_and(|told| told.contains("not a file")), "{told:?}");
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
