//! How a text looks, as a vector: hashed word 1–2-grams and character 3–5-grams.
//!
//! A feature is hashed by FNV-1a (64 bits) and a finalising mix (that of SplitMix64); the lowest bits name its bucket,
//! the highest its sign, so that what collides cancels out on average. The hash and the weights are part of what is
//! kept: a test holds them to values that do not change.

use crate::words::{TooLong, words};
use std::collections::BTreeMap;

/// Buckets of a sparse vector.
pub const BUCKETS: usize = 1 << 14;
/// Fewest dimensions of a dense form.
pub const DENSE_MIN: usize = 384;
/// Most dimensions of a dense form.
pub const DENSE_MAX: usize = 1024;

const WORD_WEIGHT: f32 = 1.0;
const PAIR_WEIGHT: f32 = 0.7;
/// A word of seven letters has about a dozen of these.
const LETTERS_WEIGHT: f32 = 0.3;

/// A sparse vector of length 1, or 0 for a text without words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vector {
    /// Bucket and value, buckets ascending.
    entries: Vec<(u16, f32)>,
}

impl Vector {
    /// The vector of `text`.
    ///
    /// # Errors
    ///
    /// If the text is longer than [`crate::TEXT_BYTES_MAX`].
    pub fn of(text: &str) -> Result<Self, TooLong> {
        let words = words(text)?;
        let mut buckets = BTreeMap::new();
        let mut before: Option<&str> = None;
        for word in &words {
            add(&mut buckets, &["w", &word.text], WORD_WEIGHT);
            if let Some(before) = before {
                add(&mut buckets, &["p", before, &word.text], PAIR_WEIGHT);
            }
            letters(&mut buckets, &word.text);
            before = Some(&word.text);
        }
        let mut entries: Vec<(u16, f32)> = buckets.into_iter().filter(|(_, value)| *value != 0.0).collect();
        let length = length(entries.iter().map(|(_, value)| *value));
        entries.iter_mut().for_each(|(_, value)| *value /= length);
        Ok(Self { entries })
    }

    /// The same in `dims` dimensions, of length 1: what serves as an embedding where none is configured. Absent, unless
    /// `dims` is between [`DENSE_MIN`] and [`DENSE_MAX`].
    pub fn dense(&self, dims: usize) -> Option<Vec<f32>> {
        if !(DENSE_MIN..=DENSE_MAX).contains(&dims) {
            return None;
        }
        let mut dense = vec![0.0; dims];
        for (bucket, value) in &self.entries {
            let hash = hash(&["d", &bucket.to_string()]);
            let place = usize::try_from((hash & u64::from(u32::MAX)) % dims as u64).unwrap_or_default();
            if let Some(place) = dense.get_mut(place) {
                *place += signed(hash, *value);
            }
        }
        let length = length(dense.iter().copied());
        dense.iter_mut().for_each(|value| *value /= length);
        Some(dense)
    }

    /// What the text has, by its number, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = u16> {
        self.entries.iter().map(|(bucket, _)| *bucket)
    }

    /// Whether the text had no words.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// How alike two texts look: 1 for the same words in the same order, about 0 for nothing in common.
pub fn cosine(one: &Vector, other: &Vector) -> f32 {
    let mut sum = 0.0;
    let mut others = other.entries.iter().peekable();
    for (bucket, value) in &one.entries {
        while others.next_if(|(other, _)| other < bucket).is_some() {}
        if let Some((_, other)) = others.next_if(|(other, _)| other == bucket) {
            sum += value * other;
        }
    }
    sum.clamp(-1.0, 1.0)
}

fn letters(buckets: &mut BTreeMap<u16, f32>, word: &str) {
    let padded: Vec<char> = std::iter::once(' ').chain(word.chars()).chain([' ']).collect();
    for size in 3..=5 {
        for gram in padded.windows(size) {
            add(buckets, &["c", &gram.iter().collect::<String>()], LETTERS_WEIGHT);
        }
    }
}

fn add(buckets: &mut BTreeMap<u16, f32>, parts: &[&str], weight: f32) {
    let hash = hash(parts);
    let bucket = u16::try_from(hash & (BUCKETS as u64 - 1)).unwrap_or_default();
    *buckets.entry(bucket).or_default() += signed(hash, weight);
}

pub(crate) fn signed(hash: u64, value: f32) -> f32 {
    if hash >> 63 == 0 { value } else { -value }
}

/// The length of a vector; 1 for none, so that it may be divided by.
pub(crate) fn length(values: impl Iterator<Item = f32>) -> f32 {
    let length = values.map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}

/// FNV-1a over the parts, a zero byte after each, then SplitMix64's finaliser.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> f32 {
        cosine(&Vector::of(one).unwrap(), &Vector::of(other).unwrap())
    }

    #[test]
    fn alike_is_near_and_other_is_far() {
        assert!((alike("Reset my password?", "reset my PASSWORD") - 1.0).abs() < 1e-5);
        let near = alike("How do I reset my password?", "How can I reset my password?");
        let far = alike("How do I reset my password?", "When does the canteen open?");
        assert!(near > 0.7 && near < 0.99, "{near}");
        assert!(far.abs() < 0.2, "{far}");
        assert!(alike("dog bites man", "man bites dog") < 0.95, "order counts");
        assert_eq!(alike("", "anything"), 0.0);
    }

    #[test]
    fn the_dense_form_keeps_what_is_near() {
        let dense = |text: &str| Vector::of(text).unwrap().dense(512).unwrap();
        let product = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let (one, two) = (dense("How do I reset my password?"), dense("How can I reset my password?"));
        let far = dense("When does the canteen open?");
        assert!((product(&one, &one) - 1.0).abs() < 1e-5);
        assert!(product(&one, &two) > 0.6 && product(&one, &far).abs() < 0.3);
        let vector = Vector::of("a").unwrap();
        for dims in [0, DENSE_MIN - 1, DENSE_MAX + 1, usize::MAX] {
            assert_eq!(vector.dense(dims), None);
        }
        assert_eq!(Vector::of("").unwrap().dense(DENSE_MIN).unwrap(), vec![0.0; DENSE_MIN]);
    }

    #[test]
    fn a_vector_is_the_same_in_every_version() {
        assert_eq!(hash(&[]), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(&["w", "order"]), 0x2f83_c679_c11f_07c2);
        // Worked out by another program: both words and their pair, by bucket, and the rest of them.
        let vector = Vector::of("Order 42").unwrap();
        let heavy: Vec<(u16, i32)> =
            vector.entries.iter().map(|(bucket, value)| (*bucket, (value * 1e4).round() as i32)).collect();
        let heavy: Vec<(u16, i32)> = heavy.into_iter().filter(|(_, value)| value.abs() > 3_000).collect();
        assert_eq!(heavy, [(1986, 5103), (2069, -5103), (5892, -3572)]);
        assert_eq!(vector.entries.len(), 18);
    }
}
