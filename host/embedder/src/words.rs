//! A text as numbers of words: BERT's rules, then WordPiece, which takes the longest beginning that the list of words has.
//!
//! By the letter as Hugging Face's tokenizers do it, down to their blocks of Chinese characters, but for one thing: `[SEP]`
//! in a text is what somebody wrote, and no end.

use std::collections::HashMap;
use std::fs;

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use crate::folder::Rules;
use crate::{Error, Folder};

/// A word of more characters is not looked for.
const WORD_CHARS_MAX: usize = 100;
/// Before the parts of a word that do not begin it.
const GOES_ON: &str = "##";

/// The list of words, and how a text is cut into them.
#[derive(Debug)]
pub(crate) struct Words {
    ids: HashMap<String, u32>,
    rules: Rules,
    unknown: u32,
    begin: u32,
    end: u32,
}

/// A text, begun and ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) is_cut: bool,
}

impl Words {
    /// Reads `vocab.txt`: a word on each line, its number is the line's.
    pub(crate) fn read(folder: &Folder) -> Result<Self, Error> {
        let file = folder.file("vocab.txt");
        let text = fs::read_to_string(&file).map_err(|source| Error::Read { file: file.clone(), source })?;
        let size = folder.shape().vocab_size;
        let ids: HashMap<String, u32> =
            text.lines().zip(0..).map(|(word, id)| (word.trim_end().to_owned(), id)).collect();
        let lines = text.lines().count();
        if lines > size {
            return Err(Error::wrong(&file, format!("has {lines} words, and the model {size}")));
        }
        let needed = |word: &str| {
            ids.get(word).copied().ok_or_else(|| Error::wrong(&file, format!("has no word `{word}`")))
        };
        let (unknown, begin, end) = (needed("[UNK]")?, needed("[CLS]")?, needed("[SEP]")?);
        Ok(Self { unknown, begin, end, rules: folder.rules().clone(), ids })
    }

    /// At most so many of them, three at least.
    pub(crate) fn tokens(&self, text: &str, most: usize) -> Tokens {
        let room = most.saturating_sub(1);
        let (mut ids, mut word) = (vec![self.begin], String::new());
        for c in self.letters(text) {
            let is_apart = is_punctuation(c);
            if !is_apart && c != ' ' {
                word.push(c);
                continue;
            }
            self.pieces(&std::mem::take(&mut word), &mut ids);
            if is_apart {
                self.pieces(c.encode_utf8(&mut [0; 4]), &mut ids);
            }
            if ids.len() > room {
                break;
            }
        }
        self.pieces(&word, &mut ids);
        let is_cut = ids.len() > room;
        ids.truncate(room);
        ids.push(self.end);
        Tokens { ids, is_cut }
    }

    /// The letters of a text as the list of words has them: every space is one, and what is no letter is gone.
    fn letters<'a>(&self, text: &'a str) -> Box<dyn Iterator<Item = char> + 'a> {
        let apart = self.rules.tokenize_chinese_chars;
        let clean = text.chars().filter(|&c| !is_dropped(c)).map(|c| if c.is_whitespace() { ' ' } else { c });
        let spaced = clean.flat_map(move |c| {
            let space = (apart && is_chinese(c)).then_some(' ');
            space.into_iter().chain([c]).chain(space)
        });
        let is_lower = self.rules.do_lower_case;
        let bare: Box<dyn Iterator<Item = char> + 'a> = match self.rules.strip_accents.unwrap_or(is_lower) {
            true => {
                Box::new(spaced.nfd().filter(|c| c.general_category() != GeneralCategory::NonspacingMark))
            }
            false => Box::new(spaced),
        };
        match is_lower {
            true => Box::new(bare.flat_map(char::to_lowercase)),
            false => bare,
        }
    }

    /// Adds the parts of a word; one that cannot be put together of them is unknown as a whole.
    fn pieces(&self, word: &str, ids: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = ids.len();
        let mut rest = word;
        let is_long = word.chars().count() > WORD_CHARS_MAX;
        while !rest.is_empty() && !is_long {
            let Some((id, after)) = self.longest(rest, rest.len() < word.len()) else { break };
            ids.push(id);
            rest = after;
        }
        if !rest.is_empty() {
            ids.truncate(before);
            ids.push(self.unknown);
        }
    }

    /// The longest beginning that is in the list, and what follows it.
    fn longest<'a>(&self, text: &'a str, goes_on: bool) -> Option<(u32, &'a str)> {
        let mut key = if goes_on { GOES_ON.to_owned() } else { String::new() };
        let prefix = key.len();
        key.push_str(text);
        while key.len() > prefix {
            if let Some(id) = self.ids.get(&key) {
                return Some((*id, text.get(key.len() - prefix..).unwrap_or_default()));
            }
            key.pop();
        }
        None
    }
}

/// What no tokenizer reads: control characters that are no space, and what is written for something that is no character.
fn is_dropped(c: char) -> bool {
    let is_control =
        c.general_category_group() == GeneralCategoryGroup::Other && !matches!(c, '\t' | '\n' | '\r');
    c == '\0' || c == '\u{fffd}' || is_control
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// The blocks that BERT puts spaces around.
const fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
