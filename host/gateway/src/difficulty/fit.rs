//! Fits a scorer on labelled turns, and refuses where the turns do not speak for it.
//!
//! Each turn is scored by weights that were fitted without it. The share that goes to the cheaper tier is then widened
//! step by step, the surest first, as long as an upper bound on what is lost stays within what was stated. The steps
//! and their order are fixed beforehand and the first that fails is the last, so the bound holds for the step that is
//! taken as it does for one alone.

use chela_lexical::wrong_at_most;
use chela_types::Millis;
use serde::Serialize;
use std::fmt;

use super::lottery::{Interval, Lottery, Ranking, intervals};
use super::scorer::{About, Quantised, Scorer};
use super::solver::solve;
use super::{Data, Turn};

/// How many parts may be left out in turn.
pub const FOLDS: std::ops::RangeInclusive<usize> = 2..=20;
/// Unless said.
pub const FOLDS_USUAL: usize = 5;
/// What may be lost of the quality, unless said.
pub const LOSS_USUAL: f64 = 0.01;
/// Steps of the share.
const STEPS: usize = 20;
/// Each of the two bounds that make up the bound on the loss; together 95 %.
const CONFIDENCE: f64 = 0.975;
/// Fewer of either kind teach nothing.
const KIND_MIN: usize = 20;

/// How it is fitted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Parts that are left out in turn, within [`FOLDS`].
    pub folds: usize,
    /// What may be lost of the quality at most, against the dearer tier alone: 0.01 is one in a hundred.
    pub quality_loss: f64,
    /// Of the parts and of what is drawn.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { folds: FOLDS_USUAL, quality_loss: LOSS_USUAL, seed: 1 }
    }
}

/// What was measured, each turn by weights that were fitted without it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fitted {
    /// On so many turns.
    pub turns: usize,
    /// In so many of them the cheaper tier's answer is good enough.
    pub enough: usize,
    /// How often a turn where it is good enough is scored above one where it is not.
    pub auc: Interval,
    /// The same of the question's length alone.
    pub length_auc: Interval,
    /// What the scorer has above the length.
    pub beyond_length: Interval,
    /// From this score on the cheaper tier answers.
    pub threshold: f64,
    /// So many of the turns.
    pub sent: usize,
    /// The mean loss over all turns; below zero it is a gain.
    pub loss: f64,
    /// Its upper bound, at 95 %.
    pub loss_at_most: f64,
}

impl Fitted {
    /// Whether it sees more than that short questions are easy.
    pub fn is_beyond_length(&self) -> bool {
        self.beyond_length.low > 0.0
    }
}

/// Why nothing was fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unfit {
    /// So few turns show nothing.
    TooFew {
        /// There are so many.
        turns: usize,
        /// So many at least, if not one of them is lost.
        needed: usize,
    },
    /// The cheaper tier is good enough nearly always, or nearly never.
    OneSided {
        /// There are so many.
        turns: usize,
        /// In so many it is good enough.
        enough: usize,
    },
    /// Chance is as good.
    Chance {
        /// There are so many.
        turns: usize,
        /// How often the right one is scored above.
        auc: Interval,
    },
    /// Even the surest turns may lose more than was stated.
    Lossy {
        /// There are so many.
        turns: usize,
        /// What the surest twentieth may lose.
        loss_at_most: f64,
        /// What was stated.
        quality_loss: f64,
        /// How often the right one is scored above.
        auc: Interval,
    },
}

impl std::error::Error for Unfit {}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auc = |auc: &Interval| format!("AUC {:.2} ({:.2} to {:.2})", auc.value, auc.low, auc.high);
        match self {
            Self::TooFew { turns, needed } => {
                write!(
                    f,
                    "not enough data: {turns} turns; {needed} at least, even if not one of them is lost"
                )
            }
            Self::OneSided { turns, enough } => write!(
                f,
                "not enough data of both kinds: the cheaper tier is good enough in {enough} of {turns} turns; {KIND_MIN} \
                 of either kind are needed"
            ),
            Self::Chance { turns, auc: of } => {
                write!(f, "no better than chance: {} on {turns} turns", auc(of))
            }
            Self::Lossy { turns, loss_at_most, quality_loss, auc: of } => write!(
                f,
                "not enough data, or too little in it: the surest twentieth of {turns} turns may lose {:.2} % of the \
                 quality, more than {:.2} %; {}",
                loss_at_most * 100.0,
                quality_loss * 100.0,
                auc(of)
            ),
        }
    }
}

/// Fits a scorer.
///
/// # Errors
/// [`Unfit`], with the numbers.
pub fn fit(data: &Data, options: Options, now: Millis) -> Result<(Scorer, Fitted), Unfit> {
    let turns = &data.turns;
    let enough: Vec<bool> = turns.iter().map(|turn| turn.enough() >= 0.5).collect();
    let good = enough.iter().filter(|enough| **enough).count();
    // Without a loss among them, so many turns are bounded by what was stated.
    let needed = ((1.0 - CONFIDENCE).ln() / (-options.quality_loss).ln_1p()).ceil();
    let needed = if needed.is_finite() { needed as usize } else { usize::MAX };
    if turns.len() < needed {
        return Err(Unfit::TooFew { turns: turns.len(), needed });
    }
    if good.min(turns.len() - good) < KIND_MIN {
        return Err(Unfit::OneSided { turns: turns.len(), enough: good });
    }
    let scores = unseen(turns, options);
    let [auc, length_auc, beyond_length] = ranked(turns, (&scores, &enough), options.seed);
    if auc.low <= 0.5 {
        return Err(Unfit::Chance { turns: turns.len(), auc });
    }
    let step = widest(turns, &scores, options).map_err(|loss_at_most| Unfit::Lossy {
        turns: turns.len(),
        loss_at_most,
        quality_loss: options.quality_loss,
        auc,
    })?;
    let Step { threshold, sent, loss, loss_at_most } = step;
    let fitted = Fitted {
        turns: turns.len(),
        enough: good,
        auc,
        length_auc,
        beyond_length,
        threshold,
        sent,
        loss,
        loss_at_most,
    };
    let about = About {
        fitted: jiff::Timestamp::from_millisecond(now.0).unwrap_or_default().to_string(),
        turns: turns.len() as u64,
        data: data.digest,
        quality_loss: options.quality_loss,
        share: sent as f64 / turns.len() as f64,
        auc: auc.value,
    };
    let line = learned(turns.iter());
    Ok((Scorer { line, threshold, about }, fitted))
}

fn learned<'a>(turns: impl Iterator<Item = &'a Turn>) -> Quantised {
    let rows: Vec<_> = turns.map(|turn| (&turn.features, turn.enough())).collect();
    Quantised::of(&solve(&rows))
}

/// Each turn's score by weights that were fitted without it, and without those that ask the same.
fn unseen(turns: &[Turn], options: Options) -> Vec<f64> {
    let folds = options.folds.clamp(*FOLDS.start(), *FOLDS.end());
    let fold = |turn: &Turn| Lottery::new(turn.key ^ options.seed).one_of(folds);
    let mut scores = vec![0.0; turns.len()];
    for left_out in 0..folds {
        let line = learned(turns.iter().filter(|turn| fold(turn) != left_out));
        let theirs = turns.iter().zip(&mut scores).filter(|(turn, _)| fold(turn) == left_out);
        theirs.for_each(|(turn, score)| *score = line.score(&turn.features));
    }
    scores
}

/// How well the scores tell apart, how well the length alone does, and the difference.
pub(super) fn ranked(turns: &[Turn], (scores, enough): (&[f64], &[bool]), seed: u64) -> [Interval; 3] {
    let ranking = Ranking::new(scores, enough);
    let length = Ranking::new(&by_length(turns, enough), enough);
    intervals((turns.len(), seed), |times| {
        let (own, length) = (ranking.area(times), length.area(times));
        [own, length, own - length]
    })
}

/// The length as a score: shorter is easier, or longer, whichever these turns say.
pub(super) fn by_length(turns: &[Turn], enough: &[bool]) -> Vec<f64> {
    let shorter: Vec<f64> = turns.iter().map(|turn| -(turn.features.length as f64)).collect();
    let is_easier = Ranking::new(&shorter, enough).area(&vec![1; turns.len()]) >= 0.5;
    if is_easier { shorter } else { shorter.into_iter().map(|score| -score).collect() }
}

/// A share that goes to the cheaper tier.
struct Step {
    threshold: f64,
    sent: usize,
    loss: f64,
    loss_at_most: f64,
}

/// The widest share whose bound, and that of each narrower one, is within what was stated; or the bound of the first.
fn widest(turns: &[Turn], scores: &[f64], options: Options) -> Result<Step, f64> {
    let mut order: Vec<f64> = scores.to_vec();
    order.sort_by(|one, other| other.total_cmp(one));
    let mut found = None;
    for step in 1..=STEPS {
        let place = (turns.len() * step).div_ceil(STEPS).saturating_sub(1);
        let Some(threshold) = order.get(place).copied() else { break };
        let sent: Vec<f64> = turns
            .iter()
            .zip(scores)
            .filter(|(_, score)| **score >= threshold)
            .map(|(turn, _)| turn.loss())
            .collect();
        let loss_at_most = lost_at_most(&sent, turns.len(), options.seed);
        if loss_at_most > options.quality_loss {
            return found.ok_or(loss_at_most);
        }
        let loss = sent.iter().sum::<f64>() / turns.len() as f64;
        found = Some(Step { threshold, sent: sent.len(), loss, loss_at_most });
    }
    found.ok_or(1.0)
}

/// An upper bound, at 95 %, on the mean loss over all turns, when these were sent: how many may be lost at most, without
/// how many are won at least, both by the exact bound of Clopper and Pearson. A loss between none and all is drawn to one
/// of them by lot: its mean stays, and the bound holds for it.
pub(super) fn lost_at_most(sent: &[f64], of: usize, seed: u64) -> f64 {
    let mut lottery = Lottery::new(seed);
    let (mut lost, mut won) = (0_u64, 0_u64);
    for loss in sent {
        let is_whole = lottery.share() < loss.abs();
        lost += u64::from(is_whole && *loss > 0.0);
        won += u64::from(is_whole && *loss < 0.0);
    }
    let of = of as u64;
    let won_at_least = if won == 0 { 0.0 } else { 1.0 - wrong_at_most(of - won.min(of), of, CONFIDENCE) };
    wrong_at_most(lost, of, CONFIDENCE) - won_at_least
}
