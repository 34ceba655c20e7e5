//! What a call does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chela_sdk::memory::{self, Scope};
use chela_sdk::models::Request;
use chela_sdk::{AnsweringError, HostError, Outcome, Reply, Turn, blobs, http, log, tools};

/// Lives in the guest's memory: counts the calls that one instance has seen.
static CALLS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn run(behaviour: &str, said: &str, turn: &Turn, seen: &str) -> Result<Outcome, AnsweringError> {
    let behaviour = noted(behaviour);
    if let Some((how, tag)) = behaviour.split_once("tag-") {
        return tagged(how, tag, said);
    }
    match behaviour {
        "trap" => std::process::abort(),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "memory" => eat(),
        "recursion" => reply(deeper(0)),
        "flood-log" => loop {
            log::info("x".repeat(1_000));
        },
        "host-calls" => loop {
            std::hint::black_box(chela_sdk::config_json());
        },
        "giant" => reply("x".repeat(64 << 20)),
        "blocks" => Ok((0..200_000).fold(Reply::text("many"), |all, _| all.link("x", "y")).into()),
        "state" => reply(CALLS.fetch_add(1, Ordering::Relaxed)),
        "clock" => reply(clock()),
        "clock-model" => reply(ask(&format!("#{}", clock().replace(' ', "-")))?),
        "env" => reply(format!("{} {}", std::env::vars_os().count(), std::env::args_os().count())),
        "print" => print(said),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(said.trim().parse().unwrap_or(60_000)));
            reply("awake")
        }
        "init" => reply(if seen.len() > 100 { format!("{} bytes", seen.len()) } else { seen.to_owned() }),
        "hand-over-loop" => Ok(Outcome::hand_over(colleague(turn), "somebody else")),
        "ask-hand-over" => {
            ask(said)?;
            Ok(Outcome::hand_over(colleague(turn), "somebody else"))
        }
        "hand-over-ghost" => Ok(Outcome::hand_over("ghost", "nobody is there")),
        "hand-over-hr" => Ok(Outcome::hand_over("hr", "whoever asks")),
        "escalate" => Ok(Outcome::escalate("as told", Reply::text("A human will come."))),
        "ask-again" => Ok(Outcome::ask_again(said.trim().parse().unwrap_or(1_000), "not yet")),
        "ask-again-once" => ask_again_once(said),
        "unsuitable" => Err(AnsweringError::Unsuitable("as told".to_owned())),
        "wordy" => Err(AnsweringError::Other("\u{1b}[2Jwords ".repeat(100_000))),
        "unavailable" => Err(AnsweringError::Unavailable("as told".to_owned())),
        "model" => reply(ask(said)?),
        "fail-late" => {
            let answer = ask(said);
            if answer.is_err() {
                std::thread::sleep(Duration::from_secs(2));
            }
            reply(answer?)
        }
        "double" => reply(format!("{} | {}", ask(said)?, ask(said)?)),
        "fallback" => fallback(said),
        "relay" => reply(Request::new(said).relay()?.text),
        // Its drafts are seen, and then nothing comes of them.
        "relay-trap" => {
            let _ = Request::new(said).relay();
            std::process::abort()
        }
        // It has asked, and nothing comes of it.
        "ask-trap" => {
            let _ = ask(said);
            std::process::abort()
        }
        "stream" => reply(streamed(said)?),
        "stream-drop" => reply(first_piece(said)?),
        // What a second question shows, if the first one is not asked again.
        "stream-ask" => reply(format!("{} | {}", streamed(said)?, ask(said)?)),
        "stream-drop-ask" => reply(format!("{} | {}", first_piece(said)?, ask(said)?)),
        "memory-kv" => reply(kv()?),
        "recall" => recall(said),
        "work" => {
            work(said.split(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or_default());
            reply("worked")
        }
        "memory-kv-ask" => reply(format!("{} | {}", kv()?, ask(said)?)),
        "absent" => reply(absent()),
        "fetch" => reply(fetched(said)),
        "file" => reply(file(said)),
        "file-read" => reply(match blobs::read(said.trim(), 0) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => error.to_string(),
        }),
        "persona" => reply(&turn.profile.persona),
        _ => reply(format!("echo: {}", turn.message.text)),
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

/// `HOWtag-TAG`: the answer has the build's tag at both ends, and between them what is said without a model or with one.
fn tagged(how: &str, tag: &str, said: &str) -> Result<Outcome, AnsweringError> {
    let between = match how {
        "ask-" => ask(said)?,
        "stream-" => streamed(said)?,
        "relay-" => Request::new(said).relay()?.text,
        _ => said.to_owned(),
    };
    reply(format!("{tag} {} {tag}", between.trim()))
}

fn reply(text: impl ToString) -> Result<Outcome, AnsweringError> {
    Ok(Reply::text(text.to_string()).into())
}

/// Works for about so many milliseconds, on any machine of today. The clock stands still meanwhile: it is the turn's.
fn work(ms: u64) {
    let mut state = 1_u64;
    for round in 0..ms * 1_000_000 {
        state = std::hint::black_box(state.rotate_left(5) ^ round);
    }
}

/// So many host calls, each of which asks for something else.
fn recall(said: &str) -> Result<Outcome, AnsweringError> {
    let times: u32 = said.trim().parse().unwrap_or_default();
    for n in 0..times {
        memory::get(Scope::User, &format!("key-{n}"))?;
    }
    reply(times)
}

fn eat() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

/// Never ends by itself: the stack does.
#[allow(unconditional_recursion, reason = "that is the misbehaviour")]
fn deeper(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    here.iter().sum::<u64>().wrapping_add(deeper(depth.wrapping_add(1)))
}

fn clock() -> String {
    let (start, wall) = (Instant::now(), SystemTime::now());
    let wall = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1);
    format!("{wall} {} {seed}", start.elapsed().as_nanos())
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "what becomes of it is what is tested")]
fn print(said: &str) -> Result<Outcome, AnsweringError> {
    println!("out {said}");
    eprintln!("err {said}");
    reply("printed")
}

/// The first colleague: with two agents like this one, they hand over for ever.
fn colleague(turn: &Turn) -> String {
    turn.profile
        .colleagues
        .first()
        .map_or_else(|| turn.profile.agent.clone(), |colleague| colleague.agent.clone())
}

fn ask(said: &str) -> Result<String, AnsweringError> {
    Ok(Request::new(said).max_output_tokens(50).complete()?.text)
}

fn streamed(said: &str) -> Result<String, AnsweringError> {
    let mut reader = Request::new(said).stream()?;
    let pieces: Vec<String> = reader.by_ref().collect::<Result<_, _>>()?;
    let whole = reader.completion()?;
    Ok(format!("{} pieces, {}: {}", pieces.len(), pieces.concat() == whole.text, whole.text))
}

/// The reader is dropped before its end.
fn first_piece(said: &str) -> Result<String, AnsweringError> {
    Ok(Request::new(said).stream()?.next().transpose()?.unwrap_or_default())
}

/// Gets over its first question's failure, and asks twice more.
fn fallback(said: &str) -> Result<Outcome, AnsweringError> {
    let first = ask(said);
    let (second, third) = (ask(said)?, ask(said)?);
    reply(format!("{} | {second} | {third}", if first.is_err() { "failed" } else { "answered" }))
}

/// Remembers that it has asked: the journal of a turn that comes again is empty.
fn ask_again_once(said: &str) -> Result<Outcome, AnsweringError> {
    if memory::get(Scope::Conversation, "asked")?.is_some() {
        return reply("now");
    }
    memory::set(Scope::Conversation, "asked", "yes")?;
    Ok(Outcome::ask_again(said.trim().parse().unwrap_or(1_000), "not yet"))
}

/// What each function says that this host does not serve.
fn absent() -> String {
    let said = [
        denial("list-tools", tools::list_tools(None)),
        denial("call", tools::call("search", "{}")),
        denial("fetch", http::fetch(&request("GET https://example.com/"))),
        denial("read", blobs::read("b1", 0)),
        denial("write", blobs::write("a.txt", "text/plain", b"a")),
    ];
    said.join("\n")
}

/// `METHOD URL`, then in any order `credential=NAME`, `header=NAME:VALUE`, `body=TEXT`.
fn request(said: &str) -> http::Request {
    let mut words = said.split_whitespace().map(str::to_owned);
    let mut request = http::Request {
        method: words.next().unwrap_or_default(),
        url: words.next().unwrap_or_default(),
        headers: Vec::new(),
        body: Vec::new(),
        credential: None,
    };
    for word in words {
        match word.split_once('=') {
            Some(("credential", name)) => request.credential = Some(name.to_owned()),
            Some(("body", text)) => request.body = text.as_bytes().to_vec(),
            Some(("header", header)) => {
                let (name, value) = header.split_once(':').unwrap_or((header, ""));
                request.headers.push(http::Header { name: name.to_owned(), value: value.to_owned() });
            }
            _ => {}
        }
    }
    request
}

/// Status and body, or the error.
fn fetched(said: &str) -> String {
    match http::fetch(&request(said)) {
        Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
        Err(error) => error.to_string(),
    }
}

/// Keeps what was said, and reads it in two parts; so many times the word for a number of bytes.
fn file(said: &str) -> String {
    let content = match said.trim().parse::<usize>() {
        Ok(bytes) => vec![b'x'; bytes],
        Err(_) => said.as_bytes().to_vec(),
    };
    let handle = match blobs::write("said.txt", "text/plain", &content) {
        Ok(handle) => handle,
        Err(error) => return error.to_string(),
    };
    let mut read = Vec::new();
    loop {
        match blobs::read(&handle, read.len() as u64) {
            Ok(part) if part.is_empty() => break,
            Ok(part) => read.extend(part),
            Err(error) => return error.to_string(),
        }
    }
    format!("{handle} {} bytes, {}", read.len(), read == content)
}

fn denial<T>(function: &str, result: Result<T, HostError>) -> String {
    match result {
        Err(HostError::NotGranted(why)) => format!("{function}: not granted, {why}"),
        Err(other) => format!("{function}: {other}"),
        Ok(_) => format!("{function}: served"),
    }
}

/// Counts in each scope; then a compare-and-set that must succeed and one that must not.
fn kv() -> Result<String, AnsweringError> {
    let mut said = Vec::new();
    for scope in [Scope::Conversation, Scope::User, Scope::Agent] {
        let before = memory::get(scope, "count")?;
        let count = before.as_ref().and_then(|entry| entry.value.parse::<u64>().ok()).unwrap_or(0) + 1;
        said.push(format!("{count}@{}", memory::set(scope, "count", &count.to_string())?));
    }
    let version = memory::get(Scope::Conversation, "cas")?.map_or(0, |entry| entry.version);
    let right = memory::compare_and_set(Scope::Conversation, "cas", version, "x")?;
    let wrong = memory::compare_and_set(Scope::Conversation, "cas", version, "y")?;
    Ok(format!("{} {right} {wrong}", said.join(" ")))
}
