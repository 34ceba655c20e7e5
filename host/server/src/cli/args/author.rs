//! What an author can say.

use std::path::PathBuf;
use std::time::Duration;

use chela_sandbox::PluginKind;
use clap::{Args, ValueEnum};

use super::{ConfigPath, ago};
use crate::cli::author::Lang;

/// A kind of plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// Chooses the agent for a message
    Router,
    /// Answers messages
    Agent,
    /// Speaks a platform's language
    Channel,
}

impl From<KindName> for PluginKind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Router => Self::Router,
            KindName::Agent => Self::Agent,
            KindName::Channel => Self::Channel,
        }
    }
}

impl KindName {
    /// As it is written.
    #[cfg(test)]
    pub(in crate::cli) fn as_str(self) -> &'static str {
        PluginKind::from(self).as_str()
    }
}

/// `chela plugin new`.
#[derive(Debug, Clone, Args)]
pub struct New {
    /// The folder to make; its last part is the plugin's name
    #[arg(value_name = "NAME")]
    pub name: PathBuf,
    /// What it is for
    #[arg(long)]
    pub kind: KindName,
    /// What it is written in
    #[arg(long)]
    pub lang: Lang,
    /// A clone of the repository, or an sdk in it, instead of a copy of the sdk in the plugin's own folder
    #[arg(long, value_name = "PATH")]
    pub sdk: Option<PathBuf>,
}

/// `chela plugin build`.
#[derive(Debug, Clone, Args)]
pub struct Build {
    /// The author's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Where the built plugin goes: `dist` in the author's folder, unless said
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One JSON object instead of a page; what the tools say goes to standard error
    #[arg(long)]
    pub json: bool,
}

/// `chela plugin test`.
#[derive(Debug, Clone, Args)]
pub struct Test {
    /// The author's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// These cases alone: names of files in `cases`, without `.toml`
    #[arg(long = "case", value_name = "NAME")]
    pub cases: Vec<String>,
    /// A host's configuration, for the limits, the grants and the settings that it gives the plugin
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The plugin of the configuration, if neither folder nor name tells
    #[arg(long = "as", value_name = "NAME", requires = "config")]
    pub place: Option<String>,
    /// Recorded turns of the configuration's host instead of cases: does it say the same?
    #[arg(long, requires = "config")]
    pub recorded: bool,
    /// Of recorded turns, those of so long ago and later, as `7d`, `24h`, `30m`
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = ago)]
    pub since: Duration,
    /// Test what was built before; unless said, it is built first
    #[arg(long)]
    pub no_build: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `chela dev`.
#[derive(Debug, Clone, Args)]
pub struct Dev {
    /// The author's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigPath,
    /// Port of the web chat of a host that is started for this alone; 0 takes any that is free
    #[arg(long, default_value_t = 7878)]
    pub port: u16,
}
