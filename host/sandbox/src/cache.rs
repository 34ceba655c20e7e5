//! Compiled plugins on disk, each bound by a MAC to what it was compiled from.
//!
//! A compiled file is native code that this process will run. So it is never loaded unless the host itself filed it:
//! a keyed blake3 hash covers the engine's fingerprint, the component, the configuration and the code, with a key
//! that only this user can read. The bytes are read once into memory, checked there and loaded from there, so that
//! nothing can change in between.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const MAGIC: &[u8; 16] = b"chela-artefact-1";
const KEY_FILE: &str = "key";
const MAC_BYTES: usize = 32;
const EXTENSION: &str = "compiled";

/// What went wrong with the folder. A file that does not pass is no error: it is compiled again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("the plugin cache {}: {tried}", path.display())]
    Io { path: PathBuf, tried: &'static str, source: std::io::Error },
    #[error("the key {} can be read or written by others; give it mode 0600 and an owner of this host, or remove it", .0.display())]
    KeyIsPublic(PathBuf),
    #[error("the key {} is not 32 bytes long; remove it, and the plugins are compiled again", .0.display())]
    KeyIsBroken(PathBuf),
}

/// What an artefact was made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The engine's version and settings.
    pub(crate) engine: &'a [u8; 32],
    /// Digest of the component.
    pub(crate) component: &'a [u8; 32],
    /// Digest of the configuration that `init` saw, and of how it was run.
    pub(crate) config: &'a [u8; 32],
}

/// The folder of compiled plugins.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
    bytes_max: u64,
    artefact_bytes_max: u64,
}

impl Cache {
    /// Opens the folder, and makes it and its key if they are not there.
    pub(crate) fn open(folder: &Path, bytes_max: u64, artefact_bytes_max: u64) -> Result<Self, CacheError> {
        let io = |tried| move |source| CacheError::Io { path: folder.to_owned(), tried, source };
        std::fs::create_dir_all(folder).map_err(io("make the folder"))?;
        let key = read_or_make_key(folder)?;
        Ok(Self { folder: folder.to_owned(), key, bytes_max, artefact_bytes_max })
    }

    /// The artefact made from `origin`, if there is one whose MAC holds. One that does not hold is removed.
    pub(crate) fn get(&self, origin: Origin<'_>) -> Option<Vec<u8>> {
        let path = self.path(origin);
        let mut file = File::open(&path).ok()?;
        let mut bytes = Vec::new();
        let bound = self.artefact_bytes_max.saturating_add((MAGIC.len() + MAC_BYTES) as u64);
        (&mut file).take(bound + 1).read_to_end(&mut bytes).ok()?;
        let Some(artefact) = self.verified(origin, &bytes) else {
            tracing::warn!(path = %path.display(), "a compiled plugin does not carry this host's MAC; it is removed and compiled again");
            let _ = std::fs::remove_file(&path);
            return None;
        };
        let _ = file.set_modified(SystemTime::now()); // last use, for eviction
        Some(artefact)
    }

    /// Files an artefact that this host's own compiler made, and forgets the least recently used above the bound.
    pub(crate) fn put(&self, origin: Origin<'_>, artefact: &[u8]) -> Result<(), CacheError> {
        let path = self.path(origin);
        let io = |tried| {
            let path = path.clone();
            move |source| CacheError::Io { path, tried, source }
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(io("make a file"))?;
        let mac = self.mac(origin, artefact);
        let parts: [&[u8]; 3] = [MAGIC, mac.as_bytes(), artefact];
        parts.iter().try_for_each(|part| file.write_all(part)).map_err(io("write a file"))?;
        file.persist(&path).map_err(|error| io("name a file")(error.error))?;
        self.evict(&path);
        Ok(())
    }

    fn verified(&self, origin: Origin<'_>, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mac, artefact) = bytes.strip_prefix(MAGIC)?.split_at_checked(MAC_BYTES)?;
        let mac = blake3::Hash::from_bytes(mac.try_into().ok()?);
        (self.mac(origin, artefact) == mac).then(|| artefact.to_vec()) // blake3 compares in constant time
    }

    fn mac(&self, origin: Origin<'_>, artefact: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(origin.engine).update(origin.component).update(origin.config);
        hasher.update(artefact).finalize() // the parts before are of fixed length: no two inputs collide
    }

    fn path(&self, origin: Origin<'_>) -> PathBuf {
        let mut name = blake3::Hasher::new();
        name.update(origin.engine).update(origin.component).update(origin.config);
        self.folder.join(name.finalize().to_hex().as_str()).with_extension(EXTENSION)
    }

    /// Best effort: a file that cannot be listed or removed is left for the next time.
    fn evict(&self, newest: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let compiled = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut files: Vec<(SystemTime, u64, PathBuf)> = compiled
            .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION) && path != newest)
            .filter_map(|path| path.metadata().ok().and_then(|m| Some((m.modified().ok()?, m.len(), path))))
            .collect();
        files.sort();
        let newest_bytes = newest.metadata().map_or(0, |metadata| metadata.len());
        let mut total: u64 = newest_bytes + files.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, bytes, path) in files {
            if total <= self.bytes_max {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                total = total.saturating_sub(bytes);
            }
        }
    }
}

fn read_or_make_key(folder: &Path) -> Result<[u8; 32], CacheError> {
    let path = folder.join(KEY_FILE);
    let io = |tried| {
        let path = path.clone();
        move |source| CacheError::Io { path, tried, source }
    };
    match OpenOptions::new().read(true).open(&path) {
        Ok(file) => read_key(file, &path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            // Written whole before it gets its name: a second host on the same folder reads all of it or none.
            let mut file = tempfile::Builder::new()
                .permissions(std::fs::Permissions::from_mode(0o600))
                .tempfile_in(folder)
                .map_err(io("make the key"))?;
            file.write_all(&key).map_err(io("write the key"))?;
            file.as_file().sync_all().map_err(io("write the key"))?;
            match file.persist_noclobber(&path) {
                Ok(_) => {
                    // The name too: after a crash there is the whole key or none, never an empty file of its name.
                    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("name the key"))?;
                    Ok(key)
                }
                Err(_) => read_key(
                    OpenOptions::new().read(true).mode(0o600).open(&path).map_err(io("open the key"))?,
                    &path,
                ),
            }
        }
        Err(error) => Err(io("open the key")(error)),
    }
}

fn read_key(mut file: File, path: &Path) -> Result<[u8; 32], CacheError> {
    let io = |source| CacheError::Io { path: path.to_owned(), tried: "read the key", source };
    let metadata = file.metadata().map_err(io)?;
    if metadata.permissions().mode() & 0o077 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(CacheError::KeyIsPublic(path.to_owned()));
    }
    let mut key = Vec::new();
    (&mut file).take(33).read_to_end(&mut key).map_err(io)?;
    key.try_into().map_err(|_| CacheError::KeyIsBroken(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'static> = Origin { engine: &[1; 32], component: &[2; 32], config: &[3; 32] };

    fn open(folder: &Path) -> Cache {
        Cache::open(folder, 1 << 20, 1 << 20).unwrap()
    }

    fn only_file(folder: &Path) -> PathBuf {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some()).last().unwrap()
    }

    #[test]
    fn what_was_filed_comes_back_also_to_the_next_host() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).put(ORIGIN, b"code").unwrap();
        assert_eq!(open(folder.path()).get(ORIGIN).unwrap(), b"code");
    }

    #[test]
    fn every_part_of_the_origin_counts() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        cache.put(ORIGIN, b"code").unwrap();
        for other in [
            Origin { engine: &[9; 32], ..ORIGIN },
            Origin { component: &[9; 32], ..ORIGIN },
            Origin { config: &[9; 32], ..ORIGIN },
        ] {
            assert_eq!(cache.get(other), None);
            std::fs::rename(only_file(folder.path()), cache.path(other)).unwrap();
            assert_eq!(cache.get(other), None, "renaming does not make it another's");
            cache.put(ORIGIN, b"code").unwrap();
        }
    }

    #[test]
    fn each_tampered_byte_is_noticed_and_the_file_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path());
        cache.put(ORIGIN, b"code").unwrap();
        let path = only_file(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            *bytes.get_mut(at).unwrap() ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(cache.get(ORIGIN), None, "byte {at}");
            assert!(!path.exists());
        }
        std::fs::write(&path, whole.get(..20).unwrap()).unwrap();
        assert_eq!(cache.get(ORIGIN), None, "truncated");
    }

    #[test]
    fn another_hosts_file_is_not_loaded() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        open(theirs.path()).put(ORIGIN, b"evil").unwrap();
        let cache = open(ours.path());
        std::fs::copy(only_file(theirs.path()), cache.path(ORIGIN)).unwrap();
        assert_eq!(cache.get(ORIGIN), None);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path());
        let key = folder.path().join(KEY_FILE);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Cache::open(folder.path(), 1, 1), Err(CacheError::KeyIsPublic(_))));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&key, b"short").unwrap();
        assert!(matches!(Cache::open(folder.path(), 1, 1), Err(CacheError::KeyIsBroken(_))));
    }

    #[test]
    fn the_folder_stays_within_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 200, 1 << 20).unwrap();
        for engine in 0..5 {
            cache.put(Origin { engine: &[engine; 32], ..ORIGIN }, &[0; 50]).unwrap();
        }
        let kept = std::fs::read_dir(folder.path()).unwrap().count() - 1;
        assert_eq!(kept, 2, "each is 98 bytes");
        assert!(cache.get(Origin { engine: &[4; 32], ..ORIGIN }).is_some(), "the newest stays");
    }
}
