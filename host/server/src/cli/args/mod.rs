//! What can be said on the command line. `chela help` is read here first, so the words matter.

mod author;
mod budget;
mod cache;
mod drill;
mod ledger;
mod plugin;
mod tier;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

use crate::turn::{LIST_MAX, LIST_USUAL};

#[cfg(test)]
pub(super) use author::KindName;
pub(super) use author::{Build, Dev, New, Test};
pub(super) use budget::BudgetCommand;
pub(super) use cache::{CacheCommand, Meant};
pub(super) use drill::{Drill, Where};
pub(super) use ledger::{LedgerCommand, Reconcile};
pub(super) use plugin::{Candidate, Events, Ordered, PluginCommand, Reload, Shown};
pub(super) use tier::{TierCommand, TierEval, TierExport, TierFit};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  chela demo                    four agents and a web chat, nothing to configure
  chela demo --tour             sends a message through every channel and checks the answers
  chela plugin new --kind router --lang python my-router
  chela dev my-router           a plugin of one's own: builds and serves what is saved
  chela check                   would it start? prepares every plugin, serves nothing
  chela up                      serves what chela.toml says
  chela turn list               the newest messages and what became of them
  chela turn show 0198f3c1…     why one message got the answer it got
  chela plugin list             what serves, in which version, and what waits
  chela budget list             what is used of each budget
  chela events --follow         what happens to plugins and budgets, as it happens";

/// A host for sandboxed chat-agent plugins.
#[derive(Debug, Parser)]
#[command(name = "chela", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigPath {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "chela.toml")]
    pub config: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the host and serve until it is stopped
    #[command(after_help = "Examples:\n  chela up\n  chela up --config /etc/chela/chela.toml")]
    Up(ConfigPath),

    /// Say whether `chela up` would start, and what is wrong if not
    #[command(
        after_help = "Exits 1 if something is wrong. Every plugin is prepared as at a start, its `init` included; nothing is served or sent. What was prepared is kept in the data folder if there is one of yours, so that `chela up` starts at once."
    )]
    Check(ConfigPath),

    /// Try it: four agents, a web chat, scripted models, nothing to configure
    #[command(
        after_help = "Examples:\n  chela demo\n  chela demo --tour\n  chela demo --data ./demo --port 8080"
    )]
    Demo(Demo),

    /// Work on a plugin: build what is saved, serve it, and tell what becomes of it and of each message
    #[command(
        after_help = "Puts each build where the running host of the configuration loads it; the host swaps by itself, and what does not build leaves what serves. If no host runs, one is started: with the configuration, if that uses the plugin, or with a web chat and scripted models.\n\nExamples:\n  chela dev\n  chela dev plugins/my-router --config chela.toml"
    )]
    Dev(Dev),

    /// Talk to an agent in the terminal
    #[command(
        after_help = "Examples:\n  chela chat support\n  chela chat hr --message 'How many days of leave do I have?'"
    )]
    Chat(Chat),

    /// Turns: what happened to a message
    Turn {
        /// Which question.
        #[command(subcommand)]
        command: TurnCommand,
    },

    /// Plugins: what serves, what it may touch, and which version takes its place
    Plugin {
        /// Which question.
        #[command(subcommand)]
        command: PluginCommand,
    },

    /// Read the configuration again, and everything that it names
    #[command(
        after_help = "The host does this by itself when a file changes; this waits for the outcome. What needs a restart is named and runs as before.\n\nExamples:\n  chela reload\n  chela reload --apply"
    )]
    Reload(Reload),

    /// Budgets: what is used of what may be, and more of it for a while
    Budget {
        /// Which question.
        #[command(subcommand)]
        command: BudgetCommand,
    },

    /// Kept answers: what is kept, what would become of a question, and what is to go
    Cache {
        /// Which question.
        #[command(subcommand)]
        command: CacheCommand,
    },

    /// What happened to plugins and budgets: when, by whom and why
    #[command(
        after_help = "Asks the running host; reads its store if none runs.\n\nExamples:\n  chela events\n  chela events --follow --plugin keyword\n  chela events --json"
    )]
    Events(Events),

    /// The ledger: what was charged for calls of models
    Ledger {
        /// Which question.
        #[command(subcommand)]
        command: LedgerCommand,
    },

    /// Tiers: what chooses the cheaper one, fitted on turns that you labelled, and what that is worth
    Tier {
        /// Which question.
        #[command(subcommand)]
        command: TierCommand,
    },

    /// Run recorded turns again, under another version of a plugin or under the one that ran them
    #[command(
        after_help = "Nothing is sent, asked or remembered: what the host answered then is answered again. A version that asks for something else has diverged, and ends there; with --live it goes on, asks models at the expense of `[budget] shadow`, reads what is kept and writes nothing.\n\nExamples:\n  chela replay --plugin plugins/router --since 7d\n  chela replay --plugin plugins/assistant --agent hr --since 24h --content\n  chela replay --version router@3f2a91c0 --limit 500 --json\n  chela replay --since 1d"
    )]
    Replay(Replay),

    /// How the host is doing
    #[command(after_help = "Asks the running host; reads its store if none runs.")]
    Status {
        /// The configuration.
        #[command(flatten)]
        config: ConfigPath,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },

    /// Measure on this machine
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: BenchCommand,
    },

    /// Let hostile plugins loose on this installation, under your own limits, and see what comes of them
    #[command(
        after_help = "Nothing of yours is touched: store, model and channel are the drill's own, in a temporary folder. Exits 1 if one attack is not contained.\n\nExamples:\n  chela drill\n  chela drill --config /etc/chela/chela.toml --isolation both --json\n  chela drill --list\n  chela drill --only compile-bomb --full\n  chela drill --only trap --soak 1000000"
    )]
    Drill(Drill),

    /// Compiles one plugin, in a process of its own. Speaks frames on standard input and output.
    #[command(name = COMPILER, hide = true)]
    Compiler,

    /// Runs one plugin, in a process of its own. Speaks frames on the socket that is its standard input.
    #[command(name = WORKER, hide = true)]
    Worker,
}

/// The hidden command with which the host starts itself as a compiler.
pub const COMPILER: &str = "compile-plugin";
/// The hidden command with which the host starts itself as a worker.
pub const WORKER: &str = "run-plugin";

/// `chela demo`.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Send messages through every channel, check the answers, print a record for each, and exit
    #[arg(long)]
    pub tour: bool,
    /// Keep the data here instead of in a temporary folder
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Port of the web chat; 0 takes any that is free
    #[arg(long, default_value_t = 7878)]
    pub port: u16,
}

/// `chela chat`.
#[derive(Debug, Clone, Args)]
pub struct Chat {
    /// The agent, as the configuration names it
    #[arg(value_name = "AGENT")]
    pub agent: String,
    /// Say this, print the answer and exit
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigPath,
}

/// `chela turn …`.
#[derive(Debug, Subcommand)]
pub enum TurnCommand {
    /// List the newest turns: when, through which channel, who answered, how it ended
    #[command(after_help = "Asks the running host; reads its store if none runs.")]
    List {
        /// So many, 1 to 1000
        #[arg(long, short = 'n', value_name = "N", default_value_t = LIST_USUAL)]
        #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=LIST_MAX as u64))]
        limit: usize,
        /// A JSON list instead of a table, with everything that `show` tells
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Show a turn's decision record: who answered, why, and what it cost
    #[command(
        after_help = "Examples:\n  chela turn show 0198f3c1a2b37c4d8e9f0a1b2c3d4e5f\n  chela turn show 0198f3c1a2b37c4d8e9f0a1b2c3d4e5f --content"
    )]
    Show {
        /// The turn's id
        #[arg(value_name = "ID")]
        id: String,
        /// Also show what was said
        #[arg(long)]
        content: bool,
        /// One JSON object instead of a page
        #[arg(long)]
        json: bool,
        /// The configuration.
        #[command(flatten)]
        config: ConfigPath,
    },
}

/// `chela replay`.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The folder of the version to run; left out, each turn is run under the version that ran it
    #[arg(long, value_name = "DIR", conflicts_with = "version")]
    pub plugin: Option<PathBuf>,
    /// A kept version: the plugin's name and the first digits of the version's digest
    #[arg(long, value_name = "NAME@DIGEST")]
    pub version: Option<String>,
    /// The plugin of the configuration whose place the folder takes, if neither folder nor name tells
    #[arg(long = "as", value_name = "NAME")]
    pub place: Option<String>,
    /// Turns of so long ago and later, as `7d`, `24h`, `30m`
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = ago)]
    pub since: Duration,
    /// The parts of this agent alone
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// So many turns that hold such parts at most, the oldest first
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Let versions that diverge go on, at the expense of the scope `replay`, which `[budget] shadow` bounds
    #[arg(long)]
    pub live: bool,
    /// Also show what was said
    #[arg(long)]
    pub content: bool,
    /// Where the configuration is, and how the answer is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// Longest time that is looked back, in seconds.
const AGO_MAX_S: u64 = 10 * 366 * 24 * 3_600;

/// `7d`, `24h`, `30m`, `90s`.
fn ago(text: &str) -> Result<Duration, String> {
    let expected = || "a number and one of s, m, h, d, as `7d`".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 24 * 3_600,
        _ => return Err(expected()),
    };
    let count = text.strip_suffix(unit).ok_or_else(expected)?;
    let count: u64 = count.parse().map_err(|_| expected())?;
    let whole = count.checked_mul(seconds).filter(|whole| *whole <= AGO_MAX_S);
    whole.map(Duration::from_secs).ok_or_else(|| "at most ten years".to_owned())
}

/// `chela bench …`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// A fresh sandbox for each call, against a warm one and against bare wasmtime
    #[command(
        after_help = "Examples:\n  chela bench sandbox\n  chela bench sandbox --router urgent-rust --router urgent-python --router urgent-js\n  chela bench sandbox --seconds 3 --waiting 1000 --json"
    )]
    Sandbox(SandboxBench),
    /// Model calls through the gateway, against calls without it and through other gateways
    #[command(
        after_help = "Model and clients are part of this program, and all run on this machine. Another gateway is measured where its program is named: LiteLLM's comes with `pip install 'litellm[proxy]'`, Portkey's with `npm install @portkey-ai/gateway`.\n\nExamples:\n  chela bench gateway\n  chela bench gateway --litellm venv/bin/litellm --portkey node_modules/.bin/gateway\n  chela bench gateway --soak 1000000 --json"
    )]
    Gateway(GatewayBench),
    /// Whole messages, from signed webhook to delivered answer, durable
    Host(Bench),
    /// One department's messages, alone and beside another's flood
    Neighbours(Bench),
    /// New versions while messages come in: how soon they are live, and what that costs
    Swap(SwapBench),
}

/// Options of the measurement of sandboxes.
#[derive(Debug, Clone, Args)]
pub struct SandboxBench {
    /// A folder with a router to measure, too: one in another language, say; repeat it for more
    #[arg(long, value_name = "FOLDER")]
    pub router: Vec<PathBuf>,
    /// Guests that wait at once; fewer where the machine has no memory mappings for so many
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub waiting: u32,
    /// Seconds for each measurement
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub seconds: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Options of the measurement of the gateway.
#[derive(Debug, Clone, Args)]
pub struct GatewayBench {
    /// The program `litellm`, to be measured as well
    #[arg(long, value_name = "PROGRAM")]
    pub litellm: Option<PathBuf>,
    /// Portkey's program, to be measured as well
    #[arg(long, value_name = "PROGRAM")]
    pub portkey: Option<PathBuf>,
    /// Make so many more calls at the end, and watch the memory
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub soak: Option<u64>,
    /// Seconds for each measurement
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub seconds: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Options of the measurement of swaps.
#[derive(Debug, Clone, Args)]
pub struct SwapBench {
    /// Swaps under load
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub swaps: u32,
    /// Seconds for each measurement beside them
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub seconds: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Options of every measurement.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Seconds to measure
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub seconds: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_time_ago_has_a_unit() {
        assert_eq!(ago("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(ago("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "7", "d", "-1d", "7w", "7dd", "99999999999999999999d", "9999999d", "7ä"] {
            assert!(ago(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_compiler_is_found_and_not_shown() {
        assert!(matches!(Cli::parse_from(["chela", COMPILER]).command, Command::Compiler));
        assert!(matches!(Cli::parse_from(["chela", WORKER]).command, Command::Worker));
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains(COMPILER) && !help.contains(WORKER));
    }

    #[test]
    fn turns_in_a_list_obeyed_and_violated() {
        let listed = |n: &str| Cli::try_parse_from(["chela", "turn", "list", "-n", n]);
        for (n, turns) in [("1", 1), ("1000", LIST_MAX)] {
            let command = listed(n).unwrap().command;
            let Command::Turn { command: TurnCommand::List { limit, .. } } = command else {
                panic!("{command:?}")
            };
            assert_eq!(limit, turns);
        }
        for n in ["0", "1001", "-1", "many"] {
            assert!(listed(n).is_err(), "{n}");
        }
    }

    fn plugin(words: &[&str]) -> Result<PluginCommand, clap::Error> {
        match Cli::try_parse_from([&["chela", "plugin"], words].concat())?.command {
            Command::Plugin { command } => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_share_of_conversations_obeyed_and_violated() {
        for (percent, expected) in [("0", 0), ("100", 100)] {
            let canary = plugin(&["canary", "keyword", percent]).unwrap();
            assert!(matches!(canary, PluginCommand::Canary { percent, .. } if percent == expected));
        }
        for wrong in ["101", "-1", "half", ""] {
            assert!(plugin(&["canary", "keyword", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_version_is_a_folder_or_a_digest() {
        let promote = plugin(&["promote", "keyword", "--version", "3F2A"]).unwrap();
        let PluginCommand::Promote { candidate, approve: false, .. } = promote else { panic!("{promote:?}") };
        assert_eq!((candidate.version.as_deref(), candidate.from), (Some("3f2a"), None));
        assert!(plugin(&["shadow", "keyword", "--version", "xyz"]).is_err());
        assert!(plugin(&["shadow", "keyword", "--version", "3f", "--from", "."]).is_err());
    }

    #[test]
    fn every_order_shows_examples() {
        let mut cli = Cli::command();
        let plugins = cli.find_subcommand_mut("plugin").unwrap();
        for command in plugins.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
    }

    #[test]
    fn every_command_has_words() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
