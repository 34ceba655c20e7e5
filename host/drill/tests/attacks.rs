//! Each hostile guest ends as it must, at both levels of isolation; and a drill that has something to find finds it.
//!
//! Without the standard harness, because the children that prepare and run plugins are this very program with an argument,
//! as they are in the product, and because memory is measured for the whole process: one drill at a time.
//! `cargo test -p chela-drill --test attacks [part of a name]`; `attacks --tell` prints each verdict, and with
//! `CHELA_WRITE_REFERENCE` the outcomes are written into the guide.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a test program")]

use chela_drill::{Attack, Drill, Ground, KindLimits, Labels, Verdict};
use chela_sandbox::{Compiler, Isolation, Level, Limits};
use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COMPILER: &str = "compile-plugin";
const WORKER: &str = "run-plugin";
const LEVELS: [Level; 2] = [Level::InProcess, Level::Worker];

/// Limits that are soon reached: the drill ends in the time of a test.
const LIMITS: Limits = Limits {
    memory_bytes: 16 << 20,
    deadline: Duration::from_millis(1_500),
    cpu: Duration::from_millis(400),
    host_calls: 50,
    output_bytes: 1 << 20,
    ..Limits::STANDARD
};
/// A guest in Rust asks for more at its start.
const LIMITS_OF_RUST: Limits = Limits { memory_bytes: 32 << 20, ..LIMITS };
/// What never ends loading, and when it is stopped; all others may take as long as a busy machine needs.
const ENDLESS: [&str; 4] = ["compile-bomb", "nested", "init-spin", "start-spin"];
const ENDLESS_WALL: Duration = Duration::from_secs(3);

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()> + Send>>);

const TESTS: [Test; 4] = [
    ("every_attack_is_contained_at_both_levels", || Box::pin(every_attack_is_contained_at_both_levels())),
    ("a_limit_that_was_lifted_is_found", || Box::pin(a_limit_that_was_lifted_is_found())),
    ("a_way_out_that_was_opened_is_found", || Box::pin(a_way_out_that_was_opened_is_found())),
    ("many_calls_leave_nothing_behind", || Box::pin(many_calls_leave_nothing_behind())),
];

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        COMPILER => return chela_sandbox::compiler::main(),
        WORKER => return chela_engine::worker::main(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut failed = Vec::new();
    for (name, test) in TESTS.iter().filter(|(name, _)| argument.starts_with('-') || name.contains(&argument))
    {
        let began = Instant::now();
        let outcome = runtime.block_on(async { tokio::spawn(test()).await });
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", began.elapsed().as_millis());
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!("{}", if failed.is_empty() { "all passed".to_owned() } else { format!("failed: {failed:?}") });
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ground(folder: &Path) -> Ground {
    let program = std::env::current_exe().unwrap();
    let compiler = Compiler::new(&program, [COMPILER]);
    let isolation = Isolation::new(&program, [WORKER]);
    Ground {
        sandbox: chela_sandbox::Config::new(folder.join("plugins"), compiler, isolation),
        egress: chela_egress::Config::standard(),
        limits: KindLimits { router: LIMITS, agent: LIMITS_OF_RUST, channel: LIMITS_OF_RUST },
        folder: folder.to_owned(),
    }
}

async fn begun(ground: Ground, levels: &[Level]) -> Arc<Drill> {
    Drill::begin(ground, levels, Labels::install()).await.unwrap()
}

fn attack(name: &str) -> &'static Attack {
    chela_drill::find(name).unwrap_or_else(|| panic!("no attack is called {name}"))
}

fn holes(verdicts: &[Verdict]) -> Vec<String> {
    let holes = verdicts.iter().filter(|verdict| !verdict.contained);
    holes.map(line).collect()
}

fn line(verdict: &Verdict) -> String {
    let cost = verdict.call.unwrap_or(verdict.load);
    format!(
        "{} ({:?}): {} in {} ms, host {:?}, child {:?}; {:?}; {}",
        verdict.attack,
        verdict.isolation,
        verdict.ended,
        cost.ms,
        cost.host_bytes.map(|bytes| bytes >> 20),
        cost.child_bytes.map(|bytes| bytes >> 20),
        verdict.against,
        verdict.said
    )
}

async fn every_attack_is_contained_at_both_levels() {
    let tells = std::env::args().any(|argument| argument == "--tell");
    let folder = tempfile::tempdir().unwrap();
    let drill = begun(ground(folder.path()), &LEVELS).await;
    let mut verdicts = Vec::new();
    let aside = tempfile::tempdir().unwrap();
    let mut impatient = ground(aside.path());
    impatient.sandbox.compiler.wall = ENDLESS_WALL;
    let impatient = begun(impatient, &LEVELS).await;
    for level in LEVELS {
        for attack in chela_drill::all() {
            let drill = if ENDLESS.contains(&attack.name) { &impatient } else { &drill };
            let verdict = drill.try_one(attack, level).await;
            if tells {
                println!("{}", line(&verdict));
            }
            verdicts.push(verdict);
        }
    }
    assert_eq!(holes(&verdicts), Vec::<String>::new());
    if std::env::var_os("CHELA_WRITE_REFERENCE").is_some() {
        write_table(&verdicts);
    }
    // Not everything ends in the same way: a drill that refuses all guests would find no hole either.
    let ends: BTreeSet<&str> = verdicts.iter().map(|verdict| &*verdict.ended).collect();
    for end in [
        "answered, harmless",
        "trap",
        "limit: memory",
        "limit: handle",
        "limit: output",
        "refused: import",
        "refused: preparation",
        "forged",
    ] {
        assert!(ends.contains(end), "{end}: {ends:?}");
    }
}

/// Writes the outcomes into the guide, in the place of those that stand there.
fn write_table(verdicts: &[Verdict]) {
    const BEGINS: &str = "|---|---|---|---|\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGINS).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let (here, there) = verdicts.split_at(verdicts.len() / 2);
    let row = |(here, there): (&Verdict, &Verdict)| {
        format!("| `{}` | {} | {} | {} |\n", here.attack, here.tries, here.ended, there.ended)
    };
    let rows: String = here.iter().zip(there).map(row).collect();
    std::fs::write(&path, format!("{before}{BEGINS}{rows}\n{after}")).unwrap();
}

async fn a_limit_that_was_lifted_is_found() {
    for level in LEVELS {
        let folder = tempfile::tempdir().unwrap();
        let mut ground = ground(folder.path());
        ground.limits.router.host_calls = u32::MAX;
        let drill = begun(ground, &[level]).await;
        let verdict = drill.try_one(attack("host-ping-pong"), level).await;
        assert!(!verdict.contained, "{verdict:?}");
        assert!(verdict.against.iter().any(|why| why.starts_with("it ended with")), "{verdict:?}");
        assert!(drill.try_one(attack("trap"), level).await.contained, "the others are as they were");
    }
}

async fn a_way_out_that_was_opened_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = ground(folder.path());
    ground.egress.allow_loopback = true;
    let drill = begun(ground, &[Level::InProcess]).await;
    let verdict = drill.try_one(attack("to-this-machine-octal"), Level::InProcess).await;
    assert!(!verdict.contained, "{verdict:?}");
    assert!(verdict.against.iter().any(|why| why.contains("did not end with the word")), "{verdict:?}");
}

async fn many_calls_leave_nothing_behind() {
    const CALLS: u64 = 20_000;
    /// Above what is taken once: caches, the store's pages, the allocator's own.
    const GROWTH_BYTES_MAX: u64 = 48 << 20;
    const DESCRIPTORS_MAX: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let drill = begun(ground(folder.path()), &LEVELS).await;
    for level in LEVELS {
        let soak = drill.soak(CALLS / 2, level, |_| {}).await.unwrap();
        assert_eq!((soak.wrong, soak.hostile, soak.marks.len()), (0, CALLS / 20, 10), "{soak:?}");
        assert!(soak.growth_bytes().unwrap() < GROWTH_BYTES_MAX, "{soak:?}");
        assert!(soak.more_descriptors().unwrap() <= DESCRIPTORS_MAX, "{soak:?}");
    }
}
