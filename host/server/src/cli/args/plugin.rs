//! What can be said of plugins and of what happened to them.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};

use super::ConfigPath;
use super::author::{Build, New, Test};

/// Events in a list, unless another number is asked for.
const EVENTS_USUAL: usize = 50;
/// Events in one list at most.
const EVENTS_MAX: u64 = 1_000;

/// `chela plugin …`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins with their versions: what serves, how it does, what waits and why
    #[command(
        after_help = "Asks the running host; reads its store if none runs.\n\nExamples:\n  chela plugin list\n  chela plugin list --all\n  chela plugin list --json"
    )]
    List {
        /// Also what has served, was refused or not taken, and lies in no folder any more (as JSON always)
        #[arg(long)]
        all: bool,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Show what happened to one plugin: which version came when, by whom and why
    #[command(
        after_help = "Examples:\n  chela plugin history keyword\n  chela plugin history keyword -n 5 --json"
    )]
    History {
        /// The plugin, as the configuration names it
        #[arg(value_name = "NAME")]
        name: String,
        /// So many of the newest, 1 to 1000
        #[arg(long, short = 'n', value_name = "N", default_value_t = EVENTS_USUAL)]
        #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=EVENTS_MAX))]
        limit: usize,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Make a plugin: a folder that builds, with a test and cases, and the sdk
    #[command(
        after_help = "Examples:\n  chela plugin new --kind router --lang rust my-router\n  chela plugin new --kind agent --lang python plugins/tutor\n  chela plugin new --kind channel --lang js --sdk ../chela pager"
    )]
    New(New),

    /// Build a plugin with its author's own tools, check it as a host does, and leave what a host loads in `dist`
    #[command(
        after_help = "What the compiler says comes as it says it. What does not build, or would be refused, leaves what was built before.\n\nExamples:\n  chela plugin build\n  chela plugin build my-router --out /srv/chela/plugins/my-router"
    )]
    Build(Build),

    /// Play the cases of a plugin in the real sandbox, under the limits of production; or recorded turns
    #[command(
        after_help = "Exits 1 if one does not come to what it expects. With --config, limits, grants, settings and isolation are those that the host of it gives the plugin.\n\nExamples:\n  chela plugin test\n  chela plugin test my-router --case word --json\n  chela plugin test --config /etc/chela/chela.toml\n  chela plugin test --config chela.toml --recorded --since 24h"
    )]
    Test(Test),

    /// Show what one plugin is and what it may touch, without running it
    #[command(
        after_help = "Examples:\n  chela plugin inspect builtin:slack\n  chela plugin inspect ./plugins/my-router"
    )]
    Inspect {
        /// `builtin:NAME` or a plugin's folder
        #[arg(value_name = "SOURCE")]
        source: String,
        /// One JSON object instead of a page
        #[arg(long)]
        json: bool,
    },

    /// Make a pair of keys: a private one to sign plugins with, and a public one that operators trust
    #[command(
        after_help = "Writes NAME.key (PKCS#8, for its owner's eyes alone) and shows what goes into chela.toml.\n\nExamples:\n  chela plugin keygen sales\n  chela plugin keygen sales --out ~/keys"
    )]
    Keygen {
        /// Whose key it is: a person, a team, a build machine
        #[arg(value_name = "NAME")]
        name: String,
        /// The folder for the private key
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },

    /// Sign a plugin: its plugin.toml and its component, together
    #[command(
        after_help = "Writes plugin.sig beside both. A change of either ends the signature: sign last, and move the whole folder.\n\nExamples:\n  chela plugin sign ./plugins/my-router --key sales.key\n  chela plugin sign ./plugins/my-router --key env:SIGNING_KEY"
    )]
    Sign {
        /// The plugin's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The private key's file, or `env:NAME` of a variable that holds its text
        #[arg(long, value_name = "KEY")]
        key: String,
    },

    /// Say who signed a plugin, and whether this host trusts him
    #[command(
        after_help = "Exits with 1 if it is not signed, not rightly, or by nobody who is trusted. Against a configuration that is there, or one key alone.\n\nExamples:\n  chela plugin verify ./plugins/my-router\n  chela plugin verify ./plugins/my-router --config /etc/chela/chela.toml\n  chela plugin verify ./plugins/my-router --public ed25519:…"
    )]
    Verify {
        /// The plugin's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The key that must have signed it, instead of those of the configuration
        #[arg(long, value_name = "PUBLIC")]
        public: Option<String>,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Show in what two versions differ: imports, grants, limits, hosts, secrets, configuration
    #[command(
        after_help = "Each of the two is a plugin's folder, `builtin:NAME`, or a version that the host keeps: NAME for the active one, NAME@DIGEST for another. One NAME alone: the active version against what its folder holds.\n\nExamples:\n  chela plugin diff keyword\n  chela plugin diff builtin:keyword ./plugins/my-router\n  chela plugin diff keyword ./plugins/my-router\n  chela plugin diff keyword keyword@3f2a9c"
    )]
    Diff {
        /// The one
        #[arg(value_name = "A")]
        a: String,
        /// The other; left out, what the folder of plugin A holds
        #[arg(value_name = "B")]
        b: Option<String>,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Run a version beside the active one, without any effect, and compare
    #[command(
        after_help = "Examples:\n  chela plugin shadow keyword\n  chela plugin shadow keyword --from ./plugins/my-router\n  chela plugin shadow keyword --version 3f2a9c"
    )]
    Shadow {
        /// What is ordered of whom.
        #[command(flatten)]
        of: Ordered,
        /// Which version.
        #[command(flatten)]
        candidate: Candidate,
    },

    /// Give a version a share of the conversations; 0 ends it
    #[command(
        after_help = "A conversation stays with the version that it has come to.\n\nExamples:\n  chela plugin canary keyword 5\n  chela plugin canary keyword 25 --from ./plugins/my-router\n  chela plugin canary keyword 0"
    )]
    Canary {
        /// What is ordered of whom.
        #[command(flatten)]
        of: Ordered,
        /// Of a hundred conversations
        #[arg(value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        /// Also if it asks for more than the active one: `chela plugin diff` shows for what
        #[arg(long)]
        approve: bool,
        /// Which version.
        #[command(flatten)]
        candidate: Candidate,
    },

    /// Make a version the active one
    #[command(
        after_help = "Named neither by `--from` nor by `--version`, it is the canary or shadow that runs, else what the plugin's folder holds.\n\nExamples:\n  chela plugin promote keyword\n  chela plugin promote keyword --version 3f2a9c --downgrade\n  chela plugin promote helper --approve"
    )]
    Promote {
        /// What is ordered of whom.
        #[command(flatten)]
        of: Ordered,
        /// Also if it asks for more than the active one: `chela plugin diff` shows for what
        #[arg(long)]
        approve: bool,
        /// Also if its manifest's version is lower than the active one's
        #[arg(long)]
        downgrade: bool,
        /// Also if its shadow has not yet shown what [swap] wants to see
        #[arg(long)]
        unproven: bool,
        /// Which version.
        #[command(flatten)]
        candidate: Candidate,
    },

    /// End a canary; if there is none, go back to the version before
    #[command(
        after_help = "Examples:\n  chela plugin rollback keyword\n  chela plugin rollback keyword --why 'sends invoices to support'"
    )]
    Rollback {
        /// What is ordered of whom.
        #[command(flatten)]
        of: Ordered,
        /// For the history
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },

    /// End canary and shadow; the active version stays
    #[command(after_help = "Example:\n  chela plugin stop keyword")]
    Stop {
        /// What is ordered of whom.
        #[command(flatten)]
        of: Ordered,
    },
}

/// How something is shown, and of which host.
#[derive(Debug, Clone, Args)]
pub struct Shown {
    /// JSON instead of words
    #[arg(long)]
    pub json: bool,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigPath,
}

/// Of whom something is ordered.
#[derive(Debug, Clone, Args)]
pub struct Ordered {
    /// The plugin, as the configuration names it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How it is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// Which version an order means.
#[derive(Debug, Clone, Default, Args)]
pub struct Candidate {
    /// A plugin's folder that holds it, instead of the configured one
    #[arg(long, value_name = "DIR", conflicts_with = "version")]
    pub from: Option<PathBuf>,
    /// One that the host keeps: the first hex digits of its digest
    #[arg(long, value_name = "DIGEST", value_parser = digits)]
    pub version: Option<String>,
}

/// Digits of a digest, as far as they are given.
fn digits(text: &str) -> Result<String, String> {
    let is_hex = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hex { Ok(text.to_ascii_lowercase()) } else { Err("a digest is up to 64 hex digits".to_owned()) }
}

/// `chela reload`.
#[derive(Debug, Clone, Args)]
pub struct Reload {
    /// Apply what a host that reloads by hand would only report
    #[arg(long)]
    pub apply: bool,
    /// How it is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// `chela events`.
#[derive(Debug, Clone, Args)]
pub struct Events {
    /// Go on: each event as it happens, until stopped. As JSON, one object on each line
    #[arg(long, short)]
    pub follow: bool,
    /// Of this plugin alone
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// So many of the newest, 1 to 1000
    #[arg(long, short = 'n', value_name = "N", default_value_t = EVENTS_USUAL)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=EVENTS_MAX))]
    pub limit: usize,
    /// How it is shown.
    #[command(flatten)]
    pub shown: Shown,
}
