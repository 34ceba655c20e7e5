//! The rounds with real files: what is told at once, what a poll finds, and what is waited for.

use super::*;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::timeout;

/// Its end is a failure; nothing waits so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// No poll comes while a test runs.
const NEVER: Duration = Duration::from_secs(3_600);

/// Somebody who counts reloads, and may want other paths or another try.
#[derive(Clone)]
struct Counts {
    roots: Arc<Mutex<Arc<Roots>>>,
    poll: Duration,
    reloads: mpsc::UnboundedSender<Seen>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

/// What a reload leads to.
enum Answer {
    Done,
    Again,
    Other(Roots),
}

impl Reloads for Counts {
    fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.roots.lock())
    }

    fn poll(&self) -> Duration {
        self.poll
    }

    async fn reload(&self) -> bool {
        let answer = self.answers.lock().pop();
        let _ = self.reloads.send(Seen::at(&self.roots()));
        match answer {
            Some(Answer::Again) => false,
            Some(Answer::Other(roots)) => {
                *self.roots.lock() = Arc::new(roots);
                true
            }
            Some(Answer::Done) | None => true,
        }
    }
}

struct World {
    folder: TempDir,
    reloads: mpsc::UnboundedReceiver<Seen>,
    running: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

fn lay_out() -> (TempDir, Roots) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["p", "docs/deep", "data"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["chela.toml", "p/plugin.toml", "p/a.wasm", "docs/deep/a.md"] {
        fs::write(at(name), "first").unwrap();
    }
    let roots = Roots {
        files: BTreeSet::from([at("chela.toml")]),
        plugins: BTreeSet::from([at("p")]),
        documents: BTreeSet::from([at("docs")]),
        data: at("data"),
    };
    (folder, roots)
}

impl World {
    fn new(poll: Duration, answers: Vec<Answer>) -> Self {
        let (folder, roots) = lay_out();
        Self::of(folder, roots, (poll, answers))
    }

    fn of(folder: TempDir, roots: Roots, (poll, answers): (Duration, Vec<Answer>)) -> Self {
        let (tell, reloads) = mpsc::unbounded_channel();
        let known = Some(Seen::at(&roots));
        let answers = Arc::new(Mutex::new(answers));
        let counts = Counts { roots: Arc::new(Mutex::new(Arc::new(roots))), poll, reloads: tell, answers };
        let running = CancellationToken::new();
        tokio::spawn(watch(counts, known, running.clone()));
        Self { folder, reloads, running }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// The next reload; returns what its files looked like.
    async fn reloaded(&mut self) -> Seen {
        timeout(PATIENCE, self.reloads.recv()).await.expect("it is reloaded").unwrap()
    }
}

#[tokio::test]
async fn each_kind_of_change_is_told() {
    let mut world = World::new(NEVER, Vec::new());
    for (name, text) in [
        ("chela.toml", "second"),
        ("p/a.wasm", "second component"),
        ("docs/deep/a.md", "second text"),
        ("docs/new.md", "a new one"),
        ("p/plugin.toml", "second manifest"),
    ] {
        world.write(name, text);
        world.reloaded().await;
    }
    fs::create_dir(world.at("docs/other")).unwrap();
    world.write("docs/other/b.md", "in a new folder");
    world.reloaded().await;
}

#[tokio::test]
async fn an_editors_dance_is_one_change() {
    let mut world = World::new(NEVER, Vec::new());
    // As vim writes: the old one aside, a new one in its place, the old one away.
    fs::rename(world.at("chela.toml"), world.at("chela.toml~")).unwrap();
    world.write("chela.toml", "second");
    fs::remove_file(world.at("chela.toml~")).unwrap();
    world.reloaded().await;
    // As emacs and most others: a new one beside it, renamed over it.
    world.write("#chela.toml", "third");
    fs::rename(world.at("#chela.toml"), world.at("chela.toml")).unwrap();
    let last = world.reloaded().await;
    world.write("p/a.wasm", "last");
    let next = world.reloaded().await;
    assert_ne!(last, next, "each dance was one reload, and this one is another");
}

#[tokio::test]
async fn a_folder_that_is_swapped_is_watched_on() {
    let mut world = World::new(NEVER, Vec::new());
    for round in 0..3 {
        fs::create_dir(world.at("next")).unwrap();
        world.write("next/plugin.toml", "manifest");
        world.write("next/a.wasm", &"x".repeat(round + 10));
        fs::rename(world.at("p"), world.at(&format!("old-{round}"))).unwrap();
        fs::rename(world.at("next"), world.at("p")).unwrap();
        world.reloaded().await;
        world.write("p/a.wasm", &"y".repeat(round + 20));
        world.reloaded().await;
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_a_change() {
    let (folder, mut roots) = lay_out();
    let at = |name: &str| folder.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("plugin.toml"), name).unwrap();
        fs::write(at(name).join("a.wasm"), name).unwrap();
    }
    symlink(at("one"), at("current")).unwrap();
    roots.plugins = BTreeSet::from([at("current")]);
    let mut world = World::of(folder, roots, (NEVER, Vec::new()));
    symlink(world.at("two"), world.at("next")).unwrap();
    fs::rename(world.at("next"), world.at("current")).unwrap();
    world.reloaded().await;
    world.write("two/a.wasm", "another one");
    world.reloaded().await;
}

/// Whoever writes slowly is waited for, longer than for quiet: what is loaded is whole.
#[tokio::test]
async fn a_file_that_is_being_written_is_waited_for() {
    let mut world = World::new(NEVER, Vec::new());
    // From here on it is hints that are heard.
    world.write("chela.toml", "second");
    world.reloaded().await;
    let path = world.at("p/a.wasm");
    let writing = tokio::task::spawn_blocking(move || {
        let mut file = File::create(path).unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < QUIET_MAX + Duration::from_millis(300) {
            file.write_all(b"x").unwrap();
        }
    });
    let seen = world.reloaded().await;
    writing.await.unwrap();
    let roots = Roots { plugins: BTreeSet::from([world.at("p")]), ..Roots::default() };
    let whole = Seen::at(&roots);
    assert!(whole.agrees_with(&seen, &world.at("p/a.wasm")), "it was reloaded before it was whole");
}

/// A pause in the middle is not the end: half a text may be valid.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn whoever_pauses_while_he_writes_is_waited_for() {
    let mut world = World::new(NEVER, Vec::new());
    world.write("chela.toml", "second");
    world.reloaded().await;
    let path = world.at("p/a.wasm");
    let (tell, told) = std::sync::mpsc::channel();
    let writing = tokio::task::spawn_blocking(move || {
        let mut file = File::create(path).unwrap();
        file.write_all(b"the first half").unwrap();
        // Long enough for a reload, were it not waited for.
        let _ = told.recv_timeout(QUIET * 10);
        file.write_all(b", and the second").unwrap();
    });
    let seen = world.reloaded().await;
    let _ = tell.send(());
    writing.await.unwrap();
    let roots = Roots { plugins: BTreeSet::from([world.at("p")]), ..Roots::default() };
    assert!(Seen::at(&roots).agrees_with(&seen, &world.at("p/a.wasm")), "half of it was taken over");
}

/// Whoever never closes his file is waited for as long as for somebody who writes without a pause.
#[tokio::test]
async fn whoever_never_closes_his_file_holds_nothing_up_for_ever() {
    let mut world = World::new(NEVER, Vec::new());
    let mut file = File::create(world.at("p/a.wasm")).unwrap();
    file.write_all(b"and so on").unwrap();
    world.reloaded().await;
    drop(file);
}

#[tokio::test]
async fn a_poll_finds_what_nobody_told() {
    let (folder, roots) = lay_out();
    let (tell, mut reloads) = mpsc::unbounded_channel();
    let known = Some(Seen::at(&roots));
    let counts = Counts {
        roots: Arc::new(Mutex::new(Arc::new(roots))),
        poll: Duration::from_millis(20),
        reloads: tell,
        answers: Arc::default(),
    };
    let (_silent, hints) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let blind = Rounds { eyes: Eyes::default(), hints, early: None, stop };
    let running = tokio::spawn(blind.go(counts, known));
    fs::write(folder.path().join("chela.toml"), "second").unwrap();
    timeout(PATIENCE, reloads.recv()).await.expect("it is reloaded").unwrap();
    running.abort();
}

#[tokio::test]
async fn what_changed_before_the_first_round_is_seen() {
    let (folder, roots) = lay_out();
    let (tell, mut reloads) = mpsc::unbounded_channel();
    let known = Some(Seen::at(&roots));
    fs::write(folder.path().join("p/a.wasm"), "while the host began").unwrap();
    let counts = Counts {
        roots: Arc::new(Mutex::new(Arc::new(roots))),
        poll: NEVER,
        reloads: tell,
        answers: Arc::default(),
    };
    let running = CancellationToken::new();
    tokio::spawn(watch(counts, known, running.clone()));
    timeout(PATIENCE, reloads.recv()).await.expect("it is reloaded").unwrap();
    running.cancel();
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_does_not_is_left() {
    let poll = Duration::from_millis(20);
    let mut world = World::new(poll, vec![Answer::Done, Answer::Again, Answer::Again]);
    world.write("chela.toml", "second");
    for _ in 0..3 {
        world.reloaded().await;
    }
    world.write("chela.toml", "third one");
    world.reloaded().await;
    assert!(world.reloads.try_recv().is_err(), "nothing was reloaded without a reason");
}

#[tokio::test]
async fn other_paths_are_watched_from_then_on() {
    let (folder, roots) = lay_out();
    let later = folder.path().join("later");
    let mut other = roots.clone();
    other.plugins.insert(later.clone());
    let mut world = World::of(folder, roots, (NEVER, vec![Answer::Other(other)]));
    world.write("chela.toml", "second");
    world.reloaded().await;
    // The new paths may have changed since they were read.
    world.reloaded().await;
    fs::create_dir(&later).unwrap();
    world.reloaded().await;
    fs::write(Path::new(&later).join("a.wasm"), "it came").unwrap();
    world.reloaded().await;
}
