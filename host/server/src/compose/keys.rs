//! Keys that the host makes for itself and keeps in its data folder, readable by its own user alone.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::SecretString;

use super::Error;

/// Longest key file that is read.
const KEY_BYTES_MAX: u64 = 4_096;

/// The key of the web chat's sessions: it outlives a restart, so that conversations do.
pub(super) fn session_key(folder: &Path) -> Result<[u8; 32], Error> {
    let path = folder.join("session.key");
    let text = kept(&path, || hex::encode(rand::random::<[u8; 32]>()))?;
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key).map_err(|_| Error::Key(path))?;
    Ok(key)
}

/// The token of the admin listener.
pub(super) fn admin_token(folder: &Path) -> Result<SecretString, Error> {
    let path = folder.join("admin.token");
    let text = kept(&path, || hex::encode(rand::random::<[u8; 24]>()))?;
    match text.trim() {
        "" => Err(Error::Key(path)),
        token => Ok(token.into()),
    }
}

/// The file's text; made first if there is none.
fn kept(path: &Path, make: impl Fn() -> String) -> Result<String, Error> {
    let failed = |what| move |source| Error::File { what, path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(file) if file.len() > KEY_BYTES_MAX => return Err(Error::Key(path.to_owned())),
        Ok(_) => return fs::read_to_string(path).map_err(failed("read")),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("read")(error)),
        Err(_) => {}
    }
    // Written aside and renamed: a crash never leaves half a key.
    let text = make();
    let aside = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed("make"))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    fs::rename(&aside, path).map_err(failed("make"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let key = session_key(folder.path()).unwrap();
        assert_eq!(session_key(folder.path()).unwrap(), key);
        let mode = fs::metadata(folder.path().join("session.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = admin_token(folder.path()).unwrap();
        assert_eq!(token.expose_secret().len(), 48);
        assert_eq!(admin_token(folder.path()).unwrap().expose_secret(), token.expose_secret());
    }

    #[test]
    fn a_file_that_is_no_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("session.key"), "hello").unwrap();
        fs::write(folder.path().join("admin.token"), "\n").unwrap();
        assert!(matches!(session_key(folder.path()), Err(Error::Key(_))));
        assert!(matches!(admin_token(folder.path()), Err(Error::Key(_))));
        assert_eq!(fs::read_to_string(folder.path().join("session.key")).unwrap(), "hello");
    }
}
