//! The released program as a child process: started, watched, killed, started again.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use chela_egress::Egress;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use url::Url;

use crate::outside::{PARTNER_SECRET, PROVIDER_KEY, SLACK_SECRET, SLACK_TOKEN, loopback};
use crate::wait::eventually;

/// The program `chela`, beside this test's own executable.
///
/// # Panics
/// If it is not built, with the command that builds it.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = folder.join("chela");
    assert!(
        program.is_file(),
        "{} is not there: build the whole workspace first, with `cargo build --release --workspace`",
        program.display()
    );
    program
}

/// Processes that run plugins for hosts of this test program.
pub fn workers() -> Vec<Pid> {
    let own = format!("PPid:\t{}", std::process::id());
    let is_one = |pid: &i32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        read("status").lines().any(|line| line == own)
            && read("cmdline").split('\0').any(|word| word == chela_server::cli::WORKER)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    numbers.filter(is_one).filter_map(Pid::from_raw).collect()
}

/// An address of this machine that nobody listens on. Below the ephemeral ports on purpose: a sender that calls
/// a host that is down could otherwise be given the host's own port, and be connected to itself.
pub fn free_address() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// A folder with a configuration, and the program that serves it.
#[derive(Debug)]
pub struct Process {
    folder: TempDir,
    /// Webhooks.
    pub public: SocketAddr,
    /// Operators.
    pub admin: SocketAddr,
    egress: Egress,
    child: Option<Child>,
    /// Put before the program, such as `strace` with its options.
    pub wrapper: Vec<String>,
}

impl Process {
    /// A folder whose `chela.toml` is `config` after addresses for `[server]`; nothing runs yet.
    pub fn prepare(config: impl FnOnce(&Path) -> String) -> Self {
        Self::prepare_with("", config)
    }

    /// The same with further keys of `[server]`.
    pub fn prepare_with(keys: &str, config: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (public, admin) = (free_address(), free_address());
        let server = format!(
            "[server]\npublic = \"{public}\"\nadmin = \"{admin}\"\nlog = \"json\"\n\
             rate_per_minute = 1000000\nrate_burst = 100000\n{keys}\n\n[store]\nurl = \"sqlite:data\"\n\n"
        );
        let config = format!("{server}{}", config(folder.path()));
        std::fs::write(folder.path().join("chela.toml"), config).unwrap();
        Self { folder, public, admin, egress: loopback(), child: None, wrapper: Vec::new() }
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The address of a channel.
    pub fn channel(&self, name: &str) -> Url {
        format!("http://{}/channels/{name}", self.public).parse().unwrap()
    }

    /// The program with arguments, in the folder, with the secrets in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.wrapper.clone();
        words.push(program().display().to_string());
        words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env("SLACK_SIGNING_SECRET", SLACK_SECRET)
            .env("SLACK_BOT_TOKEN", SLACK_TOKEN)
            .env("PARTNER_SECRET", PARTNER_SECRET)
            .env("PROVIDER_KEY", PROVIDER_KEY)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts `chela up`. Its log is appended to `log` in the folder.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        self.start_with(log);
    }

    /// The same with its log in another place.
    pub fn start_with(&mut self, errors: impl Into<Stdio>) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = self.command(&["up", "--config", "chela.toml"]);
        self.child = Some(command.stdout(Stdio::null()).stderr(errors).spawn().expect("chela starts"));
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) {
        let url: Url = format!("http://{}/readyz", self.public).parse().unwrap();
        let (egress, child) = (self.egress.clone(), self.child.as_mut().expect("it was started"));
        let log = self.folder.path().join("log");
        eventually("chela is ready", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("chela ended with {status}:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            let request = chela_egress::Request::new(http::Method::GET, url.clone(), "");
            egress.send(request).await.is_ok_and(|response| response.status.is_success())
        })
        .await;
    }

    /// `kill -9`, and waits until the process is gone.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("it can be killed");
    }

    /// SIGTERM, and waits until it has drained and ended; true if it said that all went well.
    pub async fn terminate(&mut self) -> bool {
        self.tell_to_stop();
        self.ended().await
    }

    /// Its number while it runs.
    pub fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("it runs");
        child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs")
    }

    /// SIGTERM.
    pub fn tell_to_stop(&self) {
        kill_process(self.pid(), Signal::TERM).expect("it can be told to stop");
    }

    /// Waits until it has ended; true if it said that all went well.
    pub async fn ended(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        child.wait().await.expect("it ends").success()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
