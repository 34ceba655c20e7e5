//! `chela tier …`.

use std::path::PathBuf;
use std::time::Duration;

use chela_gateway::difficulty::{FOLDS, FOLDS_USUAL, LOSS_USUAL};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};

use super::{ConfigPath, ago};

/// `chela tier …`.
#[derive(Debug, Subcommand)]
pub enum TierCommand {
    /// Write recorded turns of an agent as lines that wait for their labels
    #[command(
        after_help = "FILE holds what people said: the store is read, so only who may read it can do this. Each line is a JSON object; give it the labels `cheap` and `dear`, each as {\"good\": true, \"cost\": \"0.0004\"}: `good` is true, false or a number from 0 to 1, `cost` may be left out.\n\nExamples:\n  chela tier export --agent support --since 30d --out support.jsonl"
    )]
    Export(TierExport),

    /// Fit what chooses between two tiers, on labelled turns, or say why that cannot be done
    #[command(
        after_help = "Refuses, and exits 1, if the turns are too few, if the scorer is no better than chance, or if even the surest turns may lose more than --quality-loss: an upper bound of 95 % on the mean loss against the dearer tier alone. The same turns and options make the same file, but for its date.\n\nExamples:\n  chela tier fit support.jsonl --out tiers/support.toml\n  chela tier fit support.jsonl --out tiers/support.toml --quality-loss 0.02 --json"
    )]
    Fit(TierFit),

    /// Hold a fitted file against labelled turns: quality and cost at each share that the cheaper tier answers
    #[command(
        after_help = "Beside it stand who sends turns by lot, who sends the shortest (or longest), and who knows every label. Fitted turns flatter: use others.\n\nExamples:\n  chela tier eval december.jsonl --model tiers/support.toml\n  chela tier eval december.jsonl --model tiers/support.toml --json"
    )]
    Eval(TierEval),
}

/// `chela tier export`.
#[derive(Debug, Clone, Args)]
pub struct TierExport {
    /// The agent
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// Turns of so long ago and later, as `30d`, `24h`
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = ago)]
    pub since: Duration,
    /// The file that is written; it may not be there yet
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigPath,
}

/// `chela tier fit`.
#[derive(Debug, Clone, Args)]
pub struct TierFit {
    /// Labelled turns, one JSON object on each line
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    /// The file that is written
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Parts that are left out in turn
    #[arg(long, value_name = "N", default_value_t = FOLDS_USUAL)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(*FOLDS.start() as u64..=*FOLDS.end() as u64))]
    pub folds: usize,
    /// What may be lost of the quality at most, against the dearer tier alone
    #[arg(long, value_name = "SHARE", default_value_t = LOSS_USUAL, value_parser = share)]
    pub quality_loss: f64,
    /// Of what is drawn by lot
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// One JSON object instead of a page
    #[arg(long)]
    pub json: bool,
}

/// `chela tier eval`.
#[derive(Debug, Clone, Args)]
pub struct TierEval {
    /// Labelled turns, one JSON object on each line
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    /// What `chela tier fit` wrote
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Above 0 and below 1.
fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "a share above 0 and below 1, as `0.01`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_none_and_all() {
        for (text, is_good) in
            [("0.01", true), ("0.999", true), ("0", false), ("1", false), ("nan", false), ("1%", false)]
        {
            assert_eq!(share(text).is_ok(), is_good, "{text}");
        }
    }
}
