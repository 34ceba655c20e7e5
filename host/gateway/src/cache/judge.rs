//! Whether two answers say the same: what a comparison of a kept answer with a real one is decided by.

use chela_lexical::{Language, canonical, verify};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Who decides. What is called wrong here is what the stated bound is about.
pub(crate) trait Judge: Send + Sync {
    /// Whether whoever got one of these answers was told what the other one tells.
    fn is_same<'a>(&'a self, kept: &'a str, real: &'a str) -> BoxFuture<'a, bool>;

    /// Its name and version: what was learned by another judge is not believed.
    fn name(&self) -> &'static str;
}

/// By words alone, and strictly: the same sentences in the same order, each equal in its one form or verified as one
/// question would be. Whatever it cannot tell alike is wrong, so it calls far more wrong than is, and never opens a band
/// for a model that says the same in other words each time.
#[derive(Debug)]
pub(crate) struct Lexical {
    pub(crate) language: Language,
}

impl Judge for Lexical {
    fn is_same<'a>(&'a self, kept: &'a str, real: &'a str) -> BoxFuture<'a, bool> {
        std::future::ready(self.is_alike(kept, real)).boxed()
    }

    fn name(&self) -> &'static str {
        "lexical 2"
    }
}

/// To read a longer one takes milliseconds: it has to be equal.
const SENTENCE_BYTES_MAX: usize = 1_024;

impl Lexical {
    fn is_alike(&self, kept: &str, real: &str) -> bool {
        if kept.trim() == real.trim() {
            return true;
        }
        let (kept, real) = (sentences(kept), sentences(real));
        kept.len() == real.len() && kept.iter().zip(&real).all(|(kept, real)| self.is_one(kept, real))
    }

    fn is_one(&self, kept: &str, real: &str) -> bool {
        if kept == real || kept.len().max(real.len()) > SENTENCE_BYTES_MAX {
            return kept == real;
        }
        let form = canonical(kept, self.language);
        (form.is_some() && form == canonical(real, self.language))
            || verify(kept, real, self.language).is_ok()
    }
}

/// A text by its sentences and lines.
fn sentences(text: &str) -> Vec<&str> {
    let ends = |(at, letter): (usize, char)| {
        let rest = text.get(at + letter.len_utf8()..).unwrap_or_default();
        let is_end =
            letter == '\n' || (matches!(letter, '.' | '!' | '?') && rest.starts_with(char::is_whitespace));
        is_end.then_some(at + letter.len_utf8())
    };
    let mut sentences = Vec::new();
    let mut begun = 0;
    for end in text.char_indices().filter_map(ends).chain([text.len()]) {
        let sentence = text.get(begun..end).unwrap_or_default().trim();
        if !sentence.is_empty() {
            sentences.push(sentence);
        }
        begun = end;
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_the_same_is_the_same() {
        let judge = Lexical { language: Language::English };
        for (kept, real, same) in [
            ("It costs $10.", "It costs $10.", true),
            ("It costs $10.", "it costs $10", true),
            ("It costs $10. Ask Anna.", "It costs $10.\n\nAsk Anna!", true),
            ("It costs $10.", "It costs $11.", false),
            ("You may.", "You may not.", false),
            ("It costs $10. Ask Anna.", "It costs $10.", false),
            ("It costs $10. Ask Anna.", "Ask Anna. It costs $10.", false),
            ("It is free of charge.", "You pay nothing.", false),
            ("", "It costs $10.", false),
            ("?", "!", false),
        ] {
            assert_eq!(judge.is_alike(kept, real), same, "{kept} | {real}");
            assert_eq!(judge.is_alike(real, kept), same, "{real} | {kept}");
        }
    }

    #[test]
    fn a_long_sentence_has_to_be_equal() {
        let judge = Lexical { language: Language::English };
        let sentence = "The printer is on the second floor. ";
        let (many, other) = (sentence.repeat(40), sentence.to_lowercase().repeat(40));
        assert!(judge.is_alike(&many, &other), "each of its sentences is short");
        let (long, other) = ("The printer ".repeat(100), "the printer ".repeat(100));
        assert!(judge.is_alike(&long, &long) && !judge.is_alike(&long, &other));
    }

    #[test]
    fn a_text_is_cut_at_its_sentences() {
        assert_eq!(sentences("One. Two is 3.5!\n\nThree?"), ["One.", "Two is 3.5!", "Three?"]);
        assert!(sentences(" \n ").is_empty());
    }
}
