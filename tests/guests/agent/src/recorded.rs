//! Behaviours whose answer shows what the host gave: each would be another if a run got anything else.

use std::collections::HashSet;
use std::time::{Instant, SystemTime};

use chela_sdk::models::{Request, StreamReader};
use chela_sdk::{AnsweringError, Outcome, Reply, Turn, knowledge};

/// `None`: it is no behaviour of these.
pub(crate) fn run(behaviour: &str, said: &str, turn: &Turn) -> Option<Result<Outcome, AnsweringError>> {
    let said = match behaviour {
        "dice" => dice(said),
        "search" => search(said),
        "past" => Ok(past(turn)),
        "stream-leak" => leaked(said),
        "resolve" => return Some(Ok(Outcome::Resolved(Reply::text("Glad to help.")))),
        "stream-trap" => {
            let _held = opened(said);
            std::process::abort()
        }
        "stream-drop-trap" => {
            drop(opened(said));
            std::process::abort()
        }
        _ => return None,
    };
    Some(said.map(|text| Reply::text(text).into()))
}

/// Wall clock, steady clock, random bytes and the order of a hash table, before a host call and after it.
fn dice(said: &str) -> Result<String, AnsweringError> {
    let began = Instant::now();
    let throw = || {
        let order: Vec<String> = (0..12_u8).collect::<HashSet<_>>().iter().map(ToString::to_string).collect();
        let bytes = uuid::Uuid::now_v7();
        format!("{:?} {:?} {bytes} {}", SystemTime::now(), began.elapsed(), order.join("-"))
    };
    let before = throw();
    let answer = Request::new(said).complete()?.text;
    Ok(format!("{before} | {answer} | {}", throw()))
}

/// With each score to its last bit.
fn search(said: &str) -> Result<String, AnsweringError> {
    let found = knowledge::search(said, 5)?;
    let line = |it: &knowledge::Passage| format!("{} {:08x}", it.source, it.score.to_bits());
    Ok(format!("found: {}", found.iter().map(line).collect::<Vec<_>>().join(", ")))
}

fn past(turn: &Turn) -> String {
    let texts: Vec<&str> = turn.past.iter().map(|said| said.text.as_str()).collect();
    format!("{} before: {}", texts.len(), texts.join(" / "))
}

fn opened(said: &str) -> Result<(StreamReader, String), AnsweringError> {
    let mut reader = Request::new(said).stream()?;
    let piece = reader.next().transpose()?.unwrap_or_default();
    Ok((reader, piece))
}

/// The stream is neither read to its end nor dropped.
fn leaked(said: &str) -> Result<String, AnsweringError> {
    let (reader, piece) = opened(said)?;
    std::mem::forget(reader);
    Ok(piece)
}
