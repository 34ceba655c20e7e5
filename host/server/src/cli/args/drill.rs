//! `chela drill`, on the command line.

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `chela drill`.
#[derive(Debug, Clone, Args)]
pub struct Drill {
    /// Attacked under the limits of this configuration; left out: chela.toml if it is there, else the defaults
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the guests' calls run
    #[arg(long, value_enum, default_value_t = Where::Worker)]
    pub isolation: Where,
    /// Only this attack; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Name the attacks, and try none
    #[arg(long)]
    pub list: bool,
    /// One JSON object instead of a page
    #[arg(long)]
    pub json: bool,
    /// Let guests that never end loading have the host's own time for it, instead of 15 seconds
    #[arg(long)]
    pub full: bool,
    /// After the attacks, this many calls of which a tenth are hostile; what the host holds is told at each tenth
    #[arg(long, value_name = "CALLS", value_parser = RangedU64ValueParser::<u64>::new().range(1_000..))]
    pub soak: Option<u64>,
}

/// Where the guests' calls run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Where {
    /// In the host's own process, as plugins that are trusted
    InProcess,
    /// In jailed processes of their own, as strangers' plugins
    Worker,
    /// In both, one after the other
    Both,
}
