//! Whole plugins: loaded through a real child process, called, limited, refused.
//!
//! All of it twice: calls in this process, and in workers. Without the standard harness, because the children that prepare
//! and run plugins are this very program with an argument, as they are in the product. `cargo test -p chela-sandbox --test plugins [part of a name]`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a test program")]

mod bounds;
mod calls;
mod escape;
mod loads;
mod rig;

use chela_sandbox::Level;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match argument.as_str() {
        rig::CHILD => return chela_sandbox::compiler::main(),
        rig::WORKER => return rig::worker(),
        rig::ESCAPE => return escape::attack(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tests: Vec<rig::Test> = calls::tests()
        .into_iter()
        .chain(bounds::tests())
        .chain(loads::tests())
        .chain(escape::tests())
        .collect();
    let mut failed = Vec::new();
    for level in [Level::InProcess, Level::Worker] {
        rig::run_in(level);
        for (name, test) in
            tests.iter().filter(|(name, _)| argument.starts_with('-') || name.contains(&argument))
        {
            let outcome = runtime.block_on(async { tokio::spawn(test()).await });
            println!("test {name} ({level:?}) ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
            if outcome.is_err() {
                failed.push((name, level));
            }
        }
    }
    println!("{}", if failed.is_empty() { "all passed".to_owned() } else { format!("failed: {failed:?}") });
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
