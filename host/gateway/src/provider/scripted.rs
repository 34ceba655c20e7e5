//! A provider that answers by rules: deterministic, offline, and part of the product.
//!
//! Demo, examples and tests run through it on the same path as a real provider: it can be slow, silent, cut
//! off or out of order on demand, and counts tokens, so that budgets can be shown at work.

use chela_types::{Finish, Tokens, Usage};
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Ask, Backend, Piece, Pieces, Trouble};
use crate::{Call, Kind, Prompt, ToolDelta, ToolHead};

/// What a scripted provider says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Rules; the first that matches speaks.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    /// What is said when none matches: by default it repeats the question.
    #[serde(default)]
    pub default: Option<Rule>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// All of these must occur in the system prompt or the last prompt; upper and lower case are the same.
    #[serde(default)]
    pub when: Vec<String>,
    /// The answer. `{last}`: the last prompt, shortened. `{quote}`: the first two sentences of the first
    /// `<passage …>…</passage>` that the model was given.
    #[serde(default)]
    pub say: String,
    /// A tool that is called after what is said, if it is offered.
    #[serde(default)]
    pub call: Option<String>,
    /// Its arguments, a JSON object; empty if absent.
    #[serde(default)]
    pub arguments: Option<String>,
    /// Milliseconds before the first word.
    #[serde(default)]
    pub first_ms: u64,
    /// Milliseconds between words.
    #[serde(default)]
    pub chunk_ms: u64,
    /// Fail instead.
    #[serde(default)]
    pub fail: Option<Fail>,
    /// So often only, then speak; absent: always.
    #[serde(default)]
    pub times: Option<u32>,
}

/// A way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    /// As a provider that is down.
    Unavailable,
    /// As one that limits the rate.
    RateLimited,
    /// Never say a word.
    Hang,
    /// Break off in the middle.
    Cut,
    /// Refuse the content.
    Refused,
}

/// What the default rule says.
const ECHO: &str = "You said: {last}";
/// Longest `{last}`, in characters.
const LAST_CHARS_MAX: usize = 120;
/// Longest `{quote}`, in characters.
const QUOTE_CHARS_MAX: usize = 400;
/// Sentences of `{quote}`.
const QUOTE_SENTENCES: usize = 2;

/// The provider.
pub(crate) struct Scripted {
    rules: Vec<(Rule, AtomicU32)>,
}

impl Scripted {
    pub(crate) fn new(script: Script) -> Self {
        let default = script.default.unwrap_or_else(|| Rule { say: ECHO.into(), ..Rule::default() });
        let last = Rule { when: Vec::new(), ..default };
        Self { rules: script.rules.into_iter().chain([last]).map(|rule| (rule, AtomicU32::new(0))).collect() }
    }

    fn pick(&self, call: &Call) -> Option<(&Rule, Option<Fail>)> {
        let heard = format!("{}\n{}", call.system.as_deref().unwrap_or_default(), last(call)).to_lowercase();
        let matches = |rule: &Rule| rule.when.iter().all(|word| heard.contains(&word.to_lowercase()));
        let (rule, failed) = self.rules.iter().find(|(rule, _)| matches(rule))?;
        let fail = rule.fail.filter(|_| match rule.times {
            None => true,
            Some(times) => failed.fetch_add(1, Ordering::SeqCst) < times,
        });
        Some((rule, fail))
    }
}

/// Even a timer of zero takes a millisecond; a script that answers at once has none.
async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl Backend for Scripted {
    fn start(&self, ask: Ask) -> BoxFuture<'_, Result<Pieces, Trouble>> {
        Box::pin(async move {
            let picked = self.pick(&ask.call).map(|(rule, fail)| (rule.clone(), fail));
            let (rule, fail) = picked.ok_or_else(|| Trouble::bad("the script has no rule"))?;
            ask.sent.mark();
            wait(Duration::from_millis(rule.first_ms)).await;
            match fail {
                Some(Fail::Unavailable) => Err(Trouble::new(
                    Kind::Unavailable { code: "scripted".into(), retry_after: Duration::ZERO },
                    false,
                )),
                Some(Fail::RateLimited) => {
                    Err(Trouble::new(Kind::RateLimited { retry_after: Duration::from_secs(1) }, false))
                }
                Some(Fail::Refused) => Err(Trouble::new(Kind::Refused, false)),
                Some(Fail::Hang) => std::future::pending().await,
                Some(Fail::Cut) => Ok(speak(&ask, &rule, true)),
                None => Ok(speak(&ask, &rule, false)),
            }
        })
    }
}

fn speak(ask: &Ask, rule: &Rule, cut: bool) -> Pieces {
    let said = rule.say.replace("{last}", &shorten(&last(&ask.call), LAST_CHARS_MAX));
    let said = said.replace("{quote}", &quote(&ask.call));
    let mut words: Vec<String> = said.split_inclusive(' ').map(str::to_owned).collect();
    let allowed = usize::try_from(ask.max_output.0.saturating_mul(3) / 4).unwrap_or(usize::MAX).max(1);
    let called = called(&ask.call, rule);
    let finish = match &called {
        _ if words.len() > allowed => Finish::Length,
        Some(_) => Finish::ToolCalls,
        None => Finish::Stop,
    };
    words.truncate(if cut { words.len().div_ceil(2) } else { allowed });
    let arguments = called.as_ref().map_or("", |call| &call.arguments);
    let output = tokens(&format!("{} {arguments}", words.concat())).min(ask.max_output);
    let usage = Usage { input: input(&ask.call), output, ..Usage::default() };
    let pause = Arc::new(Duration::from_millis(rule.chunk_ms));
    let text = futures::stream::iter(words).then(move |word| {
        let pause = pause.clone();
        async move {
            wait(*pause).await;
            Ok(Piece::Text(word))
        }
    });
    let called = called.filter(|_| finish == Finish::ToolCalls).map(Piece::Tool);
    let end = called.into_iter().chain([Piece::Usage(usage), Piece::Finish(finish)]);
    let end: Vec<_> = if cut { Vec::new() } else { end.map(Ok).collect() };
    text.chain(futures::stream::iter(end)).boxed()
}

/// The call of a tool that a rule makes, if the tool is offered. Its id is another at each turn of a conversation.
fn called(call: &Call, rule: &Rule) -> Option<ToolDelta> {
    let name = rule.call.as_ref().filter(|name| call.tools.iter().any(|tool| tool.name == **name))?;
    let head = ToolHead { id: format!("call_{}", call.prompts.len()), name: name.clone() };
    let arguments = rule.arguments.clone().unwrap_or_else(|| "{}".to_owned());
    Some(ToolDelta { index: 0, head: Some(head), arguments })
}

/// What was said last: by the person, or by the tools after it.
fn last(call: &Call) -> String {
    let results = call.prompts.last().into_iter().flat_map(Prompt::tool_results);
    let results: Vec<&str> = results.map(|result| result.text.as_str()).collect();
    if results.is_empty() { call.last_prompt().to_owned() } else { results.join("\n") }
}

/// Four tokens for three words: the usual rule of thumb for English.
fn tokens(text: &str) -> Tokens {
    Tokens((text.split_whitespace().count() as u64 * 4).div_ceil(3))
}

fn input(call: &Call) -> Tokens {
    Tokens(texts(call).map(|text| tokens(text).0).sum::<u64>().max(1))
}

fn texts(call: &Call) -> impl Iterator<Item = &str> {
    call.system.as_deref().into_iter().chain(call.prompts.iter().flat_map(Prompt::texts))
}

fn shorten(text: &str, chars_max: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The first sentences of the first passage of knowledge in the call.
fn quote(call: &Call) -> String {
    let passage = |text: &str| {
        let (_, after) = text.split_once("<passage")?;
        let (_, inside) = after.split_once('>')?;
        let (passage, _) = inside.split_once("</passage>")?;
        Some(passage.to_owned())
    };
    let found = texts(call).map(passage).find_map(|found| found).unwrap_or_default();
    let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentences: String = found.split_inclusive(". ").take(QUOTE_SENTENCES).collect();
    shorten(&sentences, QUOTE_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_written_in_toml() {
        let script: Script = toml::from_str(
            "[[rule]]\nwhen = [\"Refund\"]\nsay = \"{quote}\"\nfail = \"rate_limited\"\ntimes = 2\n[default]\nsay = \"?\"\n",
        )
        .unwrap();
        assert_eq!(script.rules[0].fail, Some(Fail::RateLimited));
        assert!(toml::from_str::<Script>("[[rule]]\nwhenn = []\n").is_err());
    }

    #[tokio::test]
    async fn a_script_may_call_a_tool_that_is_offered() {
        let script: Script = toml::from_str(
            "[[rule]]\nwhen = [\"weather\"]\ncall = \"look\"\narguments = '{\"a\":1}'\n[default]\nsay = \"{last}\"\n",
        )
        .unwrap();
        let ask = |call: Call| async {
            let sent = super::super::Sent::default();
            let ask = Ask {
                call: Arc::new(call),
                model: "m".into(),
                max_output: Tokens(9),
                total: Duration::ZERO,
                sent,
            };
            let pieces: Vec<_> = Scripted::new(script.clone()).start(ask).await.unwrap().collect().await;
            pieces.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        };
        let call = crate::failover::tests::call("What is the weather?");
        let offered = Call { tools: vec![crate::failover::tests::tool("look")], ..call.clone() };
        let pieces = ask(offered.clone()).await;
        let head = Some(ToolHead { id: "call_1".into(), name: "look".into() });
        let delta = ToolDelta { index: 0, head, arguments: "{\"a\":1}".into() };
        assert!(pieces.contains(&Piece::Tool(delta)) && pieces.contains(&Piece::Finish(Finish::ToolCalls)));
        let text = |pieces: Vec<Piece>| -> String {
            let texts = pieces.into_iter().filter_map(|piece| match piece {
                Piece::Text(text) => Some(text),
                _ => None,
            });
            texts.collect()
        };
        let mut told = offered;
        let result = crate::ToolResult { id: "call_1".into(), text: "It rains.".into(), is_error: false };
        told.prompts.push(Prompt { role: crate::Role::User, parts: vec![crate::Part::ToolResult(result)] });
        assert_eq!(text(ask(told).await), "It rains.");
        assert_eq!(text(ask(call).await), "", "it is not offered");
    }

    #[test]
    fn a_quote_is_the_first_two_sentences_of_the_first_passage() {
        let mut call = crate::failover::tests::call("hello");
        call.system = Some(
            "Be kind. <passage source=\"a.md\">One is 1.5 wide.\nTwo. Three.</passage> <passage>x</passage>"
                .into(),
        );
        assert_eq!(quote(&call), "One is 1.5 wide. Two.");
        call.system = None;
        assert_eq!(quote(&call), "");
    }
}
