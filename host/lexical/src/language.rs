//! The language that a text is read in. It is configured and never guessed: a wrong guess would drop words that count.

use serde::{Deserialize, Serialize};

/// Whose lists of words apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    English,
    /// German.
    German,
    /// Any other: case, spaces and punctuation are folded, nothing else.
    Other,
}

impl Language {
    /// The language of a tag such as `en`, `de-AT` or `fr`.
    pub fn of_tag(tag: &str) -> Self {
        match tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "en" => Self::English,
            "de" => Self::German,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tags_first_part_decides() {
        let table = [
            ("en", Language::English),
            ("EN-gb", Language::English),
            ("de_AT", Language::German),
            ("fr", Language::Other),
            ("", Language::Other),
        ];
        for (tag, language) in table {
            assert_eq!(Language::of_tag(tag), language, "{tag}");
        }
    }
}
