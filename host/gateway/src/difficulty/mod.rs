//! Which of two tiers is good enough for a request: a scorer that is fitted on the operator's own labelled turns.
//!
//! Nothing here knows beforehand what is difficult. What is not learned from labels, or is learned no better than
//! chance, is refused with the numbers; what is learned is held against the length of the question, which costs nothing.

mod curve;
mod data;
mod features;
mod fit;
#[cfg(test)]
mod fit_tests;
mod lottery;
mod scorer;
mod solver;
#[cfg(test)]
pub(crate) use scorer::tests;

pub use curve::{Area, Curve, Outcome, Point, evaluate};
pub use data::{
    BYTES_MAX as DATA_BYTES_MAX, Data, DataError, Exported, ROWS_MAX as DATA_ROWS_MAX, Side, Turn,
};
pub use features::{COUNT as FEATURES, Features};
pub use fit::{FOLDS, FOLDS_USUAL, Fitted, LOSS_USUAL, Options, Unfit, fit};
pub use lottery::Interval;
pub use scorer::{FILE_BYTES_MAX, Score, Scorer, ScorerError};
