//! Two questions look alike: is there something that makes another answer of one of them?
//!
//! Both are read further than for the canonical form (words that say the same are one, loose words go) and must then be the same words in the same order. What is left over is a difference, whatever it is: a
//! word that no list has counts as content. The lists say what a difference is called, and which ones are none.

use crate::Language;
use crate::lists::{Class, Lists};
use crate::reading::{Term, replace, terms};
use crate::vector::hash;

/// Why a kept answer does not do. The code of each is stable and holds nothing of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Difference {
    /// Numbers, amounts, per cents.
    Number,
    /// Units and currencies.
    Unit,
    /// One says not, no, never, without, un-.
    Negation,
    /// Dates, times, days, before and after.
    Time,
    /// Names, codes, addresses, what is quoted.
    Name,
    /// All, some, any, only, except.
    Quantifier,
    /// Who, what, when, where, why, how.
    Question,
    /// Can, may, must, should.
    Modality,
    /// My, your, his.
    Person,
    /// Is, was, will be.
    Tense,
    /// More, less, cheapest.
    Comparison,
    /// From, to, above, between.
    Direction,
    /// Contraries: enable, disable.
    Antonym,
    /// Another word.
    Content,
    /// The same words in another order.
    Order,
    /// One of them is too long or asks nothing.
    Unread,
}

impl Difference {
    /// The word for it in a decision record.
    pub fn code(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Unit => "unit",
            Self::Negation => "negation",
            Self::Time => "time",
            Self::Name => "name",
            Self::Quantifier => "quantifier",
            Self::Question => "question",
            Self::Modality => "modality",
            Self::Person => "person",
            Self::Tense => "tense",
            Self::Comparison => "comparison",
            Self::Direction => "direction",
            Self::Antonym => "antonym",
            Self::Content => "content",
            Self::Order => "order",
            Self::Unread => "unread",
        }
    }

    fn of(class: Class) -> Self {
        match class {
            Class::Number => Self::Number,
            Class::Unit => Self::Unit,
            Class::Negation => Self::Negation,
            Class::Time => Self::Time,
            Class::Name => Self::Name,
            Class::Quantifier => Self::Quantifier,
            Class::Question => Self::Question,
            Class::Modality => Self::Modality,
            Class::Person => Self::Person,
            Class::Tense => Self::Tense,
            Class::Comparison => Self::Comparison,
            Class::Direction => Self::Direction,
            Class::Content | Class::Loose | Class::Stop => Self::Content,
        }
    }
}

/// Whether what was answered to `kept` may answer `asked`.
///
/// # Errors
///
/// What makes another answer. What cannot be told alike is a difference.
pub fn verify(asked: &str, kept: &str, language: Language) -> Result<(), Difference> {
    Reading::of(asked, language)?.verify(&Reading::of(kept, language)?)
}

/// A question as it is verified, so that a kept one is read once.
#[derive(Debug)]
pub struct Reading {
    said: Vec<Said>,
    lists: &'static Lists,
}

impl Reading {
    /// Reads a question.
    ///
    /// # Errors
    ///
    /// [`Difference::Unread`].
    pub fn of(text: &str, language: Language) -> Result<Self, Difference> {
        Ok(Self { said: reading(text, language)?, lists: Lists::of(language) })
    }

    /// A hash of what has to be equal: questions that differ in it are never verified.
    pub fn form(&self) -> u64 {
        let (mut helpers, mut keys): (Vec<&str>, Vec<&str>) =
            self.said.iter().map(|said| said.key.as_str()).partition(|key| self.lists.helps(key));
        helpers.sort_unstable();
        keys.push("");
        keys.extend(helpers);
        hash(&keys)
    }

    /// Whether what was answered to `kept` may answer this.
    ///
    /// # Errors
    ///
    /// What makes another answer.
    pub fn verify(&self, kept: &Self) -> Result<(), Difference> {
        compare(&self.said, &kept.said, self.lists)
    }
}

fn compare(asked: &[Said], kept: &[Said], lists: &Lists) -> Result<(), Difference> {
    let (left, right) = (without(asked, kept), without(kept, asked));
    if !left.is_empty() || !right.is_empty() {
        return Err(difference(&left, &right, lists));
    }
    let placed = |said: &&Said| !lists.helps(&said.key);
    for (one, other) in asked.iter().filter(placed).zip(kept.iter().filter(placed)) {
        if one.key != other.key {
            return Err(Difference::Order);
        }
        if let (Some(one), Some(other)) = (&one.name, &other.name)
            && one != other
        {
            return Err(Difference::Name);
        }
    }
    Ok(())
}

/// A term as it is compared.
#[derive(Debug)]
struct Said {
    key: String,
    class: Class,
    /// A name as it was written but for case: as a key, a name in `s` is a plural to whoever writes it small.
    name: Option<String>,
}

fn reading(text: &str, language: Language) -> Result<Vec<Said>, Difference> {
    let lists = Lists::of(language);
    let terms = terms(text, language).map_err(|_| Difference::Unread)?;
    let terms: Vec<Term> = terms.into_iter().map(|term| singular(term, language, lists)).collect();
    let terms = future(replace(&terms, lists.alike, lists), lists);
    let counts = |term: &Term| term.exact || !matches!(term.class, Class::Stop | Class::Loose);
    let said: Vec<Said> = terms.iter().filter(|term| counts(term)).map(|term| said(term, language)).collect();
    if said.is_empty() { Err(Difference::Unread) } else { Ok(said) }
}

fn singular(term: Term, language: Language, lists: &Lists) -> Term {
    if term.exact || term.class != Class::Content {
        return term;
    }
    let text = term.stemmed(language);
    Term { class: lists.class(&text), text, ..term }
}

/// *When will it end* is *when does it end*; elsewhere the future is another answer.
fn future(mut terms: Vec<Term>, lists: &Lists) -> Vec<Term> {
    if !terms.iter().any(|term| term.text == "when") {
        return terms;
    }
    let is = terms.iter().any(|term| term.text == "be");
    for will in terms.iter_mut().filter(|term| !term.exact && term.text == "will") {
        *will = Term::plain(if is { "is" } else { "do" }, lists);
    }
    terms.retain(|term| term.exact || term.text != "be");
    terms
}

fn said(term: &Term, language: Language) -> Said {
    let name = (term.class == Class::Name).then(|| term.text.to_lowercase());
    let key = if term.marked {
        term.text.clone()
    } else if term.class == Class::Name {
        crate::stem::stem(&term.text.to_lowercase(), language)
    } else {
        term.text.clone()
    };
    Said { key, class: term.class, name }
}

/// What of `these` is not among `those`, each counted once.
fn without<'a>(these: &'a [Said], those: &[Said]) -> Vec<&'a Said> {
    let mut rest: Vec<&str> = those.iter().map(|said| said.key.as_str()).collect();
    let mut left = Vec::new();
    for said in these {
        match rest.iter().position(|key| *key == said.key) {
            Some(at) => drop(rest.swap_remove(at)),
            None => left.push(said),
        }
    }
    left
}

/// The name of what is left over: contraries first, then the class that weighs most.
fn difference(left: &[&Said], right: &[&Said], lists: &Lists) -> Difference {
    let pairs = || left.iter().flat_map(|one| right.iter().map(move |other| (one, other)));
    if pairs().any(|(one, other)| lists.turned(&one.key, &other.key)) {
        return Difference::Negation;
    }
    if pairs().any(|(one, other)| lists.contrary(&one.key, &other.key)) {
        return Difference::Antonym;
    }
    let heaviest = left.iter().chain(right).map(|said| said.class).min();
    heaviest.map_or(Difference::Content, Difference::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_is_none() {
        let table = [
            ("How do I turn on 2FA?", "How can I enable 2fa, please?"),
            ("What is the status of the order 48213?", "What's the status of order 48213?"),
            ("When will my contract end?", "When does my contract end?"),
            ("When will it be open?", "When is it open?"),
            ("Which browsers are supported?", "What browsers are supported?"),
            ("Is Windows 11 supported?", "is windows 11 supported"),
            ("What does it cost per month", "What does it cost monthly"),
        ];
        for (one, other) in table {
            assert_eq!(verify(one, other, Language::English), Ok(()), "{one} | {other}");
        }
    }

    #[test]
    fn each_difference_has_its_name() {
        let table = [
            ("Who approves 500 euros?", "Who approves 5000 euros?", Difference::Number),
            ("Who approves 500 euros?", "Who approves 500 dollars?", Difference::Unit),
            ("Is it paid?", "Is it not paid?", Difference::Negation),
            ("Is it paid?", "Is it unpaid?", Difference::Negation),
            ("Can I pay with a card?", "Can I pay without a card?", Difference::Antonym),
            ("Is it open on Friday?", "Is it open on Monday?", Difference::Time),
            ("Is it open today?", "Is it open?", Difference::Time),
            ("Do you ship to Norway?", "Do you ship to Denmark?", Difference::Name),
            ("What is INV-2043?", "What is INV-2034?", Difference::Name),
            ("Who is Rogers?", "Who is Roger?", Difference::Name),
            ("May all interns come?", "May some interns come?", Difference::Quantifier),
            ("When is it due?", "Where is it due?", Difference::Question),
            ("Can I come?", "Must I come?", Difference::Modality),
            ("Reset my password", "Reset your password", Difference::Person),
            ("Who is the head?", "Who was the head?", Difference::Tense),
            ("When are you open?", "When do you open?", Difference::Tense),
            ("Which is the cheapest plan?", "Which is the best plan?", Difference::Comparison),
            ("Is it bound to Berlin?", "Is it bound by Berlin?", Difference::Direction),
            ("How do I enable it?", "How do I disable it?", Difference::Antonym),
            ("How do I open it?", "How do I close it?", Difference::Antonym),
            ("Can I get a refund?", "Can I get a copy?", Difference::Content),
            ("Move it from A1 to B1", "Move it from B1 to A1", Difference::Order),
            ("Hello", "How are you?", Difference::Unread),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (one, other, difference) in table {
            assert_eq!(verify(one, other, Language::English), Err(difference), "{one} | {other}");
            assert!(verify(other, one, Language::English).is_err());
            seen.insert(difference.code());
        }
        assert_eq!(seen.len(), 16, "{seen:?}");
    }

    #[test]
    fn german_has_its_own_words() {
        let german = |one, other| verify(one, other, Language::German);
        assert_eq!(german("Hallo, wieso ist es teuer?", "Warum ist es teuer?"), Ok(()));
        assert_eq!(german("Ist es erlaubt?", "Ist es nicht erlaubt?"), Err(Difference::Negation));
        assert_eq!(german("Geht es ohne Karte?", "Geht es mit Karte?"), Err(Difference::Antonym));
        assert_eq!(german("Darf ich kommen?", "Muss ich kommen?"), Err(Difference::Modality));
    }

    #[test]
    fn another_language_must_be_the_same_words() {
        assert_eq!(verify("Où est la gare ?", "où est la gare", Language::Other), Ok(()));
        assert_eq!(verify("Où est la gare ?", "où est le port", Language::Other), Err(Difference::Content));
    }
}
