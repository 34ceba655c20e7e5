//! How an answer is to look, and how hard the model is to think.

use serde::Serialize;

use crate::Schema;

/// The form of an answer's text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As the model likes.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema {
        /// The schema's name: OpenAI wants one.
        name: String,
        /// The schema.
        schema: Schema,
        /// Whether the provider holds the model to it; the provider's own if absent.
        strict: Option<bool>,
    },
}

/// How hard the model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all, or hardly.
    Minimal,
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// A lot.
    High,
}

impl Effort {
    /// As OpenAI's formats write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
