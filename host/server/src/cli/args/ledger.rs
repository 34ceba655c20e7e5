//! `chela ledger`, on the command line.

use std::path::PathBuf;

use chela_gateway::reconcile::Bound;
use clap::{Args, Subcommand};

use super::Shown;

/// `chela ledger …`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Hold what a provider billed against what was charged, by UTC day and model
    #[command(
        after_help = "FILE is what the provider's own pages export as CSV: OpenAI's usage (with a row for each model) or costs, Anthropic's usage or costs. Exits 1 if one day and model is further apart than the bound; the running host logs it and counts it in `ledger_drift_total`. Nothing is changed.\n\nExamples:\n  chela ledger reconcile completions_usage.csv --provider openai\n  chela ledger reconcile claude_api_cost_2026_11.csv --provider anthropic --bound 0.5%\n  chela ledger reconcile cost.csv --provider openai --json"
    )]
    Reconcile(Reconcile),
}

/// `chela ledger reconcile`.
#[derive(Debug, Clone, Args)]
pub struct Reconcile {
    /// What the provider exported
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The provider, as the configuration calls it
    #[arg(long, value_name = "NAME")]
    pub provider: String,
    /// By how much of the bill both may differ
    #[arg(long, value_name = "SHARE", default_value_t = Bound::USUAL)]
    pub bound: Bound,
    /// Where the configuration is, and how the answer is shown.
    #[command(flatten)]
    pub shown: Shown,
}
