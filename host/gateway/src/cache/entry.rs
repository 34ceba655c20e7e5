//! A kept answer, and how it is told again.

use chela_lexical::{Language, Reading, Trust, Vector};
use chela_types::{AgentId, CacheNote, CacheVerdict, Digest, Finish, ModelCall, Money, TenantId};
use futures::StreamExt;
use moka::Expiry;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::key::{Asked, Parts, Question, exactly};
use crate::{Answer, CacheLevel, Call, Chunk, Completed, Error, Rate, ToolCall, ToolDelta, ToolHead};

/// What is kept of an answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Digest,
    /// Of what was asked, byte by byte.
    pub(super) exact: Digest,
    pub(super) parts: Parts,
    pub(super) tenant: TenantId,
    pub(super) agent: AgentId,
    /// Whose question made it.
    pub(super) person: Digest,
    /// Present where another question may be answered by it.
    pub(super) question: Option<Known>,
    pub(super) told: Told,
    pub(super) ttl: Duration,
    pub(super) cost: Money,
    pub(super) served: AtomicU64,
}

/// A question that has an answer.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) text: String,
    /// Absent where nobody looks for likeness.
    pub(super) vector: Option<Vector>,
    /// Absent likewise, and if it asks nothing that could be verified.
    pub(super) reading: Option<Reading>,
    pub(super) learned: Mutex<Learned>,
}

/// What is known of one entry's likeness to others.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) trust: Trust,
    /// The newest likeness at which it was served.
    pub(super) served_at: Option<f32>,
}

/// The answer itself.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) finish: Finish,
    pub(super) model: Option<String>,
}

/// Bytes that an entry takes besides its texts: keys, model name, counters, the map's own.
const ENTRY_OVERHEAD: usize = 640;
/// Bytes that a kept tool call takes besides its texts.
const CALL_OVERHEAD: usize = 72;
/// Bytes of a vector, a reading and their places on a shelf for each byte of the question: three n-grams begin at each
/// letter, with eight bytes each and two on the shelf; a word is read as about 80.
const VECTOR_BYTES: usize = 56;
/// A kept answer is told again in pieces of about this many bytes, as a live one would be.
const PIECE_BYTES: usize = 64;

impl Told {
    /// What is kept of an answer; nothing unless it ended by itself and says something.
    fn of(completed: &Completed) -> Option<Self> {
        let ended = matches!(completed.finish, Finish::Stop | Finish::ToolCalls);
        let says = !completed.text.trim().is_empty() || !completed.calls.is_empty();
        let Completed { text, calls, finish, call } = completed;
        let told =
            || Self { text: text.clone(), calls: calls.clone(), finish: *finish, model: call.model.clone() };
        (ended && says).then(told)
    }

    fn bytes(&self) -> usize {
        let of = |call: &ToolCall| call.id.len() + call.name.len() + call.arguments.len() + CALL_OVERHEAD;
        self.text.len() + self.calls.iter().map(of).sum::<usize>()
    }

    /// As a stream, with this record.
    pub(super) fn replay(&self, record: ModelCall) -> Answer {
        let completed = Completed {
            text: self.text.clone(),
            calls: self.calls.clone(),
            finish: self.finish,
            call: record.clone(),
        };
        let texts = pieces(&self.text).into_iter().map(Chunk::Text);
        let calls = self.calls.iter().enumerate().map(|(index, call)| Chunk::Tool(whole(index, call)));
        let chunks = texts.chain(calls).chain([Chunk::End(Box::new(completed))]);
        let chunks: Vec<Result<Chunk, Error>> = chunks.map(Ok).collect();
        Answer { chunks: futures::stream::iter(chunks).boxed(), begun: record, rate: Rate::FREE }
    }
}

impl Entry {
    /// What is kept of an answer to a call, and for how long.
    pub(super) fn of(
        (call, asked): (&Call, &Asked),
        completed: &Completed,
        (ttl, language): (Duration, Language),
    ) -> Option<Self> {
        let told = Told::of(completed)?;
        let may_answer_others = told.finish == Finish::Stop && told.calls.is_empty();
        if asked.question.is_some() && !may_answer_others {
            return None;
        }
        Some(Self {
            key: asked.key,
            exact: asked.exact,
            parts: asked.parts,
            tenant: call.tenant.clone(),
            agent: call.agent.clone(),
            person: person(&call.tenant, &call.user),
            question: asked.question.as_ref().map(|question| Known::of(question, (asked.level, language))),
            told,
            ttl,
            cost: completed.call.cost,
            served: AtomicU64::new(0),
        })
    }

    /// The name by which it is told and evicted.
    pub(super) fn id(&self) -> String {
        self.key.short()
    }

    /// Whether it was made by exactly this question, asked alone.
    pub(super) fn is_of(&self, text: &str) -> bool {
        exactly(text, &self.parts) == Some(self.exact)
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |known: &Known| known.text.len() * (1 + known.vector.as_ref().map_or(0, |_| VECTOR_BYTES));
        self.told.bytes() + self.question.as_ref().map_or(0, of) + ENTRY_OVERHEAD
    }

    /// The same was asked: exactly, or in another form.
    pub(super) fn verdict(&self, asked: &Asked) -> CacheVerdict {
        if self.exact == asked.exact { CacheVerdict::Hit } else { CacheVerdict::Canonical }
    }

    /// Told again, as a live one would be.
    pub(super) fn serve(&self, call: &Call, verdict: CacheVerdict, likeness: Option<f32>) -> Answer {
        self.served.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("gateway_cache_saved_nanodollars_total", "agent" => self.agent.to_string())
            .increment(u64::try_from(self.cost.nanos()).unwrap_or(0));
        let why = if verdict == CacheVerdict::Hit { "exact" } else { verdict.as_str() };
        self.told.replay(ModelCall {
            model: self.told.model.clone(),
            cache: verdict,
            kept: Some(self.note(why, likeness)),
            saved: self.cost,
            ..call.record()
        })
    }

    pub(super) fn note(&self, why: &str, likeness: Option<f32>) -> CacheNote {
        CacheNote { entry: self.id(), likeness: likeness.map(thousandths), why: why.to_owned() }
    }
}

impl Known {
    fn of(question: &Question, (level, language): (CacheLevel, Language)) -> Self {
        // Only who looks for likeness needs them. What has a canonical form is not too long for a vector.
        let is_compared = level >= CacheLevel::Similar;
        let vector = is_compared.then(|| Vector::of(&question.text).unwrap_or_default());
        let reading = is_compared.then(|| Reading::of(&question.text, language).ok()).flatten();
        Self { text: question.text.clone(), vector, reading, learned: Mutex::default() }
    }

    /// What has to be equal for the verifier.
    pub(super) fn form(&self) -> u64 {
        self.reading.as_ref().map_or(0, Reading::form)
    }
}

/// A digest of a person, so that what he made can be found by his name and his name by nothing.
pub(super) fn person(tenant: &TenantId, user: &str) -> Digest {
    Digest::of("chela gateway cache person v1", &[tenant.as_str().as_bytes(), user.as_bytes()])
}

/// A likeness as a record holds it.
pub(super) fn thousandths(likeness: f32) -> u16 {
    (likeness.clamp(0.0, 1.0) * 1_000.0).round() as u16
}

/// Each entry has its own time.
pub(super) struct OwnTime;

impl Expiry<Digest, Arc<Entry>> for OwnTime {
    fn expire_after_create(&self, _: &Digest, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Digest,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

/// A tool call in one fragment.
fn whole(index: usize, call: &ToolCall) -> ToolDelta {
    let head = ToolHead { id: call.id.clone(), name: call.name.clone() };
    ToolDelta { index, head: Some(head), arguments: call.arguments.clone() }
}

pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split_inclusive(' ') {
        match pieces.last_mut() {
            Some(piece) if piece.len() < PIECE_BYTES => piece.push_str(word),
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}
