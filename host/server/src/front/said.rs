//! An answer under way, whoever gives it: pieces, then the end.

use chela_gateway::{Answer, Chunk, ToolCall, ToolDelta};
use chela_types::{CacheVerdict, Finish, ModelCall, Money, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;

use super::refusal::Refusal;

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Text.
    Text(String),
    /// A fragment of a tool call.
    Tool(ToolDelta),
    /// The end; exactly one, and nothing after it.
    End(Box<Ended>),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) finish: Finish,
    /// What was counted; of an agent's answer nobody says.
    pub(super) counted: Option<Counted>,
}

/// What a model's answer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) usage: Usage,
    pub(super) cost: Money,
    /// `provider/model`.
    pub(super) model: Option<String>,
    pub(super) cache: CacheVerdict,
}

/// The pieces; dropping them ends a model's call, and leaves an agent's turn to its end.
pub(super) type Saying = BoxStream<'static, Result<Said, Refusal>>;

/// A model's answer.
pub(super) fn of_model(answer: Answer) -> Saying {
    let said = |chunk: Result<Chunk, chela_gateway::Error>| match chunk {
        Ok(Chunk::Text(text)) => Ok(Said::Text(text)),
        Ok(Chunk::Tool(delta)) => Ok(Said::Tool(delta)),
        Ok(Chunk::End(completed)) => {
            let ModelCall { usage, cost, model, cache, .. } = completed.call;
            let counted = Some(Counted { usage, cost, model, cache });
            let (text, calls) = (completed.text, completed.calls);
            Ok(Said::End(Box::new(Ended { text, calls, finish: completed.finish, counted })))
        }
        Err(error) => Err(Refusal::from(error)),
    };
    answer.chunks.map(said).boxed()
}

/// Waits for the end.
pub(super) async fn whole(mut saying: Saying) -> Result<Ended, Refusal> {
    while let Some(said) = saying.next().await {
        if let Said::End(ended) = said? {
            return Ok(*ended);
        }
    }
    Err(Refusal::Gateway(chela_gateway::Kind::Interrupted))
}

/// What stands around an answer.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    /// Without the format's own beginning.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// As the client named it.
    pub(super) model: String,
    /// A stream tells at its end what was used.
    pub(super) include_usage: bool,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) event: Option<&'static str>,
    pub(super) data: String,
}

/// JSON of what has names for its fields and numbers that are some: that has no way to fail.
pub(super) fn json_of(told: &impl Serialize) -> String {
    serde_json::to_string(told).unwrap_or_default()
}

/// Tells an answer as a stream of one format.
pub(super) trait Tell: Send {
    /// Before the first piece.
    fn begin(&mut self) -> Vec<Told>;
    /// A piece, or the end.
    fn say(&mut self, said: Said) -> Result<Vec<Told>, Refusal>;
    /// In place of the end.
    fn fail(&mut self, refusal: &Refusal, request: &str) -> Vec<Told>;
}
