//! Language as text: the words of a question, its one canonical form, how alike two questions look, whether something
//! makes another answer of them, and how far likeness may be trusted. No I/O, no clock, no randomness of its own.
//!
//! Written for the gateway's cache; what is claimed for it is measured on `data/questions.tsv` by `tests/report.rs`.

#[cfg(test)]
mod apart_tests;
mod bound;
mod canonical;
mod grams;
mod language;
mod lists;
mod reading;
mod stem;
mod trust;
#[cfg(test)]
mod trust_tests;
mod vector;
mod verify;
mod words;

pub use bound::{at_least, wrong_at_most};
pub use canonical::{Canonical, canonical};
pub use grams::grams;
pub use language::Language;
pub use trust::{BANDS, BandStanding, Confirmation, Decision, KEPT_PER_ENTRY, Pool, Probe, Rule, Trust};
pub use vector::{BUCKETS, DENSE_MAX, DENSE_MIN, Vector, cosine};
pub use verify::{Difference, Reading, verify};
pub use words::{Kind, TEXT_BYTES_MAX, TooLong, Word, words};
