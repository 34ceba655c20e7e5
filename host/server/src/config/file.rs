//! Files that others write: read without waiting for anybody, up to a limit.
//!
//! What was opened is looked at, and not its name: between a look and an opening another thing can be put there, and a
//! pipe that nobody writes into would be waited for without end.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::resolve::reason;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The system's word.
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("not a file")]
    NotAFile,
    /// Longer than it may be.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
}

/// Everything in a file.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    read_with(path, bytes_max, OFlags::NONBLOCK)
}

/// The same for a name that may not be a link.
pub(crate) fn read_no_link(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    read_with(path, bytes_max, OFlags::NONBLOCK | OFlags::NOFOLLOW)
}

fn read_with(path: &Path, bytes_max: u64, flags: OFlags) -> Result<Vec<u8>, Unread> {
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Unread::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Unread::TooLarge(bytes_max));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_are_read_and_up_to_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "12345678").unwrap();
        symlink(at("a"), at("link")).unwrap();
        assert_eq!(read(&at("a"), 8).unwrap(), b"12345678");
        assert_eq!(read(&at("link"), 8).unwrap(), b"12345678");
        assert!(matches!(read(&at("a"), 7), Err(Unread::TooLarge(7))));
        assert!(matches!(read(folder.path(), 8), Err(Unread::NotAFile)));
        assert!(matches!(read_no_link(&at("link"), 8), Err(Unread::Io(_))));
        assert_eq!(read(&at("none"), 8).unwrap_err().to_string(), "not found");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pipe_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_bits_truncate(0o600), 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(read(&pipe, 8)));
        let told = told.recv_timeout(std::time::Duration::from_secs(30)).expect("it is not waited for");
        assert!(matches!(told, Err(Unread::NotAFile)), "{told:?}");
    }
}
