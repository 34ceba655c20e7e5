//! The bounded run of every fuzz target: all kept inputs, then mutations of them. The same each time, unless
//! `CHELA_FUZZ_SEED` says otherwise; `CHELA_FUZZ_TIMES` runs a multiple of the mutations.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chela_fuzz::mutation::Mutator;
use chela_fuzz::{Reach, TARGETS, Target, corpus};

const SEED: u64 = 2_026;
/// All kept inputs together, and the largest.
const CORPUS_BYTES_MAX: usize = 1 << 20;
const INPUT_BYTES_MAX: usize = 64 << 10;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Drives a target; where something does not hold, the input is left in a file.
fn drive(target: &Target, input: &[u8], which: &str) -> Reach {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|panic| {
        let path = std::env::temp_dir().join(format!("chela-fuzz-{}-{which}", target.name));
        std::fs::write(&path, input).expect("a file");
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panics");
        panic!("{} on {which}, which is now {}: {said}", target.name, path.display());
    })
}

fn smoke(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let kept = corpus::kept(name).expect("a corpus");
    let mut reached: BTreeMap<Reach, usize> = BTreeMap::new();
    for (name, input) in &kept {
        *reached.entry(drive(target, input, name)).or_default() += 1;
    }
    // A corpus of which nothing is taken, or nothing refused, tests no more than how bytes are read.
    for wanted in [Reach::Refused, Reach::Taken] {
        assert!(reached.contains_key(&wanted), "{name}: of {} kept inputs none is {wanted:?}", kept.len());
    }
    let seed = number("CHELA_FUZZ_SEED", SEED);
    let mutations = target.mutations as u64 * number("CHELA_FUZZ_TIMES", 1);
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(seed, name);
    let mut reached: BTreeMap<Reach, usize> = BTreeMap::new();
    for mutation in 0..mutations {
        let input = mutator.mutated(&inputs);
        *reached.entry(drive(target, &input, &format!("{seed}-{mutation}"))).or_default() += 1;
    }
    println!("{name}: {} kept, {mutations} mutations of seed {seed}: {reached:?}", inputs.len());
}

macro_rules! smoke {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert_eq!(run.as_slice(), TARGETS.map(|target| target.name));
        }
    };
}

smoke!(
    loader, manifest, worker, compiler, router, agent, inbound, outbound, webhook, asked, requests, chat,
    responses, messages
);

#[test]
fn every_target_has_a_binary_and_every_folder_a_target() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for target in &TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "{} in fuzz/Cargo.toml",
            target.name
        );
    }
    for entry in std::fs::read_dir(corpus::folder("")).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_target = TARGETS.iter().any(|target| target.name == name);
        assert!(is_target || !path.is_dir(), "{name} is no target");
    }
}

#[test]
fn the_corpus_is_small() {
    let mut all = 0;
    for target in &TARGETS {
        for (name, input) in corpus::kept(target.name).expect("a corpus") {
            assert!(input.len() <= INPUT_BYTES_MAX, "{}/{name} has {} bytes", target.name, input.len());
            all += input.len();
        }
    }
    assert!(all <= CORPUS_BYTES_MAX, "{all} bytes");
}

/// `CHELA_WRITE_CORPUS=1 cargo test --release --workspace --test smoke made` writes it.
#[test]
fn what_code_makes_is_what_is_kept() {
    if std::env::var_os("CHELA_WRITE_CORPUS").is_some() {
        corpus::write().expect("a disk");
    }
    for (target, name, bytes) in corpus::made() {
        let path = corpus::folder(target).join(&name);
        assert_eq!(std::fs::read(&path).ok(), Some(bytes), "{}: see above how it is written", path.display());
    }
}
