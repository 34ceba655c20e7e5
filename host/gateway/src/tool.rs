//! Tools: what a model may call, that it called, and what came of it. This room runs none.

use serde::{Deserialize, Serialize};

use crate::Schema;

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`, at most [`NAME_BYTES_MAX`].
    pub name: String,
    /// What it is for, in words for the model.
    pub description: Option<String>,
    /// The JSON schema of its parameters, an object.
    pub parameters: Schema,
    /// Whether the provider holds the model to the schema; the provider's own if absent.
    pub strict: Option<bool>,
}

/// Longest name of a tool: Anthropic's limit; OpenAI allows 64.
pub const NAME_BYTES_MAX: usize = 128;

/// Which tools the model is to call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// A tool that the model called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's name for this call; its result refers to it.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// A JSON object as text. In an answer that was cut ([`chela_types::Finish::Length`]) it may be half of one.
    pub arguments: String,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolResult {
    /// The call's id.
    pub id: String,
    /// What the tool said.
    pub text: String,
    /// Whether it failed.
    pub is_error: bool,
}

/// A fragment of a tool call, as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolDelta {
    /// Which of the answer's calls, from zero.
    pub index: usize,
    /// With the call's first fragment, and only with it.
    pub head: Option<ToolHead>,
    /// The next characters of the arguments; may be none.
    pub arguments: String,
}

/// Which tool is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolHead {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub name: String,
}
