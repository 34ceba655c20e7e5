//! A worker: which kind of plugin it runs how.

use chela_sandbox::PluginKind;
use chela_sandbox::worker::{self, Remote};
use std::process::ExitCode;

use crate::agent::Agent;
use crate::channel::Channel;
use crate::router::Router;

/// Runs one plugin for a host: what the hidden subcommand of the binary calls.
pub fn main() -> ExitCode {
    worker::main(|kind, worker| match kind {
        PluginKind::Router => Box::pin(worker.serve::<Router<Remote>>()),
        PluginKind::Agent => Box::pin(worker.serve::<Agent<Remote>>()),
        PluginKind::Channel => Box::pin(worker.serve::<Channel>()),
    })
}
