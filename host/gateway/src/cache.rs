//! The same question to the same agent, answered again without asking; and asked once by all who ask it at the same time
//! (`flight.rs`).
//!
//! Exact: the key is a digest over everything that shapes the answer, tenant and agent first, so that no
//! answer can cross from one to another. Only whole answers that ended by themselves and say something are kept.
//!
//! Tool calls are kept as text is: an agent that asks the same is told to call the same, under the same id, which is
//! its own as long as one conversation does not meet it twice; and a conversation that goes on has another key. An image
//! shapes the key by its bytes. What is behind an address may change, so a call with an image by address is not kept.

use chela_types::{CacheVerdict, Digest, Finish, ModelCall};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use moka::future::Cache as Kept;
use std::sync::Arc;

use crate::flight::Flights;
use crate::{
    Answer, Cache, CachePolicy, Call, Chunk, Completed, Error, Model, Part, Rate, ToolCall, ToolDelta,
    ToolHead,
};

/// What is kept of an answer.
#[derive(Debug)]
struct Entry {
    text: String,
    calls: Vec<ToolCall>,
    finish: Finish,
    model: Option<String>,
}

impl Entry {
    /// What is kept of an answer; nothing unless it ended by itself and says something.
    fn of(completed: &Completed) -> Option<Self> {
        let ended = matches!(completed.finish, Finish::Stop | Finish::ToolCalls);
        let says = !completed.text.trim().is_empty() || !completed.calls.is_empty();
        let Completed { text, calls, finish, call } = completed;
        let entry =
            || Self { text: text.clone(), calls: calls.clone(), finish: *finish, model: call.model.clone() };
        (ended && says).then(entry)
    }

    fn bytes(&self) -> usize {
        let of = |call: &ToolCall| call.id.len() + call.name.len() + call.arguments.len() + CALL_OVERHEAD;
        self.text.len() + self.calls.iter().map(of).sum::<usize>() + ENTRY_OVERHEAD
    }
}

/// Bytes that an entry takes besides its text: key, model name, the map's own.
const ENTRY_OVERHEAD: usize = 256;
/// Bytes that a kept tool call takes besides its texts.
const CALL_OVERHEAD: usize = 72;
/// A kept answer is told again in pieces of about this many bytes, as a live one would be.
const PIECE_BYTES: usize = 64;

/// The layer.
pub(crate) struct Cached {
    kept: Option<Kept<Digest, Arc<Entry>>>,
    flights: Flights,
    below: Arc<dyn Model>,
}

impl Cached {
    pub(crate) fn new(config: Cache, below: Arc<dyn Model>) -> Self {
        // Both limits hold: an entry weighs its bytes, and at least its share of the number of entries.
        let share = config.bytes_max.checked_div(config.entries_max).unwrap_or(config.bytes_max);
        let weigh = move |_: &Digest, entry: &Arc<Entry>| {
            let bytes = entry.bytes() as u64;
            u32::try_from(bytes.max(share)).unwrap_or(u32::MAX)
        };
        let kept = config.enabled.then(|| {
            Kept::builder().max_capacity(config.bytes_max).weigher(weigh).time_to_live(config.ttl).build()
        });
        Self { kept, flights: Flights::default(), below }
    }
}

#[cfg(test)]
impl Cached {
    /// How many listen to the call under way that is asked the same.
    pub(crate) fn listeners(&self, call: &Call) -> usize {
        key(call).map_or(0, |key| self.flights.listeners(&key))
    }
}

impl Model for Cached {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move {
            let (Some(kept), Some(key)) = (&self.kept, key(&call)) else {
                count(CacheVerdict::Off);
                return self.below.complete(call).await;
            };
            if let Some(entry) = kept.get(&key).await {
                count(CacheVerdict::Hit);
                return Ok(replay(&entry, &call));
            }
            let listener = self.flights.join(key, call.clone(), || {
                let (kept, below) = (kept.clone(), Arc::clone(&self.below));
                Box::pin(async move {
                    // The call that was under way may have ended since.
                    if let Some(entry) = kept.get(&key).await {
                        return Ok(replay(&entry, &call));
                    }
                    let answer = below.complete(call).await.map_err(missed)?;
                    Ok(keep(answer, key, kept))
                })
            });
            count(if listener.is_first() { CacheVerdict::Miss } else { CacheVerdict::Joined });
            listener.opened().await
        })
    }
}

fn count(verdict: CacheVerdict) {
    let verdict = match verdict {
        CacheVerdict::Hit => "hit",
        CacheVerdict::Miss => "miss",
        CacheVerdict::Joined => "joined",
        CacheVerdict::Off => "off",
    };
    metrics::counter!("gateway_cache_total", "verdict" => verdict).increment(1);
}

/// Everything that shapes an answer, in a stable order; absent if the call may not use the cache.
fn key(call: &Call) -> Option<Digest> {
    let CachePolicy::On { knowledge_version } = &call.cache else { return None };
    if call.prompts.iter().flat_map(|prompt| &prompt.parts).any(is_elsewhere) {
        return None;
    }
    let said = serde_json::to_vec(&(&call.system, &call.prompts)).ok()?;
    let tools = serde_json::to_vec(&(&call.tools, &call.tool_choice, call.parallel_tool_calls)).ok()?;
    let (temperature, top_p) = (call.temperature.map(f32::to_bits), call.top_p.map(f32::to_bits));
    let how = (call.max_output, temperature, top_p, &call.stop, &call.form, call.seed, call.effort);
    let how = serde_json::to_vec(&how).ok()?;
    let parts = [
        call.tenant.as_str().as_bytes(),
        call.agent.as_str().as_bytes(),
        call.agent_version.as_bytes(),
        knowledge_version.as_bytes(),
        call.tier.as_str().as_bytes(),
        &said,
        &tools,
        &how,
    ];
    Some(Digest::of("chela gateway answer cache v2", &parts))
}

/// Whether it is an image that this host has not seen.
fn is_elsewhere(part: &Part) -> bool {
    matches!(part, Part::Image(image) if image.bytes().is_none())
}

/// Tells a kept answer as a stream.
fn replay(entry: &Entry, call: &Call) -> Answer {
    let record = ModelCall { model: entry.model.clone(), cache: CacheVerdict::Hit, ..call.record() };
    let completed = Completed {
        text: entry.text.clone(),
        calls: entry.calls.clone(),
        finish: entry.finish,
        call: record.clone(),
    };
    let texts = pieces(&entry.text).into_iter().map(Chunk::Text);
    let calls = entry.calls.iter().enumerate().map(|(index, call)| Chunk::Tool(whole(index, call)));
    let chunks = texts.chain(calls).chain([Chunk::End(Box::new(completed))]);
    let chunks: Vec<Result<Chunk, Error>> = chunks.map(Ok).collect();
    Answer { chunks: futures::stream::iter(chunks).boxed(), begun: record, rate: Rate::FREE }
}

/// A tool call in one fragment.
fn whole(index: usize, call: &ToolCall) -> ToolDelta {
    let head = ToolHead { id: call.id.clone(), name: call.name.clone() };
    ToolDelta { index, head: Some(head), arguments: call.arguments.clone() }
}

fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split_inclusive(' ') {
        match pieces.last_mut() {
            Some(piece) if piece.len() < PIECE_BYTES => piece.push_str(word),
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

/// Passes a live answer on, and keeps it if it ends well.
fn keep(mut answer: Answer, key: Digest, kept: Kept<Digest, Arc<Entry>>) -> Answer {
    answer.begun.cache = CacheVerdict::Miss;
    let chunks: BoxStream<'static, Result<Chunk, Error>> = answer.chunks;
    answer.chunks = chunks
        .then(move |chunk| {
            let kept = kept.clone();
            async move {
                match chunk {
                    Ok(Chunk::End(mut completed)) => {
                        completed.call.cache = CacheVerdict::Miss;
                        if let Some(entry) = Entry::of(&completed) {
                            kept.insert(key, Arc::new(entry)).await;
                        }
                        Ok(Chunk::End(completed))
                    }
                    Ok(said) => Ok(said),
                    Err(error) => Err(missed(error)),
                }
            }
        })
        .boxed();
    answer
}

fn missed(mut error: Error) -> Error {
    if let Some(call) = &mut error.call {
        call.cache = CacheVerdict::Miss;
    }
    error
}

#[cfg(test)]
#[path = "cache_tests.rs"]
pub(crate) mod tests;
