//! Behaviours that want what belongs to others, or more than there is.

use chela_sdk::memory::{self, Scope};
use chela_sdk::models::Request;
use chela_sdk::{AnsweringError, HostError, Outcome, Reply, http};

const SCOPES: [Scope; 3] = [Scope::Conversation, Scope::User, Scope::Agent];

/// Keys under which somebody else's secret might lie: its own, and ways out of what is one's own.
const GUESSES: [&str; 14] = [
    "secret",
    "other/secret",
    "../secret",
    "..\\secret",
    "other/support/secret",
    "people/secret",
    "default/people/secret",
    "drill/victim/secret",
    "victim",
    "*",
    "%",
    "secret' OR '1'='1",
    "secret\u{0}",
    "' UNION SELECT value FROM memory --",
];

/// `None`: it is no behaviour of these.
pub(crate) fn run(behaviour: &str, said: &str) -> Option<Result<Outcome, AnsweringError>> {
    let said = match behaviour {
        "keep" => keep(said, true),
        "keep-apart" => keep(said, false),
        "guess" => Ok(guess()),
        "credential" => Ok(credential()),
        "tier" => Ok(tier(said)),
        "empty" => Ok(String::new()),
        "model-flood" => loop {
            std::hint::black_box(Request::new("more").max_output_tokens(1).complete().is_ok());
        },
        "stream-flood" => stream_flood(),
        "memory-flood" => Ok(memory_flood()),
        "memory-giant" => Ok(refusal(memory::set(Scope::Agent, "giant", &"x".repeat(64 << 20)))),
        _ => return None,
    };
    Some(said.map(|text| Reply::text(text).into()))
}

/// Also for its agent, or for the person and the conversation alone: what the agent keeps, whoever asks it may be told.
fn keep(said: &str, is_agents: bool) -> Result<String, AnsweringError> {
    for scope in SCOPES.into_iter().filter(|scope| is_agents || *scope != Scope::Agent) {
        memory::set(scope, "secret", said)?;
    }
    Ok("kept".to_owned())
}

/// Everything that it finds under any key that it can think of.
fn guess() -> String {
    let found = |scope: Scope| {
        GUESSES.iter().filter_map(move |key| memory::get(scope, key).ok().flatten().map(|entry| entry.value))
    };
    let found: Vec<String> = SCOPES.into_iter().flat_map(found).collect();
    if found.is_empty() { "nothing".to_owned() } else { found.join(" ") }
}

fn credential() -> String {
    refusal(http::fetch(&http::Request {
        method: "GET".to_owned(),
        url: "https://api.example.com/".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        credential: Some("admin".to_owned()),
    }))
}

fn tier(said: &str) -> String {
    let tier = said.split(' ').next().unwrap_or_default();
    match Request::new("hello").tier(tier).complete() {
        Ok(_) => "served".to_owned(),
        Err(error) => format!("{error:?}").to_lowercase(),
    }
}

/// Never reads what it opens.
fn stream_flood() -> Result<String, AnsweringError> {
    let mut held = Vec::new();
    loop {
        held.push(std::hint::black_box(Request::new("more").stream()?));
    }
}

/// Until it is told to stop.
fn memory_flood() -> String {
    for n in 0..100_000_u32 {
        if let Err(error) = memory::set(Scope::Agent, &format!("key {n}"), &"x".repeat(1_000)) {
            return error.to_string();
        }
    }
    "100,000 values were kept".to_owned()
}

fn refusal<T>(result: Result<T, HostError>) -> String {
    match result {
        Ok(_) => "served".to_owned(),
        Err(HostError::NotGranted(why)) => format!("not granted, {why}"),
        Err(other) => other.to_string(),
    }
}
