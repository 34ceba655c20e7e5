//! What must be true after any number of kills.

use std::collections::{BTreeMap, BTreeSet};

use chela_types::Money;

use super::Name;

/// A message as its sender saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Which.
    pub name: Name,
    /// Words that its answer repeats, numbered from 0.
    pub words: u32,
    /// The host answered 2xx.
    pub is_acknowledged: bool,
}

/// A delivery as the platform saw it, in the platform's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The conversation in which it was posted.
    pub conversation: String,
    /// The whole text.
    pub text: String,
}

/// What the provider charged, and what the host's ledger says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// The provider's bill.
    pub bill: Money,
    /// The ledger's total, unknown calls included.
    pub settled: Money,
    /// Of these, charged at their reservation because nobody knows.
    pub unknown: Money,
    /// Still set aside.
    pub reserved: Money,
}

/// Everything that was written down.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// By the senders.
    pub sent: Vec<Sent>,
    /// By the platforms, each platform's in its order.
    pub seen: Vec<Seen>,
    /// Money.
    pub books: Books,
    /// Sends of each answer that the host itself counts as ambiguous.
    pub ambiguous: BTreeMap<Name, u64>,
    /// Answers whose progress post the host itself counts as lost.
    pub lost_posts: BTreeSet<Name>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that must not be. Empty: the test has passed.
    pub wrong: Vec<String>,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Deliveries beyond the first of the same part of an answer: at most the ambiguous sends.
    pub repeats: u64,
    /// Drafts that were left standing: at most one for each lost progress post.
    pub drafts: u64,
}

/// What a draft ends with.
const MORE: char = '…';

/// One part of an answer: the words from the first to the last.
type Part = (u32, u32);

/// Judges.
pub fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let sent: BTreeMap<&Name, &Sent> = evidence.sent.iter().map(|sent| (&sent.name, sent)).collect();
    let mut parts: BTreeMap<Name, BTreeMap<Part, u64>> = BTreeMap::new();
    let mut newest: BTreeMap<&str, (Name, u32)> = BTreeMap::new();
    let mut drafts: BTreeSet<Name> = BTreeSet::new();
    for seen in &evidence.seen {
        let Some((name, part)) = read(seen) else {
            verdict.wrong.push(format!("unexpected in {}: {}", seen.conversation, start(&seen.text)));
            continue;
        };
        if !sent.contains_key(&name) || name.conversation != seen.conversation {
            verdict.wrong.push(format!("misdirected in {}: {}", seen.conversation, start(&seen.text)));
            continue;
        }
        if seen.text.ends_with(MORE) {
            verdict.drafts += 1;
            if !evidence.lost_posts.contains(&name) || !drafts.insert(name.clone()) {
                verdict.wrong.push(format!("a draft stands for {}", name.word(0)));
            }
            continue;
        }
        let times = parts.entry(name.clone()).or_default().entry(part).or_default();
        *times += 1;
        let place = (name, part.0);
        let before = newest.entry(&seen.conversation).or_insert_with(|| place.clone());
        // A repeat may come again at its place, and never after what followed it.
        if *before > place {
            verdict.wrong.push(format!(
                "reordered: {} after {}",
                place.0.word(place.1),
                before.0.word(before.1)
            ));
        }
        *before = place.max(before.clone());
    }
    for sent in evidence.sent.iter().filter(|sent| sent.is_acknowledged) {
        verdict.acknowledged += 1;
        let answered: BTreeSet<u32> = parts
            .get(&sent.name)
            .into_iter()
            .flatten()
            .flat_map(|((first, last), _)| *first..=*last)
            .collect();
        let missing: Vec<u32> = (0..sent.words).filter(|word| !answered.contains(word)).collect();
        if let Some(first) = missing.first() {
            verdict.wrong.push(format!("lost: {} ({} words)", sent.name.word(*first), missing.len()));
        }
    }
    for (name, parts) in &parts {
        let repeats: u64 = parts.values().map(|times| times - 1).sum();
        let ambiguous = evidence.ambiguous.get(name).copied().unwrap_or_default();
        if repeats > ambiguous {
            verdict.wrong.push(format!(
                "repeated: {} {repeats} times, {ambiguous} of them counted as ambiguous",
                name.word(0)
            ));
        }
        verdict.repeats += repeats;
    }
    books(&mut verdict, &evidence.books);
    verdict
}

fn books(verdict: &mut Verdict, books: &Books) {
    let Books { bill, settled, unknown, reserved } = *books;
    if settled < bill {
        verdict.wrong.push(format!("the ledger ({settled}) is below the provider's bill ({bill})"));
    }
    if settled.minus(unknown) > bill {
        verdict.wrong.push(format!(
            "the ledger ({settled}) is above the bill ({bill}) by more than its unknown calls ({unknown})"
        ));
    }
    if reserved != Money::ZERO {
        verdict.wrong.push(format!("{reserved} is still set aside"));
    }
}

/// The message that a delivery answers, and which part of the answer it is.
fn read(seen: &Seen) -> Option<(Name, Part)> {
    let words: Vec<(Name, u32)> = seen.text.split_whitespace().filter_map(Name::read).collect();
    let (name, first) = words.first()?.clone();
    let (_, last) = words.last()?;
    words.iter().all(|(other, _)| *other == name).then_some((name, (first, *last)))
}

fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Name {
        Name { conversation: "s1".to_owned(), number }
    }

    fn seen(number: u32, words: std::ops::Range<u32>) -> Seen {
        let text = words.map(|word| format!("{}xx ", name(number).word(word))).collect::<String>();
        Seen { conversation: "s1".to_owned(), text: format!("You said: {text}") }
    }

    /// Two messages, the second one with a long answer; all is well.
    fn good() -> Evidence {
        let sent = |number, words| Sent { name: name(number), words, is_acknowledged: true };
        let cent = |n| Money::from_nanos(n);
        Evidence {
            sent: vec![sent(0, 1), sent(1, 4)],
            seen: vec![seen(0, 0..1), seen(1, 0..2), seen(1, 2..4)],
            books: Books { bill: cent(20), settled: cent(25), unknown: cent(7), ..Books::default() },
            ambiguous: BTreeMap::new(),
            lost_posts: BTreeSet::new(),
        }
    }

    fn wrong(change: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = good();
        change(&mut evidence);
        check(&evidence).wrong.join("; ")
    }

    #[test]
    fn what_is_well_is_well() {
        assert_eq!(check(&good()), Verdict { acknowledged: 2, ..Verdict::default() });
        assert_eq!(Name::read("#w3-17.05xxx"), Some((Name { conversation: "w3".into(), number: 17 }, 5)));
        assert_eq!(Name::read("#general"), None);
    }

    #[test]
    fn a_lost_message_is_seen() {
        assert_eq!(wrong(|e| drop(e.seen.remove(0))), "lost: #s1-0.00 (1 words)");
        assert_eq!(wrong(|e| drop(e.seen.remove(2))), "lost: #s1-1.02 (2 words)");
        assert_eq!(
            wrong(|e| {
                e.seen.remove(0);
                e.sent[0].is_acknowledged = false;
            }),
            ""
        );
    }

    #[test]
    fn a_repeat_must_be_counted_as_ambiguous() {
        let twice = |e: &mut Evidence| e.seen.insert(1, seen(0, 0..1));
        assert_eq!(wrong(twice), "repeated: #s1-0.00 1 times, 0 of them counted as ambiguous");
        assert_eq!(
            wrong(|e| {
                twice(e);
                e.ambiguous.insert(name(0), 1);
            }),
            ""
        );
    }

    #[test]
    fn a_draft_may_stand_only_where_its_post_is_lost_and_is_no_answer() {
        let draft = |e: &mut Evidence| {
            e.seen.insert(1, Seen { text: "You said: #s1-1.00xx …".into(), ..seen(1, 0..1) })
        };
        assert_eq!(wrong(draft), "a draft stands for #s1-1.00");
        let lost = |e: &mut Evidence| e.lost_posts.extend([name(1)]);
        assert_eq!(
            wrong(|e| {
                draft(e);
                lost(e);
            }),
            ""
        );
        assert_eq!(
            wrong(|e| {
                draft(e);
                draft(e);
                lost(e);
            }),
            "a draft stands for #s1-1.00"
        );
        assert!(
            wrong(|e| {
                draft(e);
                lost(e);
                e.seen.retain(|seen| seen.text.ends_with('…'));
            })
            .contains("lost: #s1-1.00"),
            "it is no answer"
        );
    }

    #[test]
    fn another_order_is_seen() {
        assert_eq!(wrong(|e| e.seen.swap(0, 1)), "reordered: #s1-0.00 after #s1-1.00");
        assert_eq!(wrong(|e| e.seen.swap(1, 2)), "reordered: #s1-1.00 after #s1-1.02");
    }

    #[test]
    fn words_of_nobody_and_in_the_wrong_place_are_seen() {
        assert!(wrong(|e| e.seen[0].text = "Sorry".to_owned()).contains("unexpected in s1: Sorry"));
        assert!(wrong(|e| e.seen[0].conversation = "s2".to_owned()).contains("misdirected in s2"));
        assert!(wrong(|e| e.seen.push(seen(9, 0..1))).contains("misdirected in s1"));
    }

    #[test]
    fn money_is_counted() {
        assert!(wrong(|e| e.books.bill = Money::from_nanos(26)).contains("below the provider's bill"));
        assert!(wrong(|e| e.books.bill = Money::from_nanos(17)).contains("above the bill"));
        assert!(wrong(|e| e.books.reserved = Money::from_nanos(1)).contains("still set aside"));
    }
}
