//! What is said back.

use serde::{Deserialize, Serialize};

/// A reply. `text` alone makes sense; blocks are for channels that can show them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Plain text or the common subset of markdown.
    pub text: String,
    /// Rich parts.
    #[serde(default)]
    pub blocks: Vec<Block>,
    /// Blob handles.
    #[serde(default)]
    pub attachments: Vec<String>,
}

impl Reply {
    /// A reply of text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A part that a channel may show richly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A link.
    Link(Link),
    /// Buttons.
    Choices(Vec<Choice>),
    /// A quoted source.
    Citation(Link),
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What is shown.
    pub label: String,
    /// Where it leads; may be empty for a source without an address.
    pub url: String,
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is shown.
    pub label: String,
    /// What comes back.
    pub value: String,
}
