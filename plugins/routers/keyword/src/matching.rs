//! Which rules match a message, and which wins.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use chela_sdk::Decision;

use crate::config::{Config, PHRASE_BYTES_MAX, PHRASES_MAX, RULES_MAX};
use crate::words::{fold, words};

/// The bytes of a message that are read; what stands behind them is not what it is about, and a router has
/// half a second.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// How many alternatives a decision names.
const ALTERNATIVES_MAX: usize = 3;

/// The rules, ready to match.
#[derive(Debug)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    agent: String,
    phrases: Vec<Phrase>,
    not: Vec<Phrase>,
    priority: i32,
}

#[derive(Debug)]
struct Phrase {
    written: String,
    words: Vec<String>,
}

/// A rule that matches.
#[derive(Debug)]
pub(crate) struct Match {
    rule: usize,
    phrase: usize,
    priority: i32,
    matched: usize,
    longest: usize,
}

impl Rules {
    /// # Errors
    /// Names the rule and the phrase that cannot be used.
    pub(crate) fn new(config: Config) -> Result<Self, String> {
        if config.rules.len() > RULES_MAX {
            return Err(format!("rules: {} are too many, at most {RULES_MAX}", config.rules.len()));
        }
        let rules = config.rules.into_iter().enumerate().map(|(index, rule)| {
            if rule.agent.is_empty() {
                return Err(format!("rules[{index}].agent is empty"));
            }
            if rule.phrases.is_empty() {
                return Err(format!("rules[{index}].phrases is empty: the rule could never match"));
            }
            let phrases = phrases(rule.phrases, &format!("rules[{index}].phrases"))?;
            let not = phrases_or_none(rule.not, index)?;
            Ok(Rule { agent: rule.agent, phrases, not, priority: rule.priority })
        });
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// The rules that match and lead to somebody who may be reached, best first.
    pub(crate) fn ranked(&self, text: &str, may_reach: impl Fn(&str) -> bool) -> Vec<Match> {
        let folded = fold(text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default());
        let heard: Vec<&str> = words(&folded).collect();
        let known: BTreeSet<&str> = heard.iter().copied().collect();
        let occurs = |phrase: &Phrase| phrase.occurs(&heard, &known);
        let rules = self.0.iter().enumerate().filter(|(_, rule)| may_reach(&rule.agent));
        let mut matches: Vec<Match> = rules.filter_map(|(index, rule)| rule.matches(index, occurs)).collect();
        // More words in common are stronger evidence than one; the order of the file settles the rest.
        matches.sort_by_key(|m| (Reverse(m.priority), Reverse(m.matched), Reverse(m.longest), m.rule));
        matches
    }

    /// The decision for the best rule.
    pub(crate) fn decide(&self, ranked: &[Match]) -> Option<Decision> {
        let (best, others) = ranked.split_first()?;
        let rule = self.0.get(best.rule)?;
        let phrase = rule.phrases.get(best.phrase)?;
        let reason = format!("rule {} matches the phrase “{}”", best.rule + 1, phrase.written);
        let decision = Decision::to(&rule.agent).score(share(best, ranked)).because(reason);
        let mut named = BTreeSet::from([rule.agent.as_str()]);
        let others = others.iter().filter_map(|m| self.0.get(m.rule).map(|rule| (rule, m)));
        let others = others.filter(|(rule, _)| named.insert(rule.agent.as_str())).take(ALTERNATIVES_MAX);
        Some(others.fold(decision, |decision, (rule, m)| decision.or(&rule.agent, share(m, ranked))))
    }
}

impl Rule {
    fn matches(&self, index: usize, occurs: impl Fn(&Phrase) -> bool) -> Option<Match> {
        let matched = self.phrases.iter().enumerate().filter(|(_, phrase)| occurs(phrase));
        let matched: Vec<(usize, usize)> = matched.map(|(at, phrase)| (at, phrase.words.len())).collect();
        let (phrase, longest) = matched.iter().copied().max_by_key(|(at, length)| (*length, Reverse(*at)))?;
        if self.not.iter().any(occurs) {
            return None;
        }
        let total = matched.iter().map(|(_, length)| length).sum();
        Some(Match { rule: index, phrase, priority: self.priority, matched: total, longest })
    }
}

impl Phrase {
    fn occurs(&self, heard: &[&str], known: &BTreeSet<&str>) -> bool {
        self.words.iter().all(|word| known.contains(word.as_str()))
            && heard.windows(self.words.len()).any(|window| window == self.words)
    }
}

fn phrases_or_none(written: Vec<String>, index: usize) -> Result<Vec<Phrase>, String> {
    if written.is_empty() { Ok(Vec::new()) } else { phrases(written, &format!("rules[{index}].not")) }
}

fn phrases(written: Vec<String>, place: &str) -> Result<Vec<Phrase>, String> {
    if written.len() > PHRASES_MAX {
        return Err(format!("{place}: {} are too many, at most {PHRASES_MAX}", written.len()));
    }
    let phrases = written.into_iter().enumerate().map(|(at, written)| {
        if written.len() > PHRASE_BYTES_MAX {
            return Err(format!("{place}[{at}] is longer than {PHRASE_BYTES_MAX} bytes"));
        }
        let words: Vec<String> = words(&fold(&written)).map(str::to_owned).collect();
        if words.is_empty() {
            return Err(format!("{place}[{at}] has no word in it"));
        }
        Ok(Phrase { written, words })
    });
    phrases.collect()
}

/// A match's share of all the words that matched: 1.0 if nothing else did.
#[allow(clippy::cast_precision_loss, reason = "a share, of numbers far below 2^24")]
fn share(one: &Match, all: &[Match]) -> f32 {
    let total: usize = all.iter().map(|m| m.matched).sum();
    one.matched as f32 / total.max(1) as f32
}
