//! What a hostile worker could say, as bytes.

use super::frame::{self, Failed, Failure, Kind as Word};
use super::parent::{Caller, Event, HEARD_MAX, Held, Workers, frame_bytes_max};
use super::pipe;
use super::{Isolation, Loading, Spares, within};
use crate::error::Reason;
use crate::limits::{Limit, Limits};
use crate::log::{GuestLog, Level, Line, Stamp};
use crate::manifest::Manifest;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use tokio::sync::mpsc;

/// As much as a socket takes at once, whoever reads it.
pub const SAID_BYTES_MAX: usize = 64 << 10;
/// Calls that wait for the worker.
pub const CALLS: u64 = 3;

/// What a host made of them.
#[derive(Debug, Default)]
pub struct Heard {
    /// Questions that were handed on to a call.
    pub asked: usize,
    /// What guests said, by call.
    pub said: Vec<(u64, Vec<u8>)>,
    /// Calls that ended otherwise, and how.
    pub failed: Vec<Option<Reason>>,
    /// Log lines that came with either.
    pub lines: usize,
    /// What broke the protocol.
    pub broken: Option<String>,
}

/// Listens to a worker that says this and ends, while calls 1 to [`CALLS`] wait for it.
///
/// # Errors
/// What this machine says of its sockets.
pub async fn listened(said: &[u8], limits: &Limits) -> io::Result<Heard> {
    let (ours, mut theirs) = Socket::pair()?;
    theirs.write_all(said.get(..SAID_BYTES_MAX).unwrap_or(said))?;
    drop(theirs);
    let (pipe, incoming) = pipe::open(ours, frame_bytes_max(limits))?;
    let held = Held::new(pipe, incoming, limits);
    let mut callers = Vec::new();
    for call in 1..=CALLS {
        let (hears, heard) = mpsc::channel(HEARD_MAX);
        held.calls.lock().insert(call, Caller::Waits(hears));
        callers.push((call, heard));
    }
    held.calls.lock().insert(CALLS + 1, Caller::Cancelled);
    let listened = held.listen().await;
    let mut heard = Heard { broken: listened.err().map(|error| error.to_string()), ..Heard::default() };
    for (call, mut events) in callers {
        while let Ok(event) = events.try_recv() {
            heard.take(call, event, limits);
        }
    }
    Ok(heard)
}

impl Heard {
    fn take(&mut self, call: u64, event: Event, limits: &Limits) {
        let lines = match event {
            Event::Asked(_) => {
                self.asked += 1;
                return;
            }
            Event::Said(lines, said) => {
                self.said.push((call, said));
                lines
            }
            Event::Failed(lines, why) => {
                self.failed.push(why.reason());
                lines
            }
            Event::Gone(_) => return,
        };
        self.lines += lines.len();
        let stamp = Stamp { name: "fuzzed".to_owned(), version: "1.0.0".to_owned() };
        GuestLog::to_host(Arc::new(stamp), limits).pass_on(lines);
    }
}

/// A value that a worker sends, read as a host reads it.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read<T: DeserializeOwned>(said: &[u8], limits: &Limits) -> io::Result<T> {
    within::decoded(said, limits.output_bytes)
}

/// The worker of a plugin of which nothing but the manifest is there: it can be looked at, and no call of it begins.
pub(crate) fn nobody(manifest: &Manifest, limits: &Limits) -> Workers {
    let loading = Loading {
        plugin: manifest.name.to_string(),
        version: manifest.version.clone(),
        kind: manifest.kind,
        manifest: String::new(),
        config: "{}".to_owned(),
        limits: limits.clone(),
        data_bytes_max: 0,
        code_bytes: 0,
    };
    Workers::later(Spares::new(Isolation::new("nobody", [] as [&str; 0])), loading, Bytes::new())
}

/// What honest workers say, and what these words are called.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let lines = || vec![Line { level: Level::Info, text: "a line".to_owned() }];
    let frames = |frames: &[(Word, u64, Vec<u8>)]| {
        let mut bytes = Vec::new();
        for (word, call, body) in frames {
            // None of these is longer than a frame may be.
            let _ = frame::put(&mut bytes, (*word, *call), &[body]);
        }
        bytes
    };
    let said = |text: &[u8]| [frame::encoded(&lines()).unwrap_or_default(), text.to_vec()].concat();
    let failed = |why| frame::encoded(&Failed { lines: lines(), why }).unwrap_or_default();
    let trap = Failure::Trap { short: "unreachable".to_owned(), message: "wasm trap\n  0: f".to_owned() };
    vec![
        ("said", frames(&[(Word::Said, 1, said(b"well"))])),
        ("asked", frames(&[(Word::Asked, 1, b"what".to_vec()), (Word::Said, 1, said(b"well"))])),
        ("trap", frames(&[(Word::Failed, 2, failed(trap))])),
        ("late", frames(&[(Word::Failed, 3, failed(Failure::OutOfTime))])),
        ("limit", frames(&[(Word::Failed, 1, failed(Failure::Limit(Limit::HostCalls, 5)))])),
        ("pool", frames(&[(Word::Failed, 1, failed(Failure::Limit(Limit::Pool, 5)))])),
        ("cancelled", frames(&[(Word::Failed, CALLS + 1, failed(Failure::OutOfTime))])),
        ("over", frames(&[(Word::Said, 1, said(b"well")), (Word::Said, 1, said(b"again"))])),
        ("hosts-own", frames(&[(Word::Told, 1, Vec::new())])),
        ("up", frames(&[(Word::Up, 0, Vec::new()), (Word::Ready, 0, Vec::new())])),
    ]
}
