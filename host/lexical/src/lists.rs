//! The lists of words that a language is read by. To add a language is to write one of these.
//!
//! All words are in lower case; phrases are words with single spaces.

mod english;
mod german;

use crate::Language;

/// What a word is for in a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Number,
    Unit,
    Negation,
    Time,
    Name,
    Quantifier,
    Question,
    Modality,
    Person,
    Tense,
    Comparison,
    Direction,
    Content,
    /// Joins words and says nothing that their order does not say.
    Loose,
    /// Dropped everywhere.
    Stop,
}

type Words = &'static [&'static str];
/// Phrases, and what stands for them.
type Phrases = &'static [(&'static str, &'static str)];

/// A language's lists.
#[derive(Debug)]
pub(crate) struct Lists {
    /// Polite beginnings, longest first where one begins another.
    pub(crate) openings: Words,
    /// Polite endings.
    pub(crate) endings: Words,
    /// One word that is two.
    pub(crate) contractions: Phrases,
    /// How a question begins, said in one way.
    pub(crate) frames: Phrases,
    /// Words that a canonical form leaves out.
    pub(crate) stops: Words,
    /// Verbs that stand here or there and say the same: *what the price is*, *what is the price*. Not nothing: *when
    /// are you open* is not *when do you open*.
    pub(crate) helpers: Words,
    /// Words by what they are for.
    pub(crate) classes: &'static [(Class, Words)],
    /// Said otherwise, for the verifier: phrases first, then single words.
    pub(crate) alike: Phrases,
    /// Two words of which one makes the contrary of the other.
    pub(crate) contraries: Phrases,
    /// Beginnings that turn a word round: `un-`.
    pub(crate) turning: Words,
    /// Words that begin a thing that somebody or something may be: `the`, where it says more than that a thing follows.
    pub(crate) articles: Words,
    /// Verbs that ask for a word: what stands at the end after one of them is no politeness.
    pub(crate) saying: Words,
    /// Capitals amid a sentence make a name.
    pub(crate) capitals_are_names: bool,
    /// Words that a capital letter makes another word: `Ihr`.
    pub(crate) polite_capitals: Words,
}

const NONE: Lists = Lists {
    openings: &[],
    endings: &[],
    contractions: &[],
    frames: &[],
    stops: &[],
    helpers: &[],
    classes: &[],
    alike: &[],
    contraries: &[],
    turning: &[],
    articles: &[],
    saying: &[],
    capitals_are_names: false,
    polite_capitals: &[],
};

impl Lists {
    pub(crate) fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &english::LISTS,
            Language::German => &german::LISTS,
            Language::Other => &NONE,
        }
    }

    /// Whether `word` is a verb whose place says nothing.
    pub(crate) fn helps(&self, word: &str) -> bool {
        self.helpers.contains(&word)
    }

    /// What `word` is for; content, if no list has it.
    pub(crate) fn class(&self, word: &str) -> Class {
        if self.stops.contains(&word) {
            return Class::Stop;
        }
        let listed = self.classes.iter().find(|(_, words)| words.contains(&word));
        listed.map_or(Class::Content, |(class, _)| *class)
    }

    /// Whether the two are contraries, in either order.
    pub(crate) fn contrary(&self, one: &str, other: &str) -> bool {
        self.contraries.iter().any(|pair| *pair == (one, other) || *pair == (other, one))
    }

    /// Whether one is the other turned round by its beginning: `unpaid`, `paid`.
    pub(crate) fn turned(&self, one: &str, other: &str) -> bool {
        let turns = |long: &str, short: &str| {
            self.turning.iter().any(|start| long.strip_prefix(start).is_some_and(|rest| rest == short))
        };
        turns(one, other) || turns(other, one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_lower_case_and_no_word_has_two_classes() {
        for lists in [&english::LISTS, &german::LISTS] {
            let phrases =
                lists.alike.iter().chain(lists.frames).chain(lists.contractions).map(|(from, _)| from);
            for phrase in phrases.chain(lists.openings).chain(lists.endings).chain(lists.stops) {
                assert_eq!(phrase.to_lowercase(), **phrase);
                assert_eq!(phrase.split(' ').collect::<Vec<_>>().join(" "), **phrase);
            }
            let mut seen = std::collections::BTreeSet::new();
            for word in lists.classes.iter().flat_map(|(_, words)| *words).chain(lists.stops) {
                assert!(seen.insert(word), "{word} has two classes");
            }
        }
    }

    #[test]
    fn nothing_that_turns_an_answer_is_a_stop_word() {
        for word in
            ["not", "no", "never", "who", "what", "when", "where", "why", "how", "my", "all", "to", "from"]
        {
            assert_ne!(english::LISTS.class(word), Class::Stop, "{word}");
        }
        for word in
            ["nicht", "kein", "nie", "wer", "was", "wann", "wo", "warum", "wie", "mein", "alle", "nach"]
        {
            assert_ne!(german::LISTS.class(word), Class::Stop, "{word}");
        }
    }
}
