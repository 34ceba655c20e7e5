//! Texts as words that compare equal where a reader would say they are the same.

use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

/// Folds a text: compatibility forms (ﬁ, full width) become plain, case goes, soft hyphens and zero-width
/// marks go. Lower case of upper case is full case folding for all but a few letters (ß becomes ss).
pub(crate) fn fold(text: &str) -> String {
    let upper: String = text.nfkc().filter(|c| !is_invisible(*c)).flat_map(char::to_uppercase).collect();
    upper.chars().flat_map(char::to_lowercase).map(plain_sigma).nfkc().collect()
}

/// The words of a folded text, without spaces and punctuation.
pub(crate) fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded.unicode_words()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

fn plain_sigma(c: char) -> char {
    if c == 'ς' { 'σ' } else { c }
}
