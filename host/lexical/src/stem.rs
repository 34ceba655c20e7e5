//! A word without its number: *invoices* is *invoice*, *Rechnungen* is *Rechnung*.
//!
//! No more than that. The stemmers of search engines (Porter's, Snowball's) make one of *university* and *universe*,
//! *customer* and *custom*, *training* and *train*, *operator* and *operation*: good for finding pages, and another
//! answer for a question.

use crate::Language;

/// Words in `s` that are no plural, or mean something else than their singular.
const NOT_PLURALS: &[&str] = &[
    "accounts",
    "adams",
    "always",
    "andrews",
    "arms",
    "assets",
    "clothes",
    "contents",
    "customs",
    "damages",
    "daniels",
    "duties",
    "earnings",
    "edwards",
    "funds",
    "glasses",
    "goods",
    "grounds",
    "headquarters",
    "interests",
    "jacobs",
    "less",
    "means",
    "minutes",
    "news",
    "perhaps",
    "peters",
    "phillips",
    "premises",
    "proceeds",
    "richards",
    "rights",
    "roberts",
    "rogers",
    "sales",
    "savings",
    "securities",
    "series",
    "simons",
    "species",
    "stairs",
    "stevens",
    "stocks",
    "teams",
    "terms",
    "thanks",
    "williams",
    "windows",
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

/// Plurals of words that can be nothing else. A bare `-e`, `-n` or `-en` makes *Simon* of *Simone*, *Christian* of
/// *Christiane*, *Schuld* of *Schulden* and *Recht* of *Rechte*.
fn german(word: &str) -> Option<String> {
    let start = word.strip_suffix("en")?;
    let endings = ["ung", "heit", "keit", "schaft", "ion", "tät"];
    endings.iter().any(|ending| start.ends_with(ending)).then(|| start.to_owned())
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
        let german = [("rechnungen", "rechnung"), ("universitäten", "universität"), ("kunden", "kunden")];
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
            ("securities", "security"),
            ("teams", "team"),
            ("rogers", "roger"),
        ];
        for (one, other) in pairs {
            assert_ne!(stem(one, Language::English), stem(other, Language::English), "{one}, {other}");
        }
        for (one, other) in
            [("mieter", "miete"), ("simone", "simon"), ("schulden", "schuld"), ("rechte", "recht")]
        {
            assert_ne!(stem(one, Language::German), stem(other, Language::German), "{one}, {other}");
        }
    }
}
