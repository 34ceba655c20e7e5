//! Building replies.

use crate::{Block, Choice, Link, Reply};

impl Reply {
    /// A reply of text alone.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), blocks: Vec::new(), attachments: Vec::new() }
    }

    /// Adds a link.
    #[must_use]
    pub fn link(mut self, label: impl Into<String>, url: impl Into<String>) -> Self {
        self.blocks.push(Block::Link(Link { label: label.into(), url: url.into() }));
        self
    }

    /// Adds a row of buttons: what is shown and what comes back.
    #[must_use]
    pub fn choices<L: Into<String>, V: Into<String>>(
        mut self,
        choices: impl IntoIterator<Item = (L, V)>,
    ) -> Self {
        let choices =
            choices.into_iter().map(|(label, value)| Choice { label: label.into(), value: value.into() });
        self.blocks.push(Block::Choices(choices.collect()));
        self
    }

    /// Names a source; `url` may be empty.
    #[must_use]
    pub fn citation(mut self, label: impl Into<String>, url: impl Into<String>) -> Self {
        self.blocks.push(Block::Citation(Link { label: label.into(), url: url.into() }));
        self
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}
