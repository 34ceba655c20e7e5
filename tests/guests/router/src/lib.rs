//! A router that misbehaves as it is told, by the first word of the message or by `behaviour` in its config.

use std::sync::atomic::{AtomicU64, Ordering};

use chela_sdk::models::{Completion, ModelError, Request};
use chela_sdk::{Context, Decision, Message, Router, RoutingError, log};

/// Lives in the guest's memory: counts the calls that one instance has seen.
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Guest {
    behaviour: Option<String>,
}

impl Router for Guest {
    fn init() -> Result<Self, String> {
        let config: serde_json::Value = chela_sdk::config()?;
        let word = |key: &str| config.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        match word("init").as_deref() {
            Some("error") => return Err("the guest refuses to start".to_owned()),
            Some("trap") => std::process::abort(),
            // About a second.
            Some("slow") => (0..1_000_000_000_u64).for_each(|n| {
                std::hint::black_box(n);
            }),
            _ => {}
        }
        Ok(Self { behaviour: word("behaviour") })
    }

    fn route(&self, message: Message, context: Context) -> Result<Decision, RoutingError> {
        let first = message.text.split(' ').next().unwrap_or_default();
        let default = || Decision::to(&context.default_agent);
        match noted(self.behaviour.as_deref().unwrap_or(first)) {
            "trap" => std::process::abort(),
            "loop" => loop {
                std::hint::black_box(0);
            },
            "memory" => eat(),
            "flood-log" => loop {
                log::info("x".repeat(1_000));
            },
            "host-calls" => loop {
                std::hint::black_box(chela_sdk::config_json());
            },
            "ghost" => Ok(Decision::to("ghost").because("nobody is there")),
            "unauthorised" => Ok(Decision::to("hr").because("whoever asks")),
            "giant" => Ok(default().because("x".repeat(64 << 20))),
            "words" => Ok(default().because(format!("the person said: {}", message.text))),
            "score" => Ok(default().score(f32::NAN).because("a score that is no number")),
            "alternatives" => Ok((0..100_000).fold(default(), |all, _| all.or("ghost", 2.0))),
            "state" => Ok(default().because(CALLS.fetch_add(1, Ordering::Relaxed).to_string())),
            // The marker tells its questions from an agent's.
            "model" => as_told(Request::new(format!("route: {}", message.text)).complete()),
            "relay" => as_told(Request::new(format!("route: {}", message.text)).relay()),
            "asks" => Ok(default().because(asked(&message.text)?)),
            // The second question is one that nobody has asked who asks once.
            "asks-twice" => {
                asked(&message.text)?;
                Ok(default().because(asked("again")?))
            }
            "slow" => {
                busy(60);
                Ok(default().because("slow"))
            }
            tag if tag.starts_with("tag-") => Ok(default().because(tag)),
            "past" => Ok(as_begun(&context)),
            "scored" => Ok(scored(&message.text, default())),
            "none" => Err(RoutingError::NoMatch("as told".to_owned())),
            "error" => Err(RoutingError::Other("as told".to_owned())),
            word => match context.candidates.iter().find(|candidate| candidate.agent == word) {
                Some(candidate) => Ok(Decision::to(&candidate.agent).because("the first word names it")),
                None => Ok(default().because("the default")),
            },
        }
    }
}

/// Behind `noted-` a behaviour says in the log that it was called: so calls are counted of which nobody hears the end.
fn noted(behaviour: &str) -> &str {
    let rest = behaviour.strip_prefix("noted-");
    if rest.is_some() {
        log::info("called");
    }
    rest.unwrap_or(behaviour)
}

/// Works for so many milliseconds at least, on any machine of today. The clock stands still meanwhile: it is the turn's.
fn busy(ms: u64) {
    let mut state = 1_u64;
    for round in 0..ms * 1_000_000 {
        state = std::hint::black_box(state.rotate_left(5) ^ round);
    }
}

/// What a model says to it, whatever that is worth.
fn asked(text: &str) -> Result<String, RoutingError> {
    let said = Request::new(format!("route: {text}")).complete();
    said.map(|said| said.text).map_err(|error| RoutingError::Other(format!("no model: {error}")))
}

/// As sure as the second word says, and a third as sure of another.
fn scored(text: &str, decision: Decision) -> Decision {
    let score: f32 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0.5);
    decision.score(score).or("hr", score / 3.0).because("as told")
}

/// The first word of the model's answer is the agent.
fn as_told(said: Result<Completion, ModelError>) -> Result<Decision, RoutingError> {
    let said = said.map_err(|error| RoutingError::Other(format!("no model: {error}")))?;
    let first = said.text.split_whitespace().next().unwrap_or_default();
    Ok(Decision::to(first).because("the model names it"))
}

/// The first word of the whole conversation is the agent, if it is one.
fn as_begun(context: &Context) -> Decision {
    let begun = context.past.first().and_then(|first| first.text.split_whitespace().next());
    let agent = begun.filter(|word| context.may_reach(word)).unwrap_or(&context.default_agent);
    Decision::to(agent).because(format!("{} earlier utterances", context.past.len()))
}

fn eat() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

chela_sdk::export!(router: Guest);
