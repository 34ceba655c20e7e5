//! The command line `chela`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What one thread allocates another frees here all day: the workers hand what calls leave behind to the ledger's writer.
/// The C library's allocator has the threads wait for each other then, a tenth of a model call's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    chela_server::cli::main()
}
