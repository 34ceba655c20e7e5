//! The command line: what was asked, done, and said in words. Exit codes: 0 done, 1 not done, 2 not understood.

mod args;
mod author;
mod bench;
mod budget;
mod cache;
mod chat;
mod check;
mod demo;
mod drill;
mod events;
mod ledger;
mod operator;
mod plugin;
mod reload;
mod replay;
mod socket;
mod status;
mod tier;
mod tour;
mod turn;
mod up;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Command;
pub use args::{COMPILER, Cli, WORKER};

use crate::turn::printable;

/// Widest page; more is hard to read.
const WIDTH_MAX: u16 = 110;

/// Why a command did not do what it was asked: a sentence, its causes, and what helps.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn std::error::Error + Send + Sync>,
    help: Option<String>,
}

impl Failure {
    /// A failure in words.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self { error: words.into().into(), help: None }
    }

    /// What helps.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// True if there is no data folder, or none in use: no host has run.
    pub(crate) fn is_of_no_store(&self) -> bool {
        let error = self.error.downcast_ref::<chela_store::Error>();
        matches!(error, Some(chela_store::Error::Missing { .. }))
    }

    fn render(&self, coloured: bool) -> String {
        let paint = |code: &str, text: &str| match coloured {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        // A plugin's words may be among them.
        let words = |error: &dyn std::error::Error| printable(&error.to_string());
        let mut text = format!("{} {}\n", paint("1;31", "error:"), words(&*self.error));
        let mut cause = self.error.source();
        while let Some(error) = cause {
            text.push_str(&format!("  {} {}\n", paint("2", "because:"), words(error)));
            cause = error.source();
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("  {} {help}\n", paint("36", "help:")));
        }
        text
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: Box::new(error), help: None }
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Before any runtime or log: these processes are small, and shut themselves in.
    match command {
        Command::Compiler => return chela_sandbox::compiler::main(),
        Command::Worker => return chela_engine::worker::main(),
        _ => {}
    }
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(command)));
    outcome.unwrap_or_else(|failure| {
        say_aside(&failure.render(std::io::stderr().is_terminal()));
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Up(at) => up::run(&at).await,
        Command::Check(at) => check::run(&at).await,
        Command::Demo(demo) => demo::run(demo).await,
        Command::Dev(asked) => author::dev(&asked).await,
        Command::Chat(chat) => chat::run(chat).await,
        Command::Turn { command } => turn::run(command).await,
        Command::Plugin { command } => plugin::run(command).await,
        Command::Budget { command } => budget::run(command).await,
        Command::Cache { command } => cache::run(command).await,
        Command::Reload(asked) => reload::run(&asked).await,
        Command::Events(asked) => events::run(&asked).await,
        Command::Ledger { command } => ledger::run(command).await,
        Command::Tier { command } => tier::run(command).await,
        Command::Replay(asked) => replay::run(&asked).await.map(|_| ExitCode::SUCCESS),
        Command::Status { config, json } => status::run(&config, json).await,
        Command::Bench { command } => bench::run(command).await,
        Command::Drill(asked) => drill::run(asked).await,
        Command::Compiler | Command::Worker => Ok(ExitCode::FAILURE),
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error.
pub(crate) fn say_aside(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// One JSON object on standard output.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Outcome {
    say(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(ExitCode::SUCCESS)
}

/// A table in the house's shape.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED).set_header(header);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    match table.width() {
        Some(width) => table.set_width(width.min(WIDTH_MAX)),
        None => table.set_width(WIDTH_MAX),
    };
    table
}

/// Keeps columns whole, however narrow the terminal is: a name that is broken cannot be looked for.
pub(crate) fn keep_whole(table: &mut comfy_table::Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(comfy_table::ColumnConstraint::ContentWidth);
        }
    }
}

/// Reads the configuration; its mistakes are shown with their lines, its doubts go to standard error.
pub(crate) fn load(at: &args::ConfigPath) -> Result<crate::config::Config, Failure> {
    let coloured = std::io::stderr().is_terminal();
    let env = |name: &str| std::env::var(name).ok();
    match crate::config::load(&at.config, &env) {
        Ok((config, warnings)) => {
            for warning in warnings {
                let text = if coloured {
                    warning.coloured(WIDTH_MAX.into())
                } else {
                    warning.plain(WIDTH_MAX.into())
                };
                say_aside(&text);
            }
            Ok(config)
        }
        Err(error) => {
            say_aside(&error.render(WIDTH_MAX.into(), coloured));
            Err(Failure::new("the configuration cannot be used")
                .help("each mistake is shown above with its line"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes_and_what_helps() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not open the store")]
        struct Outer(#[source] std::io::Error);
        let failure = Failure::from(Outer(std::io::Error::other("disk full"))).help("free some space");
        assert_eq!(
            failure.render(false),
            "error: could not open the store\n  because: disk full\n  help: free some space\n"
        );
        assert!(failure.render(true).contains("\u{1b}["));
        let evil = Failure::from(Outer(std::io::Error::other("init says: \u{1b}[2J")));
        assert!(!evil.render(false).contains('\u{1b}'));
    }
}
