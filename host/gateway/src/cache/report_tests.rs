//! The cache report: labelled questions, played as people would ask them. What is served, and how much of it is wrong?
//!
//! `cargo test --release -p chela-gateway --lib cache::report -- --nocapture` prints it.

use super::alike_tests::{at, with};
use super::*;
use chela_lexical::{Rule, canonical, cosine, verify, wrong_at_most};
use chela_types::AgentId;
use std::collections::HashMap;

const STATED: f64 = 0.02;
/// So often each pair comes in the long run: enough for the bands that have more than a few pairs.
const ROUNDS: usize = 150;

struct Pair {
    group: &'static str,
    same: bool,
    a: &'static str,
    b: &'static str,
}

fn pairs() -> Vec<Pair> {
    let text = include_str!("../../../lexical/data/questions.tsv");
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines
        .map(|line| {
            let [_, group, relation, _, a, b] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not six columns: {line}");
            };
            Pair { group, same: relation == "same", a, b }
        })
        .collect()
}

/// What was served to the second question of each pair.
#[derive(Debug, Default)]
struct Served {
    asked: u64,
    right: u64,
    wrong: u64,
}

impl Served {
    fn told(&self, name: &str) {
        let served = self.right + self.wrong;
        let most = wrong_at_most(self.wrong, served, 0.95) * 100.0;
        println!(
            "{name:<24} served {served:>5} of {:>5}, wrong {:>3}, at most {most:.2} %",
            self.asked, self.wrong
        );
    }
}

/// Asks each first question, and then the other one: whose answer is the first one's where one answer is right for both.
async fn play(level: CacheLevel, pairs: &[Pair], rounds: usize) -> (Served, Served) {
    let answers: HashMap<(String, String), String> = pairs
        .iter()
        .enumerate()
        .map(|(number, pair)| {
            let answer = if pair.same { "first".to_owned() } else { format!("other {number}") };
            ((number.to_string(), pair.b.to_owned()), answer)
        })
        .collect();
    let answer = move |call: &Call| {
        let asked = (call.agent_version.clone(), call.last_prompt().to_owned());
        answers.get(&asked).cloned().unwrap_or_else(|| "first".to_owned())
    };
    let config = Cache { similar: Rule::new(STATED, 0.05), ..Cache::standard() };
    let languages = [Language::English, Language::German];
    let desks = languages.map(|language| with(Cache { language, ..config }, answer.clone()));
    let (mut same, mut other) = (Served::default(), Served::default());
    for _ in 0..rounds {
        for (number, pair) in pairs.iter().enumerate() {
            let desk = &desks[usize::from(pair.group.starts_with("de"))];
            // Each pair for itself, and all of them for one agent's trust.
            let of = |question| Call {
                agent: AgentId::new("support").unwrap(),
                agent_version: number.to_string(),
                ..at(level, question)
            };
            desk.ask(of(pair.a)).await;
            let answer = desk.ask(of(pair.b)).await;
            let served = if pair.same { &mut same } else { &mut other };
            served.asked += 1;
            if !answer.call.cache.is_asked() {
                served.right += u64::from(answer.text == "first" && pair.same);
                served.wrong += u64::from(!(answer.text == "first" && pair.same));
            } else {
                let asked = Asked::of(&of(pair.b), desk.kept().language).unwrap();
                desk.kept().entries.invalidate(&asked.key).await;
            }
        }
    }
    (same, other)
}

/// What only likeness can answer: verified as the same, and of two forms.
fn is_alike(pair: &Pair) -> bool {
    let language = Language::of_tag(pair.group);
    let [a, b] = [pair.a, pair.b].map(|text| (canonical(text, language), Vector::of(text).unwrap()));
    a.0 != b.0 && cosine(&a.1, &b.1) >= shelf::LIKENESS_MIN && verify(pair.b, pair.a, language).is_ok()
}

#[tokio::test]
async fn the_cache_report() {
    let all = pairs();
    let alike: Vec<Pair> = pairs().into_iter().filter(is_alike).collect();
    for (name, level, pairs, rounds) in [
        ("exact", CacheLevel::Exact, &all, 1),
        ("canonical", CacheLevel::Canonical, &all, 1),
        ("similar", CacheLevel::Similar, &all, 1),
        ("alike alone", CacheLevel::Similar, &alike, ROUNDS),
    ] {
        let (same, other) = play(level, pairs, rounds).await;
        same.told(&format!("{name} x{rounds}, same"));
        other.told(&format!("{name} x{rounds}, other"));
        let served = same.right + same.wrong + other.right + other.wrong;
        let wrong = same.wrong + other.wrong;
        assert!(wrong as f64 <= STATED * served as f64, "{name}: {same:?} {other:?}");
        match name {
            "exact" => assert_eq!(served, 0, "no question is the other one"),
            "alike alone" => assert!(same.right > 0, "in the long run a band opens: {same:?}"),
            _ => assert!(same.right > 200, "{same:?}"),
        }
    }
}
