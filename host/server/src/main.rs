//! The command line `chela`.

use std::process::ExitCode;

fn main() -> ExitCode {
    chela_server::cli::main()
}
