//! What a hostile compiler process could say, as bytes.

use super::frame::{self, Frame, Job, Verdict};
use super::parent::{End, listen};
use super::{Compiler, Stage};
use crate::error::Refusal;
use crate::limits::{Limit, Limits};
use crate::log::{Level, Line};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest artefact of a host that listens here.
pub const ARTEFACT_BYTES_MAX: u64 = 4 << 10;

/// What a host made of them.
#[derive(Debug, Default)]
pub struct Heard {
    /// Stages that it was told.
    pub stages: usize,
    /// Bytes of the artefact, if there is one.
    pub artefact_bytes: Option<usize>,
    /// Why the plugin is refused, if the child says so.
    pub refused: Option<Refusal>,
    /// What broke the protocol.
    pub broken: Option<String>,
}

/// Listens to a child that says this and ends.
pub async fn listened(mut said: &[u8]) -> Heard {
    let compiler =
        Compiler { artefact_bytes_max: ARTEFACT_BYTES_MAX, ..Compiler::new("nobody", [] as [&str; 0]) };
    let stages = AtomicUsize::new(0);
    let progress = |_: Stage| {
        stages.fetch_add(1, Ordering::Relaxed);
    };
    let end = listen(&mut said, &compiler, &job(), &mut Stage::Start, &progress).await;
    let mut heard = Heard { stages: stages.load(Ordering::Relaxed), ..Heard::default() };
    match end {
        Ok(End::Artefact(code)) => heard.artefact_bytes = Some(code.len()),
        Ok(End::Refused(refusal)) => heard.refused = Some(refusal),
        Ok(End::Silence) => {}
        Err(error) => heard.broken = Some(error.to_string()),
    }
    heard
}

fn job() -> Job {
    Job {
        plugin: "fuzzed".to_owned(),
        version: "1.0.0".to_owned(),
        config: "{}".to_owned(),
        snapshot: true,
        limits: Limits::STANDARD,
        address_space_bytes: 0,
        cpu_seconds: 0,
        component_bytes: 0,
    }
}

/// What honest children say, and what these words are called.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let line = |text: &str| Frame::Line(Line { level: Level::Warn, text: text.to_owned() });
    let stages = || [Frame::Stage(Stage::Init), Frame::Stage(Stage::Snapshot), Frame::Stage(Stage::Compile)];
    let refused = |verdict| vec![Frame::Stage(Stage::Init), Frame::Refused(verdict)];
    let all = [
        ("compiled", stages().into_iter().chain([Frame::Artefact(vec![7; 64])]).collect()),
        ("logged", vec![Frame::Stage(Stage::Init), line("one"), line("two"), Frame::Artefact(vec![7; 8])]),
        ("again", vec![Frame::Stage(Stage::Snapshot), Frame::Stage(Stage::Init)]),
        ("init", refused(Verdict::Init("no such agent".to_owned()))),
        ("init-trap", refused(Verdict::InitTrap("wasm trap: unreachable".to_owned()))),
        ("init-limit", refused(Verdict::InitLimit(Limit::Memory, 1 << 20))),
        ("init-handles", refused(Verdict::InitHandles)),
        ("snapshot", refused(Verdict::Snapshot("it grows its table".to_owned()))),
        ("compile", refused(Verdict::Compile("too large".to_owned()))),
    ];
    let bytes = |frames: Vec<Frame>| {
        let mut bytes = Vec::new();
        for frame in frames {
            // A vector takes everything.
            let _ = frame::write(&mut bytes, &frame);
        }
        bytes
    };
    all.into_iter().map(|(name, frames)| (name, bytes(frames))).collect()
}
