//! The words of a text as hashed features, for a scorer that learns what each of them weighs.

use crate::vector::{hash, length, signed};
use crate::words::Word;
use std::collections::BTreeMap;

/// Word 1–2-grams hashed into `buckets`: bucket and value, buckets ascending, of length 1; none for a text without words.
/// They are the same in every version: weights that were learned for them are kept.
pub fn grams(words: &[Word], buckets: u16) -> Vec<(u16, f32)> {
    let mut found: BTreeMap<u16, f32> = BTreeMap::new();
    let mut add = |parts: &[&str]| {
        let hash = hash(parts);
        let bucket = u16::try_from(hash % u64::from(buckets.max(1))).unwrap_or_default();
        *found.entry(bucket).or_default() += signed(hash, 1.0);
    };
    let mut before: Option<&str> = None;
    for word in words {
        add(&["w", &word.text]);
        if let Some(before) = before {
            add(&["p", before, &word.text]);
        }
        before = Some(&word.text);
    }
    let mut found: Vec<(u16, f32)> = found.into_iter().filter(|(_, value)| *value != 0.0).collect();
    let length = length(found.iter().map(|(_, value)| *value));
    found.iter_mut().for_each(|(_, value)| *value /= length);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;

    fn of(text: &str, buckets: u16) -> Vec<(u16, f32)> {
        grams(&words(text).unwrap(), buckets)
    }

    #[test]
    fn words_and_their_pairs_are_counted_once_each() {
        let found = of("Order 42", 4_096);
        assert_eq!(found.len(), 3);
        assert!((found.iter().map(|(_, value)| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(of("order 42!", 4_096), found);
        assert_ne!(of("42 order", 4_096), found, "order counts");
        assert!(of("", 4_096).is_empty());
    }

    #[test]
    fn a_bucket_is_one_of_those_there_are() {
        for buckets in [0, 1, 7, u16::MAX] {
            let found = of("a b c d e f g h", buckets);
            assert!(found.iter().all(|(bucket, _)| *bucket < buckets.max(1)), "{buckets}");
        }
    }

    #[test]
    fn a_word_has_the_bucket_that_it_had() {
        // The lowest twelve bits of what is held for the same hash in `vector.rs`.
        let found = of("order", 4_096);
        assert_eq!(found, [(0x7c2, 1.0)]);
    }
}
