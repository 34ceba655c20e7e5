//! How the stream is read.
//!
//! Usage comes in two parts (input at the start, output at the end) and counts cached input apart; it is
//! turned into this house's way of counting here, where the wire format is known.

use chela_types::{Finish, Tokens, Usage};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::provider::http::{WireError, sort};
use crate::provider::sse::Event;
use crate::provider::{Piece, Trouble, count};
use crate::{ToolDelta, ToolHead};

#[derive(Deserialize)]
struct Message {
    #[serde(default, rename = "type")]
    kind: String,
    /// Which block.
    index: Option<u64>,
    message: Option<Start>,
    content_block: Option<Block>,
    delta: Option<Delta>,
    usage: Option<Counted>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Counted>,
}

#[derive(Deserialize, Default)]
struct Block {
    #[serde(default, rename = "type")]
    kind: String,
    id: Option<String>,
    name: Option<String>,
    /// Empty as a rule: it comes in fragments.
    input: Option<Map<String, Value>>,
}

#[derive(Deserialize, Default)]
struct Delta {
    text: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct Counted {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
}

/// Reads the stream; remembers what was counted so far, and which block is open.
#[derive(Default)]
pub(crate) struct Reader {
    counted: Counted,
    has_begun: bool,
    open: Option<Open>,
    /// How many blocks have begun.
    blocks: u64,
    /// How many of these call a tool.
    calls: usize,
}

/// What the open block is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    /// Thoughts. These may be left out of the stream, which then has only pings.
    Thoughts,
    /// A tool call, by its place among them.
    Tool(usize),
}

impl Reader {
    /// Reads one event.
    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|_| Trouble::bad("an event is not the json expected"))?;
        match message.kind.as_str() {
            "message_start" => {
                if std::mem::replace(&mut self.has_begun, true) {
                    return Err(Trouble::bad("it begins twice"));
                }
                Ok(self.count(message.message.and_then(|start| start.usage)).into_iter().collect())
            }
            "content_block_start" => self.begins(message.index, message.content_block.unwrap_or_default()),
            "content_block_delta" => self.goes_on(message.index, message.delta.unwrap_or_default()),
            "content_block_stop" => {
                self.is_open(message.index)?;
                self.open = None;
                Ok(Vec::new())
            }
            "ping" => Ok(alive(self.open == Some(Open::Thoughts))),
            "message_delta" => {
                let reason = message.delta.and_then(|delta| delta.stop_reason);
                let ended = reason.map(|reason| finish(&reason)).transpose()?.map(Piece::Finish);
                let mut usage = message.usage;
                if ended.is_some() {
                    // The count of the start is not the last one: an end without a count has none.
                    self.counted.output_tokens = None;
                    usage = usage.or(Some(Counted::default()));
                }
                Ok(self.count(usage).into_iter().chain(ended).collect())
            }
            "message_stop" => Ok(vec![Piece::End]),
            "error" => {
                let error = message.error.unwrap_or_default();
                Err(Trouble { billed: true, ..sort(200, &error, None) })
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Blocks come one after the other, and are numbered.
    fn begins(&mut self, index: Option<u64>, block: Block) -> Result<Vec<Piece>, Trouble> {
        if self.open.is_some() || index.is_some_and(|index| index != self.blocks) {
            return Err(Trouble::bad("a block begins out of order"));
        }
        self.blocks = self.blocks.saturating_add(1);
        if block.kind != "tool_use" {
            let thinks = block.kind.contains("thinking");
            self.open = Some(if thinks { Open::Thoughts } else { Open::Text });
            return Ok(alive(thinks));
        }
        let index = self.calls;
        self.calls = index.saturating_add(1);
        self.open = Some(Open::Tool(index));
        let (Some(id), Some(name)) = (block.id, block.name) else {
            return Err(Trouble::bad("a tool call does not begin with id and name"));
        };
        let input = block.input.filter(|input| !input.is_empty());
        let arguments = input.map(|input| Value::Object(input).to_string()).unwrap_or_default();
        Ok(vec![Piece::Tool(ToolDelta { index, head: Some(ToolHead { id, name }), arguments })])
    }

    fn goes_on(&mut self, index: Option<u64>, delta: Delta) -> Result<Vec<Piece>, Trouble> {
        let told = |text: Option<String>| text.filter(|text| !text.is_empty());
        let piece = match self.is_open(index)? {
            Open::Thoughts => Some(Piece::Alive),
            Open::Text => told(delta.text).map(Piece::Text),
            Open::Tool(index) => told(delta.partial_json)
                .map(|arguments| Piece::Tool(ToolDelta { index, head: None, arguments })),
        };
        Ok(piece.into_iter().collect())
    }

    fn is_open(&self, index: Option<u64>) -> Result<Open, Trouble> {
        let is_last = index.is_none_or(|index| index.checked_add(1) == Some(self.blocks));
        match self.open {
            Some(open) if is_last => Ok(open),
            _ => Err(Trouble::bad("a block goes on that is not open")),
        }
    }

    /// Each count is the sum so far, so it never falls: some proxies tell a zero at the end.
    fn count(&mut self, new: Option<Counted>) -> Option<Piece> {
        let (new, old) = (new?, self.counted);
        self.counted = Counted {
            input_tokens: new.input_tokens.max(old.input_tokens),
            cache_creation_input_tokens: new.cache_creation_input_tokens.max(old.cache_creation_input_tokens),
            cache_read_input_tokens: new.cache_read_input_tokens.max(old.cache_read_input_tokens),
            output_tokens: new.output_tokens.max(old.output_tokens),
        };
        let of = |tokens: Option<u64>| tokens.unwrap_or(0);
        let cached = of(self.counted.cache_read_input_tokens);
        let written = of(self.counted.cache_creation_input_tokens);
        let fresh = of(self.counted.input_tokens).saturating_add(written);
        Some(Piece::Usage(Usage {
            input: Tokens(fresh.saturating_add(cached)),
            cached: Tokens(cached),
            written: Tokens(written),
            output: Tokens(of(self.counted.output_tokens)),
        }))
    }
}

fn alive(thinks: bool) -> Vec<Piece> {
    thinks.then_some(Piece::Alive).into_iter().collect()
}

fn finish(reason: &str) -> Result<Finish, Trouble> {
    match reason {
        "end_turn" | "stop_sequence" => Ok(Finish::Stop),
        "max_tokens" | "model_context_window_exceeded" => Ok(Finish::Length),
        "tool_use" => Ok(Finish::ToolCalls),
        "refusal" => Ok(Finish::Filtered),
        _ => Err(Trouble::UNKNOWN_END),
    }
}
