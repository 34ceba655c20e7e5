//! `chela budget …`.

use std::time::Duration;

use clap::Subcommand;

use super::{Shown, ago};

/// `chela budget …`.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// List what is used of each budget in its window, the fullest first
    #[command(
        after_help = "Asks the running host; reads its store if none runs. A budget of which nothing is used yet is not listed.\n\nExamples:\n  chela budget list\n  chela budget list --json"
    )]
    List {
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Show one scope: each of its budgets, and the raises and used shares that were told
    #[command(
        after_help = "Examples:\n  chela budget show agent:support\n  chela budget show user:web/U123 --json"
    )]
    Show {
        /// The scope, or one of its budgets: `agent:support`, `agent:support/day`
        #[arg(value_name = "SCOPE")]
        scope: String,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },

    /// Raise a budget for a while
    #[command(
        after_help = "Needs the running host; the next call may use it. Who raised what, until when and why stands in `chela events`.\n\nExamples:\n  chela budget raise agent:support --by 10.00 --for 24h --why 'the trade fair'\n  chela budget raise user:web/U123/hour/tokens --by '50000 tokens' --for 1h --why 'a long report'"
    )]
    Raise {
        /// The budget: `agent:support`, or `agent:support/day` if the scope has several
        #[arg(value_name = "SCOPE")]
        scope: String,
        /// How much more, in the budget's unit: `10.00`, `5000 tokens`, `20 requests`
        #[arg(long, value_name = "AMOUNT")]
        by: String,
        /// For how long, as `24h`, `7d`, `30m`
        #[arg(long = "for", value_name = "TIME", value_parser = ago)]
        lasts: Duration,
        /// Why
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },
}
