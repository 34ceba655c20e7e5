//! An assumed escape: native code of an attacker's, within the walls of a worker. What it tries here, it tries without
//! them first, so that each attempt is known to work.

use crate::rig;
use chela_sandbox::worker::jail;
use chela_sandbox::{Level, Limits, Reason};
use chela_types::{Blame, Fault, Retry};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

rig::tests!(
    native_code_in_a_worker_reaches_no_file_no_network_and_no_other_process,
    a_worker_holds_nothing_but_its_socket,
    a_worker_that_is_killed_is_replaced,
    a_worker_that_ends_no_call_is_killed_and_replaced,
    a_spare_worker_that_answers_nobody_is_not_used,
);

/// What is there to be reached.
struct Targets {
    secret: PathBuf,
    folder: PathBuf,
    tcp: SocketAddr,
    socket: PathBuf,
    parent: i32,
}

impl Targets {
    fn arguments(&self) -> [String; 5] {
        let path = |path: &PathBuf| path.display().to_string();
        [
            path(&self.secret),
            path(&self.folder),
            self.tcp.to_string(),
            path(&self.socket),
            self.parent.to_string(),
        ]
    }

    fn of_arguments() -> Self {
        let argument = |n| std::env::args().nth(n).unwrap();
        Self {
            secret: argument(3).into(),
            folder: argument(4).into(),
            tcp: argument(5).parse().unwrap(),
            socket: argument(6).into(),
            parent: argument(7).parse().unwrap(),
        }
    }
}

type Attempt = (&'static str, fn(&Targets) -> bool);

const ATTEMPTS: [Attempt; 13] = [
    ("read a file", |it| std::fs::read(&it.secret).is_ok()),
    ("write a file", |it| File::create(it.folder.join("mine")).is_ok()),
    ("list a folder", |it| std::fs::read_dir(&it.folder).is_ok()),
    ("remove a file", |it| std::fs::remove_file(it.folder.join("victim")).is_ok()),
    ("read the host's memory", |it| File::open(format!("/proc/{}/mem", it.parent)).is_ok()),
    ("read the host's environment", |it| std::fs::read(format!("/proc/{}/environ", it.parent)).is_ok()),
    ("read the host's command line", |it| std::fs::read(format!("/proc/{}/cmdline", it.parent)).is_ok()),
    ("connect", |it| TcpStream::connect_timeout(&it.tcp, Duration::from_secs(5)).is_ok()),
    ("listen", |_| TcpListener::bind("127.0.0.1:0").is_ok()),
    ("send a datagram", |it| {
        UdpSocket::bind("127.0.0.1:0").is_ok_and(|it2| it2.send_to(b"x", it.tcp).is_ok())
    }),
    ("connect to a socket in a folder", |it| UnixStream::connect(&it.socket).is_ok()),
    ("start a program", |_| Command::new("/bin/true").status().is_ok_and(|status| status.success())),
    ("signal the host", |it| Pid::from_raw(it.parent).is_some_and(|pid| test_kill_process(pid).is_ok())),
];

/// What the attacker's code does: says of each attempt whether it got through. Behind the walls if it is told so.
pub(crate) fn attack() -> ExitCode {
    let targets = Targets::of_arguments();
    if std::env::args().nth(2).as_deref() == Some("behind") {
        let jailed = jail::shut(64).unwrap();
        jail::seal(1 << 30).unwrap();
        println!("lacks {:?}", jailed.lacks());
        println!("begin a thread: {}", std::thread::Builder::new().spawn(|| ()).is_ok());
    }
    for (name, attempt) in ATTEMPTS {
        println!("{name}: {}", attempt(&targets));
    }
    ExitCode::SUCCESS
}

fn attacked(targets: &Targets, walls: &str) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let ran = command.args([rig::ESCAPE, walls]).args(targets.arguments()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

async fn native_code_in_a_worker_reaches_no_file_no_network_and_no_other_process() {
    let folder = tempfile::tempdir().unwrap();
    let (tcp, socket) = (TcpListener::bind("127.0.0.1:0").unwrap(), folder.path().join("socket"));
    let _listens = UnixListener::bind(&socket).unwrap();
    let targets = Targets {
        secret: folder.path().join("secret"),
        folder: folder.path().to_owned(),
        tcp: tcp.local_addr().unwrap(),
        socket,
        parent: i32::try_from(std::process::id()).unwrap(),
    };
    let lay_out = || {
        std::fs::write(&targets.secret, "key").unwrap();
        std::fs::write(targets.folder.join("victim"), "").unwrap();
    };
    lay_out();
    let free: Vec<String> = ATTEMPTS.iter().map(|(name, _)| format!("{name}: true")).collect();
    assert_eq!(attacked(&targets, "before"), free, "each attempt works where there are no walls");
    lay_out();
    let _ = std::fs::remove_file(targets.folder.join("mine"));
    let denied = ATTEMPTS.iter().map(|(name, _)| format!("{name}: false"));
    let denied: Vec<String> =
        ["lacks None".to_owned(), "begin a thread: false".to_owned()].into_iter().chain(denied).collect();
    assert_eq!(attacked(&targets, "behind"), denied);
    assert!(!targets.folder.join("mine").exists() && targets.folder.join("victim").exists());
}

/// What the guest says to 0.
const ANSWER: u32 = 1_001;

/// Children of this process that are workers, by their number.
fn workers() -> Vec<i32> {
    let own = std::process::id().to_string();
    let is_worker = |pid: &i32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let parent =
            read("status").lines().find_map(|line| line.strip_prefix("PPid:").map(|it| it.trim().to_owned()));
        parent.as_ref() == Some(&own) && read("cmdline").split('\0').any(|word| word == rig::WORKER)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|it| it.file_name().to_str()?.parse().ok()).filter(is_worker).collect()
}

fn is_jailed(pid: &i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2")
}

async fn a_worker_holds_nothing_but_its_socket() {
    if rig::level() == Level::InProcess {
        return;
    }
    let rig = rig::rig();
    let plugin = rig.load(rig::doing(0)).await.unwrap();
    assert_eq!(rig::call(&plugin, 0).await.unwrap(), ANSWER);
    let all = workers();
    assert!(!all.is_empty());
    for pid in all {
        // A spare one may only just have been started.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_jailed(&pid) {
            assert!(Instant::now() < deadline, "{pid}");
            tokio::task::yield_now().await;
        }
        assert!(std::fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty());
        let open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .map(|file| file.display().to_string())
            .collect();
        let is_its_own = |file: &&String| {
            file.starts_with("socket:")
                || file.starts_with("pipe:")
                || file.starts_with("anon_inode:")
                || *file == "/dev/null"
                || file.ends_with("/pagemap")
                || file.starts_with("/memfd:wasm-memory-image")
        };
        let others: Vec<_> = open.iter().filter(|file| !is_its_own(file)).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

/// Sends a signal to every worker of this process: to the one that holds the plugin, and to the spare ones.
fn signal(signal: Signal) {
    workers().into_iter().filter_map(Pid::from_raw).for_each(|pid| {
        let _ = kill_process(pid, signal);
    });
}

async fn a_worker_that_is_killed_is_replaced() {
    if rig::level() == Level::InProcess {
        return;
    }
    let rig = rig::rig();
    let plugin = rig.load(rig::doing(0)).await.unwrap();
    let lent = rig::Lent::default();
    let waits = {
        let (plugin, lent) = (plugin.clone(), lent.clone());
        tokio::spawn(async move { rig::call_with(&plugin, rig::ASK_FOREVER, lent, rig::options(0)).await })
    };
    lent.waits.notified().await;
    signal(Signal::KILL);
    let error = waits.await.unwrap().unwrap_err();
    assert!(
        matches!(&*error.reason, Reason::Worker(_)) && error.to_string().contains("signal: 9"),
        "{error}"
    );
    assert_eq!((error.blame(), error.retry()), (Blame::Plugin, Retry::Later(Duration::ZERO)));
    assert_eq!(rig::call(&plugin, 0).await.unwrap(), ANSWER);
}

async fn a_worker_that_ends_no_call_is_killed_and_replaced() {
    if rig::level() == Level::InProcess {
        return;
    }
    let rig = rig::rig();
    let plugin = rig.limited(Limits { deadline: Duration::from_millis(200), ..Limits::STANDARD }).await;
    assert_eq!(rig::call(&plugin, 0).await.unwrap(), ANSWER);
    let stopped = workers();
    signal(Signal::STOP);
    let error = rig::call(&plugin, 0).await.unwrap_err();
    assert!(matches!(&*error.reason, Reason::Timeout(_)), "{error}");
    // All others are this test's too; a stopped one answers nobody.
    let deadline = Instant::now() + Duration::from_secs(60);
    while rig::call(&plugin, 0).await.ok() != Some(ANSWER) {
        assert!(Instant::now() < deadline, "it is not replaced");
    }
    assert!(workers().iter().any(|worker| !stopped.contains(worker)));
    signal(Signal::CONT);
}

async fn a_spare_worker_that_answers_nobody_is_not_used() {
    if rig::level() == Level::InProcess {
        return;
    }
    let rig = rig::rig();
    let mut loaded = vec![rig.load(rig::doing(0)).await.unwrap()];
    for how in [Signal::STOP, Signal::KILL] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while workers().iter().filter(|pid| is_jailed(pid)).count() <= loaded.len() {
            assert!(Instant::now() < deadline, "no spare one is started");
            tokio::task::yield_now().await;
        }
        // Those that hold a plugin as well: this is about the one that is taken next.
        signal(how);
        let next = rig.load(rig::doing(0)).await.unwrap();
        assert_eq!(rig::call(&next, 0).await.unwrap(), ANSWER);
        loaded.push(next);
    }
    signal(Signal::CONT);
}
