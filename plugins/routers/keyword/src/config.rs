//! What the operator writes under the router's `config`.

use serde::Deserialize;

/// At most so many rules.
pub(crate) const RULES_MAX: usize = 1_000;
/// At most so many phrases, negative ones included, in one rule.
pub(crate) const PHRASES_MAX: usize = 200;
/// At most so many bytes in a phrase.
pub(crate) const PHRASE_BYTES_MAX: usize = 200;

/// The table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// In order of preference among equals.
    pub(crate) rules: Vec<Rule>,
    /// Keep the conversation's agent if nothing matches.
    #[serde(default = "yes")]
    pub(crate) sticky: bool,
}

/// Phrases that lead to an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Where they lead.
    pub(crate) agent: String,
    /// Any of these.
    pub(crate) phrases: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub(crate) not: Vec<String>,
    /// Higher wins.
    #[serde(default)]
    pub(crate) priority: i32,
}

fn yes() -> bool {
    true
}
