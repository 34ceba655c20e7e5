//! A turn as people read it: what happened to one message, in the order in which it happened.
//!
//! The same shape goes over the admin routes as JSON and onto the terminal as a page. What was said is in it
//! only if it was asked for.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use chela_store::{ReceiptRecord, SettledAs, Store, TurnRecord, TurnState};
use chela_types::{CacheNote, CacheVerdict, Decision, Millis, ModelCall, Money, RoutedBy};
use serde::{Deserialize, Serialize};

/// Turns in a list, unless another number is asked for.
pub const LIST_USUAL: usize = 20;
/// Hex digits of a version that are shown.
const DIGEST_DIGITS: usize = 12;

/// The beginning of a digest in hex, for people.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(DIGEST_DIGITS).collect()
}
/// Turns in one list at most.
pub const LIST_MAX: usize = 1_000;

/// Everything that is told of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Its id.
    pub id: String,
    /// The channel account.
    pub channel: String,
    /// `open`, `delivered`, `dead`, `undelivered`, or `withdrawn` by whoever wrote it.
    pub state: String,
    /// How the agent ended it.
    pub outcome: Option<String>,
    /// When it came.
    pub received: Millis,
    /// Milliseconds after that until a worker had it.
    pub claimed_after_ms: Option<u64>,
    /// Milliseconds after that until the answer was kept.
    pub answered_after_ms: Option<u64>,
    /// Milliseconds after that until it was closed.
    pub closed_after_ms: Option<u64>,
    /// Which agents were chosen, and why; the last one counts.
    pub decisions: Vec<Decision>,
    /// Model calls.
    pub calls: Vec<Call>,
    /// Host calls that a repetition would not make again: function and number.
    pub journal: Vec<String>,
    /// Versions of plugins that ran it, by their digests: the router's, then those of the agents.
    #[serde(default)]
    pub versions: Vec<String>,
    /// The answer's way out.
    pub delivery: Option<Delivery>,
    /// Failures by a plugin's fault.
    pub tries: u32,
    /// Failures by the host's.
    pub crashes: u32,
    /// Waits for something outside.
    pub waits: u32,
    /// The last failure.
    pub last_error: Option<String>,
    /// What was said, if it was asked for and is still kept.
    pub content: Option<Content>,
}

/// A model call and its money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The first model of the chain.
    pub asked: String,
    /// `open`, `settled`, `unknown` or `released`.
    pub state: String,
    /// What was set aside.
    pub reserved: Money,
    /// What is charged.
    pub cost: Money,
    /// How it went; absent while it runs and if a crash hid it.
    pub record: Option<ModelCall>,
}

/// The answer's way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The answer's id.
    pub id: String,
    /// Which agent speaks.
    pub agent: String,
    /// The host's own words.
    pub is_notice: bool,
    /// `kept`, `sending`, `editing`, `sent`, `delivered` or `undelivered`.
    pub status: String,
    /// Requests that were begun.
    pub requests: u32,
    /// Sends that may or may not have arrived.
    pub ambiguous: u32,
    /// The platform's id of the message.
    pub platform_id: Option<String>,
    /// What the platform told of it afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Receipt>,
}

/// A word of the platform about an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// `sent`, `delivered`, `read` or `failed`.
    pub state: String,
    /// When it was told.
    pub at: Millis,
    /// The platform's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// By whom, as the platform calls him.
    pub sender: Option<String>,
    /// The message.
    pub message: Option<String>,
    /// The answer.
    pub reply: Option<String>,
}

impl Turn {
    /// From the store's record; with what was said only if `with_content`.
    pub fn new(record: TurnRecord, with_content: bool) -> Self {
        let after = |at: Option<Millis>| {
            at.map(|at| u64::try_from(at.since(record.received).as_millis()).unwrap_or(u64::MAX))
        };
        let content = with_content.then(|| Content {
            sender: record.message.as_ref().map(|message| message.sender.id.clone()),
            message: record.message.as_ref().map(|message| message.text.clone()),
            reply: record.reply.as_ref().map(|reply| reply.text.clone()),
        });
        let call = |row: chela_store::LedgerRow| Call {
            asked: row.model,
            state: settled(row.state).to_owned(),
            reserved: row.amount,
            cost: row.cost,
            record: row.call,
        };
        let error = |(error, blame): (String, Option<String>)| match blame {
            Some(blame) => format!("{error} (the {blame}'s fault)"),
            None => error,
        };
        Self {
            claimed_after_ms: after(record.claimed),
            answered_after_ms: after(record.outbox.as_ref().map(|outbox| outbox.kept)),
            closed_after_ms: after(record.closed),
            id: record.id.to_string(),
            channel: record.channel.to_string(),
            state: state(record.state).to_owned(),
            outcome: record.outcome,
            received: record.received,
            decisions: record.decisions.into_iter().map(|(_, decision)| decision).collect(),
            calls: record.calls.into_iter().map(call).collect(),
            journal: (record.journal.into_iter())
                .map(|(_, function, _)| function)
                // The journal's own marks are no calls.
                .filter(|function| !function.starts_with("turn."))
                .collect(),
            versions: record.versions.iter().map(ToString::to_string).collect(),
            delivery: record.outbox.map(|outbox| Delivery {
                id: outbox.id.to_string(),
                agent: outbox.agent.to_string(),
                is_notice: outbox.notice,
                status: outbox.status,
                requests: outbox.requests,
                ambiguous: outbox.ambiguous,
                platform_id: outbox.platform_id,
                receipts: outbox.receipts.into_iter().map(receipt).collect(),
            }),
            tries: record.tries,
            crashes: record.crashes,
            waits: record.waits,
            last_error: record.last_error.map(error),
            content,
        }
    }

    /// The newest turns, newest first; at most [`LIST_MAX`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn newest(store: &Store, limit: usize) -> Result<Vec<Self>, chela_store::Error> {
        let mut turns = Vec::new();
        for id in store.recent_turns(limit.min(LIST_MAX)).await? {
            turns.extend(store.turn_record(id).await?.map(|record| Self::new(record, false)));
        }
        Ok(turns)
    }

    /// The agent that counts.
    pub fn agent(&self) -> Option<&str> {
        self.decisions.last().map(|decision| decision.agent.as_str())
    }

    /// What all calls together cost.
    pub fn cost(&self) -> Money {
        self.calls.iter().map(|call| call.cost).sum()
    }
}

fn state(state: TurnState) -> &'static str {
    match state {
        TurnState::Open => "open",
        TurnState::Delivered => "delivered",
        TurnState::Dead => "dead",
        TurnState::Undelivered => "undelivered",
        TurnState::Withdrawn => "withdrawn",
    }
}

fn receipt(told: ReceiptRecord) -> Receipt {
    Receipt { state: told.state.word().to_owned(), at: told.at, detail: told.detail }
}

fn settled(state: SettledAs) -> &'static str {
    match state {
        SettledAs::Open => "open",
        SettledAs::Settled => "settled",
        SettledAs::Unknown => "unknown",
        SettledAs::Released => "released",
    }
}

/// Width of the words on the left.
const LABEL: usize = 9;

/// One line, whatever a plugin or a platform has put into the value.
fn line(f: &mut Formatter<'_>, label: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "  {label:<LABEL$} {}", in_one_line(&value.to_string()))
}

impl Display for Turn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let took = self.closed_after_ms.map(|ms| format!(" in {ms} ms")).unwrap_or_default();
        writeln!(f, "turn {} · {}{took}", self.id, self.state)?;
        line(f, "channel", format_args!("{}, received {}", self.channel, time(self.received)))?;
        for decision in &self.decisions {
            line(f, "agent", Chosen(decision))?;
            if !decision.alternatives.is_empty() {
                let others = decision.alternatives.iter();
                let others: Vec<_> =
                    others.map(|other| format!("{} {:.2}", other.agent, other.score)).collect();
                line(f, "", format_args!("or: {}", others.join(", ")))?;
            }
            if let Some(overruled) = &decision.overruled {
                line(f, "", format_args!("overruled: {overruled}"))?;
            }
        }
        for call in &self.calls {
            line(f, "model", call)?;
            call.attempts(f)?;
        }
        if !self.journal.is_empty() {
            line(f, "journal", Counted(&self.journal))?;
        }
        if !self.versions.is_empty() {
            let short: Vec<String> = self.versions.iter().map(|digest| short(digest)).collect();
            line(f, "versions", short.join(", "))?;
        }
        if let Some(delivery) = &self.delivery {
            line(f, "delivery", delivery)?;
            for Receipt { state, at, detail } in &delivery.receipts {
                let detail = detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
                line(f, "", format_args!("{state} at {}{detail}", time(*at)))?;
            }
        }
        self.trouble(f)?;
        self.times(f)?;
        self.content.as_ref().map_or(Ok(()), |content| content.fmt(f))
    }
}

impl Turn {
    fn trouble(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let counted =
            [(self.tries, "failed"), (self.crashes, "interrupted by a crash"), (self.waits, "waited")];
        for (times, what) in counted.into_iter().filter(|(times, _)| *times > 0) {
            line(f, "trouble", format_args!("{what} {times} ×"))?;
        }
        match &self.last_error {
            Some(error) => line(f, "trouble", error),
            None => Ok(()),
        }
    }

    fn times(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let steps = [
            ("claimed", self.claimed_after_ms),
            ("answer kept", self.answered_after_ms),
            ("closed", self.closed_after_ms),
        ];
        let steps: Vec<_> =
            steps.iter().filter_map(|(step, ms)| ms.map(|ms| format!("{step} after {ms} ms"))).collect();
        if steps.is_empty() { Ok(()) } else { line(f, "times", steps.join(", ")) }
    }
}

/// A decision in one line.
struct Chosen<'a>(&'a Decision);

impl Display for Chosen<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Decision { agent, by, score, reason, micros, .. } = self.0;
        write!(f, "{agent} ← ")?;
        match by {
            RoutedBy::Router { plugin, version, digest } => {
                let digest = short(digest);
                write!(f, "{plugin} {version} ({digest}): {reason}, score {score:.2}, {micros} µs")
            }
            RoutedBy::Policy => write!(f, "policy: {reason}"),
            RoutedBy::HandOver { from } => write!(f, "handed over by {from}: {reason}"),
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(record) = &self.record else {
            return write!(
                f,
                "{} · {}, reserved {}, charged {}",
                self.asked, self.state, self.reserved, self.cost
            );
        };
        let ModelCall { tier, asked, why, model, price, cache, kept, saved, usage, millis, .. } = record;
        let model = model.as_deref().unwrap_or("nobody answered");
        let cache = match cache {
            CacheVerdict::Hit => "cache hit",
            CacheVerdict::Canonical => "cache hit in another form",
            CacheVerdict::Similar => "cache hit by likeness",
            CacheVerdict::Miss => "cache miss",
            CacheVerdict::Joined => "joined a call under way",
            CacheVerdict::Off => "cache off",
        };
        if let Some(asked) = asked {
            let is_sla = why.as_deref() == Some("sla");
            let what = if is_sla { "gave way to waiting times" } else { "was over a budget" };
            write!(f, "{asked} {what}; ")?;
        }
        write!(f, "{tier}")?;
        if let Some(why) = why.as_deref().filter(|why| !matches!(*why, "wish" | "budget" | "sla")) {
            write!(f, " ({})", in_one_line(why))?;
        }
        write!(f, " → {model} · {cache} · {} tokens in, {} out", usage.input, usage.output)?;
        for (tokens, how) in
            [(usage.cached, "cached by the provider"), (usage.written, "written to its cache")]
        {
            if tokens.0 > 0 {
                write!(f, " ({tokens} of them {how})")?;
            }
        }
        write!(f, " · {} of {} reserved · {millis} ms", self.cost, self.reserved)?;
        if let Some(CacheNote { entry, likeness, why }) = kept {
            write!(f, " · entry {entry}: {why}")?;
            if let Some(likeness) = likeness {
                write!(f, ", {} % alike", f32::from(*likeness) / 10.0)?;
            }
        }
        if *saved > Money::ZERO {
            write!(f, " · saved {saved}")?;
        }
        price.iter().try_for_each(|price| write!(f, " · price {price}"))
    }
}

impl Call {
    /// The tries, if there was more than one or the only one failed.
    fn attempts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let attempts = self.record.as_ref().map_or(&[][..], |record| &record.attempts);
        if attempts.len() < 2 && attempts.iter().all(|attempt| attempt.class == "ok") {
            return Ok(());
        }
        for (n, attempt) in attempts.iter().enumerate() {
            let blame = attempt.blame.map(|blame| format!(" ({blame}'s fault)")).unwrap_or_default();
            line(
                f,
                "",
                format_args!("{}. {} {}{blame}, {} ms", n + 1, attempt.model, attempt.class, attempt.millis),
            )?;
        }
        Ok(())
    }
}

/// Host calls, equal ones in a row counted: `knowledge.search, models.relay × 2`.
struct Counted<'a>(&'a [String]);

impl Display for Counted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, run) in self.0.chunk_by(|one, other| one == other).enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            match run {
                [] => {}
                [only] => write!(f, "{separator}{only}")?,
                [first, ..] => write!(f, "{separator}{first} × {}", run.len())?,
            }
        }
        Ok(())
    }
}

impl Display for Delivery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let requests = if self.requests == 1 { "request" } else { "requests" };
        write!(f, "{}, {} {requests}", self.status, self.requests)?;
        if self.ambiguous > 0 {
            write!(f, ", {} of unknown outcome", self.ambiguous)?;
        }
        if self.is_notice {
            f.write_str(", the host's own notice")?;
        }
        match &self.platform_id {
            Some(id) => write!(f, ", platform id {id}"),
            None => Ok(()),
        }
    }
}

impl Display for Content {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (label, text) in [("said", &self.message), ("answered", &self.reply)] {
            match text {
                Some(text) => {
                    let mut label = label;
                    for said in text.split('\n') {
                        line(f, label, said)?;
                        label = "";
                    }
                }
                None => line(f, label, "(not kept any more)")?,
            }
        }
        Ok(())
    }
}

/// People's words without what would steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The same without line breaks: what a plugin or a platform calls itself cannot pass for a line of ours.
pub fn in_one_line(text: &str) -> String {
    printable(text).replace('\n', "\u{fffd}")
}

/// `2026-11-22 08:15:04.123 UTC`.
pub fn time(at: Millis) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// `2026-11-22 08:15:04 UTC`: for what people do, which takes seconds.
pub fn moment(at: Millis) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// `12 s`, `5 min`, `3 h`, `9 d`: how long, to the eye.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use chela_types::{AgentId, Attempt, Blame, ChannelId, PluginId, TierId, Tokens, Usage};

    fn call() -> Call {
        let attempt = |model: &str, class: &str, blame| Attempt {
            model: model.to_owned(),
            class: class.to_owned(),
            blame,
            millis: 40,
            first_token_millis: None,
        };
        Call {
            asked: "openai/gpt-4o-mini".to_owned(),
            state: "settled".to_owned(),
            reserved: Money::from_nanos(1_200_000),
            cost: Money::from_nanos(135_000),
            record: Some(ModelCall {
                tier: TierId::new("fast").unwrap(),
                asked: None,
                why: None,
                model: Some("anthropic/claude-haiku".to_owned()),
                price: Some("builtin 2026-11-30 0123456789ab".to_owned()),
                cache: CacheVerdict::Miss,
                kept: None,
                saved: Money::ZERO,
                lost: std::collections::BTreeMap::new(),
                attempts: vec![
                    attempt("openai/gpt-4o-mini", "unavailable", Some(Blame::Provider)),
                    attempt("anthropic/claude-haiku", "ok", None),
                ],
                usage: Usage {
                    input: Tokens(312),
                    cached: Tokens(40),
                    written: Tokens(12),
                    output: Tokens(60),
                },
                reserved: Money::from_nanos(1_200_000),
                cost: Money::from_nanos(135_000),
                charged: Tokens(372),
                millis: 81,
            }),
        }
    }

    /// A turn with something of everything.
    pub(crate) fn turn() -> Turn {
        let decision = Decision {
            channel: ChannelId::new("slack").unwrap(),
            agent: AgentId::new("hr").unwrap(),
            by: RoutedBy::Router {
                plugin: PluginId::new("keyword").unwrap(),
                version: "0.1.0".to_owned(),
                digest: "0123456789abcdef".to_owned(),
            },
            score: 0.9,
            reason: "phrase `parental leave`".to_owned(),
            alternatives: Vec::new(),
            overruled: None,
            micros: 38,
        };
        Turn {
            id: "0198f3c1a2b37c4d8e9f0a1b2c3d4e5f".to_owned(),
            channel: "slack".to_owned(),
            state: "delivered".to_owned(),
            outcome: Some("reply".to_owned()),
            received: Millis(1_763_798_400_123),
            claimed_after_ms: Some(2),
            answered_after_ms: Some(120),
            closed_after_ms: Some(143),
            decisions: vec![decision],
            calls: vec![call()],
            journal: ["knowledge.search", "models.relay", "models.relay"].map(str::to_owned).to_vec(),
            versions: vec!["3f".repeat(32)],
            delivery: Some(Delivery {
                id: "1".to_owned(),
                agent: "hr".to_owned(),
                is_notice: false,
                status: "delivered".to_owned(),
                requests: 1,
                ambiguous: 0,
                platform_id: Some("1763798400.000001".to_owned()),
                receipts: vec![Receipt {
                    state: "read".to_owned(),
                    at: Millis(1_763_798_401_500),
                    detail: None,
                }],
            }),
            tries: 0,
            crashes: 1,
            waits: 0,
            last_error: None,
            content: Some(Content {
                sender: Some("U1".to_owned()),
                message: Some("two\nlines \u{1b}[31m".to_owned()),
                reply: None,
            }),
        }
    }

    #[test]
    fn a_turn_is_a_page_that_a_person_reads() {
        insta::assert_snapshot!(turn().to_string(), @"
        turn 0198f3c1a2b37c4d8e9f0a1b2c3d4e5f · delivered in 143 ms
          channel   slack, received 2025-11-22 08:00:00.123 UTC
          agent     hr ← keyword 0.1.0 (0123456789ab): phrase `parental leave`, score 0.90, 38 µs
          model     fast → anthropic/claude-haiku · cache miss · 312 tokens in, 60 out (40 of them cached by the provider) (12 of them written to its cache) · $0.000135 of $0.0012 reserved · 81 ms · price builtin 2026-11-30 0123456789ab
                    1. openai/gpt-4o-mini unavailable (provider's fault), 40 ms
                    2. anthropic/claude-haiku ok, 40 ms
          journal   knowledge.search, models.relay × 2
          versions  3f3f3f3f3f3f
          delivery  delivered, 1 request, platform id 1763798400.000001
                    read at 2025-11-22 08:00:01.500 UTC
          trouble   interrupted by a crash 1 ×
          times     claimed after 2 ms, answer kept after 120 ms, closed after 143 ms
          said      two
                    lines \u{fffd}[31m
          answered  (not kept any more)
        ");
    }

    /// A router's reason, a platform's id and an error's text come from others, and an operator reads them.
    #[test]
    fn nobodys_words_steer_the_terminal_or_pass_for_a_line() {
        let evil = "\u{1b}[2J\u{9b}31m\n  delivery  delivered\r\u{7}".to_owned();
        let mut turn = turn();
        for decision in &mut turn.decisions {
            decision.reason.clone_from(&evil);
            decision.overruled = Some(evil.clone());
            decision.by = RoutedBy::HandOver { from: AgentId::new("support").unwrap() };
        }
        turn.last_error = Some(evil.clone());
        turn.delivery.as_mut().unwrap().platform_id = Some(evil.clone());
        turn.calls[0].asked.clone_from(&evil);
        turn.calls[0].record = None;
        turn.content = Some(Content { sender: None, message: Some(evil), reply: None });
        let text = turn.to_string();
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(steers), "{text:?}");
        let said = text.lines().filter(|line| line.starts_with("  delivery  delivered")).count();
        assert_eq!(said, 1, "{text}");
    }

    #[test]
    fn a_turn_survives_the_admin_routes() {
        let json = serde_json::to_string(&turn()).unwrap();
        assert_eq!(serde_json::from_str::<Turn>(&json).unwrap(), turn());
    }
}
