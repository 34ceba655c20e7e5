//! Kills at exact steps: the kernel is asked to end the host as it enters one system call on one file.

use std::fmt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Build;

/// Which file a step touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    /// The component's, before it has its name.
    Part,
    /// The folder of components.
    Artefacts,
    /// The database's write-ahead log.
    Log,
}

/// A step of a swap: the `nth` call of this name on that file.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    file: File,
    /// As strace names it; `/` begins a pattern.
    call: &'static str,
    nth: u32,
}

/// From the first byte of a component to its name on the disk.
pub const FILE_STEPS: [Step; 5] = [
    Step { file: File::Part, call: "openat", nth: 1 },
    Step { file: File::Part, call: "write", nth: 1 },
    Step { file: File::Part, call: "fsync", nth: 1 },
    Step { file: File::Part, call: "/^rename", nth: 1 },
    Step { file: File::Artefacts, call: "fsync", nth: 1 },
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call: String = self.call.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        write!(f, "{call} of {:?}, no. {}", self.file, self.nth)
    }
}

impl Step {
    /// The nth write to the database's log.
    pub fn log_write(nth: u32) -> Self {
        Self { file: File::Log, call: "pwrite64", nth }
    }

    /// The nth sync of the database's log: one for each commit.
    pub fn log_sync(nth: u32) -> Self {
        Self { file: File::Log, call: "/^f(data)?sync$", nth }
    }

    /// Lies in wait for the host; ends by itself with it.
    ///
    /// # Panics
    /// If strace is missing.
    pub async fn lie_in_wait(&self, data: &Path, pid: Pid, build: Build) -> Child {
        let name = build.artefact();
        let files = match self.file {
            // Writes since the host's start are numbered.
            File::Part => (0..16).map(|n| format!("artefacts/{name}.{n}.part")).collect(),
            File::Artefacts => vec!["artefacts".to_owned()],
            File::Log => vec!["chela.db-wal".to_owned()],
        };
        // The host may name them from its own folder.
        let folders = [data.display().to_string(), "data".to_owned(), "./data".to_owned()];
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.as_raw_nonzero().to_string(), "-o", "/dev/null"]);
        for path in folders.iter().flat_map(|folder| files.iter().map(move |file| format!("{folder}/{file}")))
        {
            command.arg("-P").arg(path);
        }
        command.arg("-e").arg(format!("trace={}", self.call));
        command.arg("-e").arg(format!("inject={}:signal=SIGKILL:when={}", self.call, self.nth));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("strace is there: install it to see exact steps");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("strace attaches");
            if line.contains("attached") {
                // What it says further goes nowhere, and must not stop it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return child;
            }
        }
    }
}
