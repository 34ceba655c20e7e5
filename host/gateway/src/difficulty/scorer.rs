//! A fitted scorer, and the file that it is kept in.
//!
//! A file is taken as a whole or refused: its check covers every value, so that no weight is changed by hand or by a
//! broken disk, and no threshold is one that nobody measured.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chela_types::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

use super::Features;
use super::features::{COUNT, VERSION as FEATURES_VERSION};
use super::solver::{Line, product, sigmoid};

/// Largest file.
pub const FILE_BYTES_MAX: u64 = 65_536;
/// Of the file's form.
const VERSION: u32 = 1;
/// No sum of a row's values can be so large that a weight within this is no number any more.
const SIZE_MAX: f64 = 1e6;

/// A file that is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScorerError(String);

/// What the cheaper tier's answer is worth, and from where on it is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// How likely the cheaper tier's answer is good enough.
    pub enough: f64,
    /// The least that was measured to be so.
    pub threshold: f64,
}

impl Score {
    /// Whether the cheaper tier answers.
    pub fn is_enough(&self) -> bool {
        self.enough >= self.threshold
    }
}

impl fmt::Display for Score {
    /// `0.83 ≥ 0.71`. Cut and not rounded, so that both stand as they were compared.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_enough() { '≥' } else { '<' };
        let digits = |number: f64| (number * 1_000.0).floor() / 1_000.0;
        write!(f, "{:.3} {sign} {:.3}", digits(self.enough), digits(self.threshold))
    }
}

/// A fitted scorer.
#[derive(Debug, Clone, PartialEq)]
pub struct Scorer {
    pub(super) line: Quantised,
    pub(super) threshold: f64,
    pub(super) about: About,
}

/// When and on what it was fitted, and what was measured then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) fitted: String,
    pub(super) turns: u64,
    pub(super) data: Digest,
    /// What may be lost at most, as was stated.
    pub(super) quality_loss: f64,
    /// Of the turns, so many went to the cheaper tier.
    pub(super) share: f64,
    pub(super) auc: f64,
}

/// Weights of eight bits. What is measured is measured with these, too.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantised {
    weights: Vec<i8>,
    scale: f64,
    bias: f64,
}

impl Quantised {
    pub(super) fn of(line: &Line) -> Self {
        let largest = line.weights.iter().map(|weight| weight.abs()).fold(0.0, f64::max);
        let scale = if largest > 0.0 { largest / f64::from(i8::MAX) } else { 1.0 };
        let weights = line.weights.iter().map(|weight| (weight / scale).round() as i8).collect();
        Self { weights, scale, bias: line.bias }
    }

    pub(super) fn score(&self, features: &Features) -> f64 {
        let sum = product(features, |number| self.weights.get(number).map(|weight| f64::from(*weight)));
        sigmoid(self.bias + self.scale * sum)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    features: u32,
    fitted: String,
    turns: u64,
    data: Digest,
    quality_loss: f64,
    share: f64,
    auc: f64,
    threshold: f64,
    bias: f64,
    scale: f64,
    weights: String,
    check: Digest,
}

impl File {
    /// Over every value as it is used.
    fn check(&self) -> Digest {
        let numbers = [self.quality_loss, self.share, self.auc, self.threshold, self.bias, self.scale];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_bits().to_le_bytes()).collect();
        let counts: Vec<u8> = [u64::from(self.version), u64::from(self.features), self.turns]
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect();
        let texts = [self.fitted.as_bytes(), self.data.as_bytes(), self.weights.as_bytes()];
        let [fitted, data, weights] = texts;
        Digest::of("chela tier model 1", &[&counts, fitted, data, &numbers, weights])
    }
}

impl Scorer {
    /// What it says of a request.
    pub fn score(&self, features: &Features) -> Score {
        Score { enough: self.line.score(features), threshold: self.threshold }
    }

    /// Whether it was fitted on this.
    pub fn is_of(&self, data: &Digest) -> bool {
        self.about.data == *data
    }

    /// One line about it: when and on what it was fitted, and what may be lost.
    pub fn about(&self) -> String {
        let About { fitted, turns, data, quality_loss, .. } = &self.about;
        let loss = quality_loss * 100.0;
        format!(
            "fitted {fitted} on {turns} turns ({}), to lose at most {loss} % of the quality",
            data.short()
        )
    }

    /// As a file.
    ///
    /// # Errors
    /// None that is known of: every value is a number or a text.
    pub fn to_toml(&self) -> Result<String, ScorerError> {
        let about = self.about.clone();
        let bytes: Vec<u8> = self.line.weights.iter().map(|weight| weight.to_le_bytes()[0]).collect();
        let mut file = File {
            version: VERSION,
            features: FEATURES_VERSION,
            fitted: about.fitted,
            turns: about.turns,
            data: about.data,
            quality_loss: about.quality_loss,
            share: about.share,
            auc: about.auc,
            threshold: self.threshold,
            bias: self.line.bias,
            scale: self.line.scale,
            weights: STANDARD.encode(bytes),
            check: about.data,
        };
        file.check = file.check();
        let body = toml::to_string(&file).map_err(|error| ScorerError(error.to_string()))?;
        Ok(format!("# Made by `chela tier fit`. Changed by hand, it is refused.\n{body}"))
    }

    /// From a file.
    ///
    /// # Errors
    /// [`ScorerError`] if anything is off.
    pub fn parse(text: &str) -> Result<Self, ScorerError> {
        let wrong = |what: &str| ScorerError(what.to_owned());
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong("it is larger than any model of a tier is"));
        }
        let file: File =
            toml::from_str(text).map_err(|_| wrong("it is no file that `chela tier fit` made"))?;
        if file.version != VERSION || file.features != FEATURES_VERSION {
            return Err(wrong("it was fitted by another version of Chela: fit it again"));
        }
        if file.check() != file.check {
            return Err(wrong("it was changed after it was fitted"));
        }
        let bytes = STANDARD.decode(&file.weights).map_err(|_| wrong("its weights cannot be read"))?;
        let weights: Vec<i8> = bytes.into_iter().map(|byte| i8::from_le_bytes([byte])).collect();
        let is_bounded = |number: f64| number.is_finite() && number.abs() <= SIZE_MAX;
        let is_share = |number: f64| (0.0..=1.0).contains(&number);
        let shares = [file.quality_loss, file.share, file.auc, file.threshold];
        let sound = weights.len() == COUNT
            && is_bounded(file.bias)
            && is_bounded(file.scale)
            && file.scale > 0.0
            && shares.into_iter().all(is_share);
        if !sound {
            return Err(wrong("its numbers are none that a fit comes to"));
        }
        let line = Quantised { weights, scale: file.scale, bias: file.bias };
        let about = About {
            fitted: file.fitted,
            turns: file.turns,
            data: file.data,
            quality_loss: file.quality_loss,
            share: file.share,
            auc: file.auc,
        };
        Ok(Self { line, threshold: file.threshold, about })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One that says how likely each text is good enough by its length alone: from 1 downwards.
    pub(crate) fn by_length(threshold: f64) -> Scorer {
        let mut weights = vec![0.0; COUNT];
        let length = COUNT - 9;
        weights[length] = -10.0;
        let about = About {
            fitted: "2026-11-30T00:00:00Z".to_owned(),
            turns: 1_000,
            data: Digest::of("test", &[]),
            quality_loss: 0.01,
            share: 0.4,
            auc: 0.8,
        };
        Scorer { line: Quantised::of(&Line { weights, bias: 4.0 }), threshold, about }
    }

    #[test]
    fn a_file_says_what_was_fitted() {
        let scorer = by_length(0.71);
        let text = scorer.to_toml().unwrap();
        assert_eq!(Scorer::parse(&text).unwrap(), scorer);
        assert!((text.len() as u64) < FILE_BYTES_MAX / 8, "{}", text.len());
        let (short, long) = (Features::of(None, ["hi"]), Features::of(None, ["a".repeat(900).as_str()]));
        assert!(scorer.score(&short).is_enough() && !scorer.score(&long).is_enough());
        assert_eq!(scorer.score(&short).to_string(), "0.947 ≥ 0.710");
    }

    #[test]
    fn a_file_that_is_off_is_refused() {
        let text = by_length(0.71).to_toml().unwrap();
        for (from, to, told) in [
            ("version = 1", "version = 2", "another version"),
            ("features = 2", "features = 3", "another version"),
            ("threshold = 0.71", "threshold = 0.5", "changed"),
            ("turns = 1000", "turns = 100000", "changed"),
            ("bias = 4.0", "bias = nan", "changed"),
            ("weights = \"", "weights = \"AAAA", "changed"),
            ("threshold", "treshold", "no file"),
            ("version = 1", "version = 1\nmore = 1", "no file"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            let error = Scorer::parse(&bad).unwrap_err().to_string();
            assert!(error.contains(told), "{to}: {error}");
        }
        for bad in [String::new(), "x".repeat(100_000), "[[".to_owned()] {
            assert!(Scorer::parse(&bad).is_err());
        }
    }

    #[test]
    fn numbers_that_no_fit_comes_to_are_refused_though_the_check_holds() {
        for change in [
            |scorer: &mut Scorer| scorer.threshold = f64::NAN,
            |scorer: &mut Scorer| scorer.threshold = 1.5,
            |scorer: &mut Scorer| scorer.line.bias = f64::INFINITY,
            |scorer: &mut Scorer| scorer.line.scale = 0.0,
            |scorer: &mut Scorer| scorer.line.scale = 1e300,
            |scorer: &mut Scorer| scorer.about.share = -0.1,
            |scorer: &mut Scorer| scorer.line.weights.truncate(COUNT - 1),
        ] {
            let mut scorer = by_length(0.5);
            change(&mut scorer);
            let error = Scorer::parse(&scorer.to_toml().unwrap()).unwrap_err().to_string();
            assert!(error.contains("none that a fit comes to"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_corrupted_file_is_refused_or_scores_a_number(at in any::<prop::sample::Index>(), byte in any::<u8>(), said in ".{0,200}") {
            let mut bytes = by_length(0.5).to_toml().unwrap().into_bytes();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            if let Ok(scorer) = Scorer::parse(&String::from_utf8_lossy(&bytes)) {
                let score = scorer.score(&Features::of(None, [said.as_str()]));
                prop_assert!((0.0..=1.0).contains(&score.enough), "{score:?}");
            }
        }
    }
}
