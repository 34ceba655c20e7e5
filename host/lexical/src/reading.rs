//! A text read for what it asks: contractions written out, politeness left aside, the question begun in one way.

use crate::lists::{Class, Lists};
use crate::words::{Kind, TooLong, Word, words};
use crate::{Language, stem};

/// A word of a question, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// In lower case, unless it is `exact`.
    pub(crate) text: String,
    pub(crate) class: Class,
    /// It counts as it is written: a number, a code, what stands in quotation marks.
    pub(crate) exact: bool,
    /// It is exact and looks like any word, so that only quotation marks tell.
    pub(crate) marked: bool,
    /// What follows belongs to it: it ended in `'s`.
    pub(crate) owns: bool,
}

impl Term {
    /// A word that no shape tells apart.
    pub(crate) fn plain(text: &str, lists: &Lists) -> Self {
        Self { text: text.to_owned(), class: lists.class(text), exact: false, marked: false, owns: false }
    }

    /// What a plain word is without its number; anything else as it is.
    pub(crate) fn stemmed(&self, language: Language) -> String {
        if self.exact || self.class != Class::Content {
            self.text.clone()
        } else {
            stem::stem(&self.text, language)
        }
    }
}

/// Code, tables and data, where spaces and brackets say what is left out here.
fn is_prose(text: &str) -> bool {
    !text.contains(['[', ']', '{', '}', '|', '\t']) && !text.contains("\n ")
}

/// The terms of `text`; none, if it asks nothing or is no prose.
pub(crate) fn terms(text: &str, language: Language) -> Result<Vec<Term>, TooLong> {
    let lists = Lists::of(language);
    let mut terms = Vec::new();
    let mut counted = false;
    let words = words(text)?;
    if !is_prose(text) {
        return Ok(terms);
    }
    for word in words {
        push(&word, counted, lists, &mut terms);
        counted = word.kind == Kind::Number;
    }
    not_after_whom(&mut terms, lists);
    polite(&mut terms, lists);
    let mut terms = replace(&terms, lists.frames, lists);
    predicate(&mut terms, lists);
    // What no word follows is no article: *plan a*.
    if let Some(last) = terms.last_mut().filter(|term| !term.exact && lists.class(&term.text) == Class::Stop)
    {
        *last = Term { class: Class::Name, exact: true, marked: true, ..last.clone() };
    }
    Ok(terms)
}

fn push(word: &Word, counted: bool, lists: &Lists, terms: &mut Vec<Term>) {
    let class = lists.class(&word.text);
    let exact = |class: Class, marked: bool| Term {
        text: word.shown.clone(),
        class,
        exact: true,
        marked,
        owns: word.possessive,
    };
    let listed = class != Class::Content;
    let polite = word.is_capitalised() && lists.polite_capitals.contains(&word.text.as_str());
    // *Plan A* is another plan than *a plan*.
    let letter = !word.opens && word.text != "i" && word.text.len() == 1 && word.is_capitalised();
    let unit = counted && word.shown.len() <= 3 && word.shown.contains(char::is_uppercase);
    if word.quoted {
        terms.push(exact(Class::Name, true));
    } else if word.kind != Kind::Word {
        terms.push(exact(class_of(word.kind), false));
    } else if polite || letter || (listed && word.is_capitals()) {
        terms.push(exact(if polite { Class::Person } else { Class::Name }, true));
    } else if unit {
        terms.push(exact(Class::Unit, true));
    } else if let Some(two) = contracted(word, lists) {
        terms.extend(two.split(' ').map(|word| Term::plain(word, lists)));
    } else {
        let name = !listed && (lists.capitals_are_names && word.is_capitalised() || word.is_capitals());
        let class = if name { Class::Name } else { class };
        terms.push(Term { class, owns: word.possessive, ..Term::plain(&word.text, lists) });
    }
}

fn class_of(kind: Kind) -> Class {
    match kind {
        Kind::Number | Kind::Percent | Kind::Money => Class::Number,
        Kind::Date | Kind::Time => Class::Time,
        Kind::Symbol => Class::Content,
        _ => Class::Name,
    }
}

fn contracted(word: &Word, lists: &Lists) -> Option<&'static str> {
    let text = if word.possessive { format!("{}'s", word.text) } else { word.text.clone() };
    lists.contractions.iter().find(|(short, _)| *short == text).map(|(_, two)| *two)
}

/// `can not I see` is `can I not see`: so it stands without a contraction.
fn not_after_whom(terms: &mut [Term], lists: &Lists) {
    for at in 1..terms.len() {
        if let Some([before, not, whom]) = terms.get_mut(at - 1..at + 2)
            && not.text == "not"
            && whom.class == Class::Person
            && matches!(before.class, Class::Modality | Class::Tense)
            && lists.capitals_are_names
        {
            std::mem::swap(not, whom);
        }
    }
}

/// Takes polite beginnings and endings away.
fn polite(terms: &mut Vec<Term>, lists: &Lists) {
    while let Some(length) = lists.openings.iter().filter_map(|phrase| begins(terms, phrase)).max() {
        terms.drain(..length);
    }
    while let Some(length) = lists.endings.iter().filter_map(|phrase| ends(terms, phrase)).max()
        && !is_asked_about(terms, length, lists)
    {
        terms.truncate(terms.len() - length);
    }
}

/// Whether the last terms are what is asked about: *what is German for please*, *screens by LG*.
fn is_asked_about(terms: &[Term], length: usize, lists: &Lists) -> bool {
    let before = terms.iter().rev().nth(length);
    before.is_some_and(|term| term.class == Class::Direction || lists.saying.contains(&term.text.as_str()))
}

/// *Is Anna the director* is not *is Anna a director*: an article that tells what somebody is, is a word. One that
/// follows the verb or a preposition begins what is spoken of, and says no more than that.
fn predicate(terms: &mut [Term], lists: &Lists) {
    if !terms.first().is_some_and(|first| first.text == "is" && !first.exact) {
        return;
    }
    let begins = |term: &Term| !term.exact && lists.articles.contains(&term.text.as_str());
    for at in 2..terms.len() {
        if let Some([before, article]) = terms.get_mut(at - 1..=at)
            && begins(article)
            && matches!(before.class, Class::Content | Class::Name | Class::Person)
        {
            *article = Term { class: Class::Name, exact: true, marked: true, ..article.clone() };
        }
    }
}

/// How many terms `phrase` takes at the beginning, if it stands there.
fn begins(terms: &[Term], phrase: &str) -> Option<usize> {
    let mut length = 0;
    for word in phrase.split(' ') {
        terms.get(length).filter(|term| is(term, word))?;
        length += 1;
    }
    Some(length)
}

/// Whether the term is this word of a phrase; `Sie` is, although its capital counts elsewhere.
fn is(term: &Term, word: &str) -> bool {
    let plain = !term.exact && term.text == word;
    let polite = term.marked && term.class == Class::Person && term.text.to_lowercase() == word;
    !term.owns && (plain || polite)
}

fn ends(terms: &[Term], phrase: &str) -> Option<usize> {
    let length = phrase.split(' ').count();
    terms.len().checked_sub(length).and_then(|start| terms.get(start..)).and_then(|end| begins(end, phrase))
}

/// Says `phrases` in their one way; of two that begin at the same word the longer one counts.
pub(crate) fn replace(terms: &[Term], phrases: &[(&str, &str)], lists: &Lists) -> Vec<Term> {
    let mut replaced = Vec::with_capacity(terms.len());
    let mut rest = terms;
    while let Some((first, after)) = rest.split_first() {
        let found = phrases.iter().filter_map(|(from, to)| begins(rest, from).map(|length| (length, *to)));
        match found.max_by_key(|(length, _)| *length) {
            Some((length, to)) => {
                replaced.extend(to.split(' ').map(|word| Term::plain(word, lists)));
                rest = rest.get(length..).unwrap_or_default();
            }
            None => {
                replaced.push(first.clone());
                rest = after;
            }
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, language: Language) -> String {
        let terms = terms(text, language).unwrap();
        terms.iter().map(|term| term.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn politeness_and_contractions_go() {
        let table = [
            ("Hi there! What's the status, please? Thanks a lot!", "what is the status"),
            ("Could you please tell me who he is", "who he is"),
            ("What does plan a cost", "what do plan a cost"),
            ("Why can't I see it", "why can i not see it"),
            ("How can I pay?", "how to pay"),
            ("Am I allowed to pay?", "may i pay"),
            ("Tell him that I called", "tell him that i called"),
            ("Thanks!", ""),
        ];
        for (text, expected) in table {
            assert_eq!(read(text, Language::English), expected, "{text}");
        }
        let german = [
            ("Guten Tag, können Sie mir bitte sagen, wer Anna ist? Danke im Voraus", "wer anna ist"),
            ("Wer ist Ihr Chef?", "wer ist Ihr chef"),
            ("Wer ist ihr Chef?", "wer ist ihr chef"),
        ];
        for (text, expected) in german {
            assert_eq!(read(text, Language::German), expected, "{text}");
        }
    }
}
