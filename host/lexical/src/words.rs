//! The words of a text, in order, each with its kind.
//!
//! What is no plain word (a number, a code, an address) is kept as it was written: cut at its punctuation, `INV-2043`
//! would be a word and a number that other questions have too. Lower case is not full case folding: `ß` stays, for
//! *Maßen* are not *Massen*.

use chela_types::{Blame, Fault, Retry};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Longer texts are not read: what long texts have in common says little of their answers.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// A text is longer than what is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text of {bytes} bytes is longer than the {TEXT_BYTES_MAX} that are read for likeness")]
pub struct TooLong {
    /// Its length, in bytes.
    pub bytes: usize,
}

impl Fault for TooLong {
    fn blame(&self) -> Blame {
        Blame::Sender
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// What a word is by its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Letters.
    Word,
    /// `42`, `-3.5`, `10,000`.
    Number,
    /// `15%`.
    Percent,
    /// `$10`, `990€`.
    Money,
    /// `2026-05-03`, `3.5.2026`, `5/3/2026`.
    Date,
    /// `8:00`, `8:00pm`.
    Time,
    /// Letters with digits or signs: `INV-2043`, `C++`, `config.yaml`.
    Identifier,
    /// `@lena`.
    Mention,
    /// `security@example.com`.
    Email,
    /// `https://example.com/eu`.
    Url,
    /// Signs alone that say something: `<`, `->`.
    Symbol,
}

/// One word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Normalised (NFKC); a plain word in lower case, anything else as written.
    pub text: String,
    /// Normalised (NFKC), as written.
    pub shown: String,
    /// What it is.
    pub kind: Kind,
    /// It is the first of a sentence, where a capital letter says nothing.
    pub opens: bool,
    /// It stands in quotation marks.
    pub quoted: bool,
    /// It ends in `'s`, which `text` and `shown` leave out.
    pub possessive: bool,
}

impl Word {
    /// All its letters are capitals, and there are two at least.
    pub fn is_capitals(&self) -> bool {
        let mut letters = self.shown.chars().filter(|letter| letter.is_alphabetic());
        letters.clone().count() > 1 && letters.all(char::is_uppercase)
    }

    fn is_amount(&self) -> bool {
        matches!(self.kind, Kind::Number | Kind::Percent | Kind::Money)
    }

    /// A capital letter that is not the sentence's: within the word, or at its beginning amid a sentence.
    pub fn is_capitalised(&self) -> bool {
        let mut letters = self.shown.chars();
        let first = letters.next().is_some_and(char::is_uppercase);
        letters.any(char::is_uppercase) || (first && !self.opens)
    }
}

const QUOTES: &str = "\"“”„«»`";
const EDGES: &str = "\"“”„«»`.,;:!?()[]{}'‘…¿¡–—*_~";
/// Before a number they count.
const SIGNS: &str = "-–—~.,";
const CURRENCIES: &str = "$€£¥₹";

/// The words of `text`.
///
/// # Errors
///
/// If it is longer than [`TEXT_BYTES_MAX`].
pub fn words(text: &str) -> Result<Vec<Word>, TooLong> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TooLong { bytes: text.len() });
    }
    // `10²` is not `102`.
    let raised = |sign: char| matches!(sign, '¹' | '²' | '³' | '⁰' | '⁴'..='⁹').then_some('^');
    let text = text.chars().flat_map(|sign| raised(sign).into_iter().chain([sign]));
    let text: String = text.nfkc().map(|sign| if matches!(sign, '’' | 'ʼ') { '\'' } else { sign }).collect();
    let mut found = Vec::new();
    let (mut opens, mut inside) = (true, false);
    for chunk in text.split_whitespace() {
        let quoted = inside || chunk.starts_with(|sign| QUOTES.contains(sign));
        let before = found.len();
        read(chunk, opens, quoted, &mut found);
        opens = (opens && before == found.len()) || chunk.ends_with(['.', '!', '?', ':', '…']);
        inside ^= chunk.chars().filter(|sign| QUOTES.contains(*sign)).count() % 2 == 1;
    }
    Ok(found)
}

/// The words of what stands between two spaces.
fn read(chunk: &str, opens: bool, quoted: bool, found: &mut Vec<Word>) {
    let is_operator =
        matches!(chunk, "-" | "–" | "—" | "*" | "~") && found.last().is_some_and(Word::is_amount);
    let core = if is_operator { chunk } else { core(chunk) };
    let (core, possessive) = match core.strip_suffix("'s").or_else(|| core.strip_suffix("'S")) {
        Some(owner) => (owner, true),
        None => (core, false),
    };
    let kind = kind(core);
    let word = |shown: &str, kind: Kind, opens: bool| {
        let text = if kind == Kind::Word { lower(shown) } else { shown.to_owned() };
        Word { text, shown: shown.to_owned(), kind, opens, quoted, possessive: false }
    };
    let before = found.len();
    match kind {
        None => {}
        Some(Kind::Word) => {
            for (at, part) in core.unicode_words().enumerate() {
                let kind = if part.contains(['.', ':']) { Kind::Identifier } else { Kind::Word };
                found.push(word(part, kind, opens && at == 0));
            }
        }
        Some(kind) => found.push(word(core, kind, opens)),
    }
    if found.len() > before
        && let Some(last) = found.last_mut()
    {
        last.possessive = possessive;
    }
}

/// What stands between the punctuation. What says something of what follows is no punctuation: `-5`, `–5`, `.5`, `-€5`,
/// `!=`, `--all`, `.env`, `~/bin`, `__init__`.
fn core(chunk: &str) -> &str {
    let begun = chunk.trim_end_matches(|sign| EDGES.contains(sign)).trim_end_matches('-');
    let opened = begun.trim_start_matches(|sign| EDGES.contains(sign) && !SIGNS.contains(sign));
    let bare = opened.trim_start_matches(|sign| SIGNS.contains(sign) || CURRENCIES.contains(sign));
    let is_signed = bare.len() < opened.len() && bare.starts_with(char::is_numeric);
    let is_code = ["/", "~/", "*.", "./", "../", "->"].iter().any(|start| begun.starts_with(start))
        || begun
            .strip_prefix(['.', '-'])
            .is_some_and(|rest| rest.trim_start_matches('-').starts_with(char::is_alphabetic));
    if chunk.starts_with("__") && chunk.len() > begun.len() {
        chunk.trim_end_matches(['.', ',', ';', ':', '!', '?', ')'])
    } else if is_code || !chunk.chars().any(char::is_alphanumeric) {
        begun
    } else if is_signed {
        opened
    } else {
        opened.trim_start_matches(|sign| EDGES.contains(sign) || sign == '-')
    }
}

fn lower(word: &str) -> String {
    word.to_lowercase().nfkc().collect()
}

/// What the text between two spaces is; nothing, if it only punctuates.
fn kind(core: &str) -> Option<Kind> {
    let digits = core.chars().any(char::is_numeric);
    let plain =
        |sign: char| sign.is_alphanumeric() || matches!(sign, '-' | '\'' | '.' | '/' | ',' | ';' | ':');
    let kind = if core.is_empty() {
        return None;
    } else if let Some(name) = core.strip_prefix('@') {
        if name.is_empty() { Kind::Symbol } else { Kind::Mention }
    } else if core.contains("://") || core.starts_with("www.") {
        Kind::Url
    } else if let Some((_, domain)) = core.split_once('@') {
        if domain.contains('.') { Kind::Email } else { Kind::Identifier }
    } else if digits {
        with_digits(core)
    } else if !core.chars().any(char::is_alphanumeric) {
        Kind::Symbol
    } else if core.starts_with(['.', '-', '/', '~', '*', '_']) {
        Kind::Identifier
    } else if core.chars().all(|sign| plain(sign) || EDGES.contains(sign)) {
        Kind::Word
    } else {
        Kind::Identifier
    };
    Some(kind)
}

fn with_digits(core: &str) -> Kind {
    let is_number = |text: &str| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && text.chars().all(|sign| sign.is_ascii_digit() || matches!(sign, '.' | ',' | '\''))
    };
    let money = core.trim_matches(|sign| CURRENCIES.contains(sign));
    if is_number(core) && !is_date(core, '.') {
        Kind::Number
    } else if core.strip_suffix(['%', '‰']).is_some_and(is_number) {
        Kind::Percent
    } else if money.len() < core.len() && is_number(money) {
        Kind::Money
    } else if ['-', '/', '.'].into_iter().any(|between| is_date(core, between)) {
        Kind::Date
    } else if is_time(core) {
        Kind::Time
    } else {
        Kind::Identifier
    }
}

/// Three numbers of which one may be a year.
fn is_date(core: &str, between: char) -> bool {
    let parts: Vec<&str> = core.split(between).collect();
    let number =
        |part: &&str| matches!(part.len(), 1 | 2 | 4) && part.bytes().all(|digit| digit.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(number) && parts.iter().filter(|part| part.len() == 4).count() < 2
}

fn is_time(core: &str) -> bool {
    let lower = core.to_ascii_lowercase();
    let core = lower.trim_end_matches("am").trim_end_matches("pm");
    let parts: Vec<&str> = core.split(':').collect();
    let number =
        |part: &&str| matches!(part.len(), 1 | 2) && part.bytes().all(|digit| digit.is_ascii_digit());
    matches!(parts.len(), 2 | 3) && parts.iter().all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(String, Kind)> {
        words(text).unwrap().into_iter().map(|word| (word.text, word.kind)).collect()
    }

    #[test]
    fn each_word_has_its_kind() {
        let table: &[(&str, &[(&str, Kind)])] = &[
            (
                "Ｒｅｓｅｔ my Password!",
                &[("reset", Kind::Word), ("my", Kind::Word), ("password", Kind::Word)],
            ),
            ("two-factor", &[("two", Kind::Word), ("factor", Kind::Word)]),
            ("(INV-2043),", &[("INV-2043", Kind::Identifier)]),
            ("C++ or C#", &[("C++", Kind::Identifier), ("or", Kind::Word), ("C#", Kind::Identifier)]),
            ("-3.5 10,000 1.31", &[("-3.5", Kind::Number), ("10,000", Kind::Number), ("1.31", Kind::Number)]),
            ("15% $10 990€", &[("15%", Kind::Percent), ("$10", Kind::Money), ("990€", Kind::Money)]),
            ("2026-05-03 3.5.2026.", &[("2026-05-03", Kind::Date), ("3.5.2026", Kind::Date)]),
            ("8:00 8:30pm", &[("8:00", Kind::Time), ("8:30pm", Kind::Time)]),
            ("@lena a@b.example", &[("@lena", Kind::Mention), ("a@b.example", Kind::Email)]),
            ("https://x.example/EU?", &[("https://x.example/EU", Kind::Url)]),
            ("5 < 6 :) --", &[("5", Kind::Number), ("<", Kind::Symbol), ("6", Kind::Number)]),
            ("config.yaml", &[("config.yaml", Kind::Identifier)]),
            ("  …  ", &[]),
        ];
        for (text, expected) in table {
            let expected: Vec<(String, Kind)> = expected.iter().map(|(t, k)| ((*t).to_owned(), *k)).collect();
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    #[test]
    fn where_a_sentence_begins_a_capital_says_nothing() {
        let found = words("Hello. Is Anna at macOS? \"the API\" it’s Anna's").unwrap();
        let capitals: Vec<&str> =
            found.iter().filter(|word| word.is_capitalised()).map(|word| word.text.as_str()).collect();
        assert_eq!(capitals, ["anna", "macos", "api", "anna"]);
        let quoted: Vec<&str> =
            found.iter().filter(|word| word.quoted).map(|word| word.text.as_str()).collect();
        assert_eq!(quoted, ["the", "api"]);
        assert_eq!(found.iter().filter(|word| word.possessive).count(), 2);
    }

    #[test]
    fn a_long_text_is_refused() {
        assert!(words(&"a".repeat(TEXT_BYTES_MAX)).is_ok());
        assert_eq!(words(&"a".repeat(TEXT_BYTES_MAX + 1)), Err(TooLong { bytes: TEXT_BYTES_MAX + 1 }));
    }
}
