//! One form for questions that differ in nothing but how they are put.
//!
//! What goes: case, punctuation, politeness, contractions, articles, plurals, and where *is* and *do* stand. What stays,
//! in its order: everything else. Numbers, codes, dates and names stay as they are; so do words in capitals or
//! quotation marks that would else be dropped (`US` is not *us*).

use crate::Language;
use crate::lists::{Class, Lists};
use crate::reading::{Term, terms};

/// The one form of a question. Two that are equal ask the same, as far as this reading goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canonical(String);

/// A form is read again until it says the same twice; what does not settle in so many rounds has none.
const ROUNDS_MAX: usize = 8;

impl Canonical {
    /// The words, with single spaces.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The one form of `text`; none, if it is too long ([`crate::TEXT_BYTES_MAX`]), asks nothing, or is no prose.
///
/// It is its own form: `canonical(canonical(text)) == canonical(text)`.
pub fn canonical(text: &str, language: Language) -> Option<Canonical> {
    let mut form = round(text, language)?;
    for _ in 0..ROUNDS_MAX {
        let next = round(&form, language)?;
        if next == form {
            return Some(Canonical(form));
        }
        form = next;
    }
    None
}

fn round(text: &str, language: Language) -> Option<String> {
    let terms = terms(text, language).ok()?;
    let lists = Lists::of(language);
    let shown = terms.iter().filter(|term| term.exact || term.class != Class::Stop);
    let (helpers, words): (Vec<&Term>, Vec<&Term>) = shown.partition(|term| lists.helps(&term.text));
    let words: Vec<String> = words.into_iter().chain(helpers).map(|term| show(term, language)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn show(term: &Term, language: Language) -> String {
    // A name is no plural, and quotation marks keep the next reading from taking it for one.
    let like_plural =
        term.class == Class::Name && !term.exact && crate::stem::stem(&term.text, language) != term.text;
    let text = term.stemmed(language);
    let text = if term.marked || like_plural { format!("\"{text}\"") } else { text };
    if term.owns { text + "'s" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn english(text: &str) -> String {
        canonical(text, Language::English).map(|form| form.0).unwrap_or_default()
    }

    #[test]
    fn what_is_put_otherwise_is_one() {
        let table = [
            ("How do I reset my password?", "Hi, how can I reset my passwords please"),
            ("What's the status of order 48213?", "could you tell me what the status of order 48213 is"),
            ("Is it possible to pay by card?", "can i pay by card"),
            ("Why can't I log in?", "why can I not log in"),
        ];
        for (one, other) in table {
            assert_eq!(english(one), english(other));
        }
    }

    #[test]
    fn what_asks_for_something_else_is_another() {
        let table = [
            ("Is it allowed in the US?", "Is it allowed in the us?"),
            ("Who is Rogers?", "Who is Roger?"),
            ("What does \"the\" mean?", "What does \"a\" mean?"),
            ("Who is the policy owner", "Who is the police owner"),
            ("Is it just for managers?", "Is it for managers?"),
            ("May I ask Anna for it?", "Can I ask Anna for it?"),
            ("Rename A to B", "Rename B to A"),
            ("Is it in C++?", "Is it in C?"),
            ("Is 5 < 6?", "Is 5 > 6?"),
            ("Is it 10 Mb", "Is it 10 MB"),
            ("When are you open?", "When do you open?"),
            ("What does plan A cost?", "What does the plan cost?"),
            ("what does it cost on plan a", "what does it cost on the plan"),
            ("Who was the head?", "Who is the head?"),
            ("Who does Peter report to?", "Who reports to Peter?"),
        ];
        for (one, other) in table {
            assert_ne!(english(one), english(other));
        }
        let german = |text| canonical(text, Language::German);
        assert_ne!(german("Sieht der Kunde den Berater?"), german("Sieht den Kunden der Berater?"));
        assert_ne!(german("Wer ist Ihr Chef?"), german("Wer ist ihr Chef?"));
        assert_eq!(german("Hallo, wo finde ich die Rechnungen?"), german("wo finde ich die rechnung"));
    }

    #[test]
    fn what_asks_nothing_or_too_much_has_no_form() {
        for text in ["", " ?! ", "Hello", "Thank you so much!"] {
            assert_eq!(canonical(text, Language::English), None, "{text}");
        }
        assert_eq!(canonical(&"why ".repeat(crate::TEXT_BYTES_MAX), Language::English), None);
    }

    #[test]
    fn another_language_is_folded_and_no_more() {
        let french = |text| canonical(text, Language::Other).map(|form| form.0).unwrap_or_default();
        assert_eq!(french("Où sont  les Factures ?"), "où sont les factures");
        assert_ne!(french("Où est la facture ?"), french("Où sont les factures ?"));
    }

    const WORDS: &[&str] = &[
        "how", "do", "i", "the", "order", "invoices", "Berlin", "please", "can", "my", "status", "of",
        "from", "to", "48213", "INV-2043", "Windows", "US", "boxes", "what's", "team's", "will", "Thanks",
        "hello", "15%", "is",
    ];

    fn question() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(proptest::sample::select(WORDS).prop_map(ToOwned::to_owned), 1..12)
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(text in "\\PC{0,60}", words in question()) {
            for language in [Language::English, Language::German, Language::Other] {
                for text in [text.clone(), words.join(" ")] {
                    if let Some(form) = canonical(&text, language) {
                        prop_assert_eq!(canonical(form.as_str(), language).unwrap(), form);
                    }
                }
            }
        }

        #[test]
        fn a_negation_makes_another(words in question(), at in 0..12_usize, negation in 0..3_usize) {
            let before = canonical(&words.join(" "), Language::English);
            let mut words = words;
            words.insert(at.min(words.len()), ["not", "never", "without"][negation].to_owned());
            prop_assert_ne!(canonical(&words.join(" "), Language::English), before);
        }

        #[test]
        fn another_digit_makes_another(words in question(), number in 0..100_000_u32, place in 0..5_u32) {
            let with = |number: u32| canonical(&format!("{} {number}?", words.join(" ")), Language::English);
            let digit = number / 10_u32.pow(place) % 10;
            let other = if digit == 9 { number - 10_u32.pow(place) } else { number + 10_u32.pow(place) };
            prop_assert_ne!(with(number), with(other));
        }

        #[test]
        fn two_words_in_the_other_order_make_another(words in question()) {
            let said = |one: &str, other: &str| {
                canonical(&format!("{} {one} {} {other}", words.join(" "), words.join(" ")), Language::English)
            };
            prop_assert_ne!(said("supplier", "customer"), said("customer", "supplier"));
        }
    }
}
