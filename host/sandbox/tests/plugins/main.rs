//! Whole plugins: loaded through a real child process, called, limited, refused.
//!
//! Without the standard harness, because the child that prepares plugins is this very program with an argument, as
//! it is in the product. `cargo test -p chela-sandbox --test plugins [part of a name]`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a test program")]

mod calls;
mod loads;
mod rig;

use std::process::ExitCode;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == rig::CHILD {
        return chela_sandbox::compiler::main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tests: Vec<rig::Test> = calls::tests().into_iter().chain(loads::tests()).collect();
    let mut failed = Vec::new();
    for (name, test) in
        tests.into_iter().filter(|(name, _)| argument.starts_with('-') || name.contains(&argument))
    {
        let outcome = runtime.block_on(async { tokio::spawn(test()).await });
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!("{}", if failed.is_empty() { "all passed".to_owned() } else { format!("failed: {failed:?}") });
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
