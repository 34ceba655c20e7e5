//! A word without its number: *invoices* is *invoice*, *Rechnungen* is *Rechnung*.
//!
//! No more than that. The stemmers of search engines (Porter's, Snowball's) make one of *university* and *universe*,
//! *customer* and *custom*, *training* and *train*, *operator* and *operation*: good for finding pages, and another
//! answer for a question.

use crate::Language;

/// Words in `s` that are no plural, or mean something else than their singular.
const NOT_PLURALS: &[&str] = &[
    "always",
    "arms",
    "assets",
    "clothes",
    "contents",
    "customs",
    "earnings",
    "funds",
    "glasses",
    "goods",
    "grounds",
    "headquarters",
    "less",
    "means",
    "minutes",
    "news",
    "perhaps",
    "premises",
    "proceeds",
    "sales",
    "savings",
    "series",
    "species",
    "stairs",
    "stocks",
    "terms",
    "thanks",
    "works",
];

/// `word`, in lower case, without its ending of number. What comes out stays as it is.
pub(crate) fn stem(word: &str, language: Language) -> String {
    let mut word = word.to_owned();
    while let Some(shorter) = shorter(&word, language) {
        word = shorter;
    }
    word
}

fn shorter(word: &str, language: Language) -> Option<String> {
    match language {
        Language::English => english(word),
        Language::German => german(word),
        Language::Other => None,
    }
}

fn english(word: &str) -> Option<String> {
    if word.len() < 4 || NOT_PLURALS.contains(&word) {
        return None;
    }
    if let Some(start) = word.strip_suffix("ies").filter(|start| start.len() > 2) {
        return Some(format!("{start}y"));
    }
    if ["ches", "shes", "sses", "xes", "zzes"].iter().any(|ending| word.ends_with(ending)) {
        return word.strip_suffix("es").map(ToOwned::to_owned);
    }
    let other = ["ss", "us", "is", "as", "os", "ics", "'s"].iter().any(|ending| word.ends_with(ending));
    word.strip_suffix('s').filter(|_| !other).map(ToOwned::to_owned)
}

/// Endings of plural and case that make no other word: `-er` would make *Miete* of *Mieter*.
fn german(word: &str) -> Option<String> {
    let long = |start: &&str| start.chars().count() >= 5;
    ["en", "e", "n"].iter().find_map(|ending| word.strip_suffix(ending).filter(long)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_goes_and_nothing_else() {
        let english = [
            ("invoices", "invoice"),
            ("companies", "company"),
            ("boxes", "box"),
            ("branches", "branch"),
            ("licenses", "license"),
            ("access", "access"),
            ("status", "status"),
            ("analysis", "analysis"),
            ("sales", "sales"),
            ("training", "training"),
            ("approved", "approved"),
        ];
        for (word, expected) in english {
            assert_eq!(stem(word, Language::English), expected, "{word}");
        }
        let german =
            [("rechnungen", "rechnung"), ("verträge", "verträg"), ("kunden", "kunde"), ("mieter", "mieter")];
        for (word, expected) in german {
            assert_eq!(stem(word, Language::German), expected, "{word}");
        }
    }

    #[test]
    fn other_words_stay_apart() {
        let pairs = [
            ("policy", "police"),
            ("university", "universe"),
            ("customer", "custom"),
            ("customs", "custom"),
            ("training", "train"),
            ("operator", "operation"),
            ("accounting", "account"),
            ("sales", "sale"),
            ("minutes", "minute"),
        ];
        for (one, other) in pairs {
            assert_ne!(stem(one, Language::English), stem(other, Language::English), "{one}, {other}");
        }
        for (one, other) in [("mieter", "miete"), ("reise", "reis"), ("lager", "lage")] {
            assert_ne!(stem(one, Language::German), stem(other, Language::German), "{one}, {other}");
        }
    }
}
