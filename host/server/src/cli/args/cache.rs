//! `chela cache …`.

use clap::{Args, Subcommand};

use super::Shown;

/// `chela cache …`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List what is kept: answers and bytes by agent, how often they were served, and what that saved
    #[command(
        after_help = "Needs the running host: answers are kept in its memory.\n\nExamples:\n  chela cache list\n  chela cache list --json"
    )]
    List {
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Explain what would become of a question: the kept answers that are nearest, why they do or do not answer it, and
    /// how far likeness is trusted
    #[command(
        after_help = "Needs the running host. Which instructions an agent gives with a question is its own affair, so all kept answers of the agent are looked through; their digests say what else has to be the same.\n\nExamples:\n  chela cache explain 'How do I reset my password?' --agent support\n  chela cache explain 'How do I reset my password?' --agent support --content --json"
    )]
    Explain {
        /// The question, as a person would ask it
        #[arg(value_name = "QUESTION")]
        question: String,
        /// The agent
        #[arg(long, value_name = "NAME")]
        agent: String,
        /// Show the questions of others, which needs the right `content`
        #[arg(long)]
        content: bool,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Evict kept answers: those of an agent, of a person, one, or all
    #[command(
        after_help = "Needs the running host. What is being asked at that moment is not kept either. Who evicted what and why stands in `chela events`.\n\nExamples:\n  chela cache evict --entry 0123456789ab --wrong --why 'the fee has changed'\n  chela cache evict --user slack/U123 --why 'asked to be forgotten'\n  chela cache evict --all"
    )]
    Evict {
        /// What is to go.
        #[command(flatten)]
        meant: Meant,
        /// It was wrong where it was served for its likeness: that counts against the stated bound
        #[arg(long)]
        wrong: bool,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },
}

/// Which answers.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Meant {
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// Those of an agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// One, by the id that a turn's record shows
    #[arg(long, value_name = "ID")]
    pub entry: Option<String>,
    /// Those that a person's questions made, as `CHANNEL/ID`
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
}
