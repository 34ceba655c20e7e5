//! Language models, through the host's gateway. Grant: `models`.
//!
//! ```no_run
//! use chela_sdk::models::Request;
//!
//! let completion = Request::new("What is a chela?").tier("fast").system("Answer in one sentence.").complete()?;
//! println!("{}", completion.text);
//! # Ok::<(), chela_sdk::models::ModelError>(())
//! ```

pub use crate::bindings::agent::chela::plugin::models::{
    Completion, Finish, ModelError, Prompt, Request, Role, Usage,
};

#[cfg(target_arch = "wasm32")]
use crate::bindings::agent::chela::plugin::models as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as host;

impl Request {
    /// Asks this, of the agent's own tier.
    pub fn new(text: impl Into<String>) -> Self {
        Self::of(vec![Prompt { role: Role::User, text: text.into() }])
    }

    /// Asks with these prompts, oldest first.
    #[must_use]
    pub fn of(prompts: Vec<Prompt>) -> Self {
        Self { tier: None, system: None, prompts, max_output_tokens: None, temperature: None }
    }

    /// Asks a tier of the host's configuration.
    #[must_use]
    pub fn tier(self, tier: impl Into<String>) -> Self {
        Self { tier: Some(tier.into()), ..self }
    }

    /// Sets the system prompt.
    #[must_use]
    pub fn system(self, system: impl Into<String>) -> Self {
        Self { system: Some(system.into()), ..self }
    }

    /// Adds a prompt after those that are there.
    #[must_use]
    pub fn then(mut self, role: Role, text: impl Into<String>) -> Self {
        self.prompts.push(Prompt { role, text: text.into() });
        self
    }

    /// At most so many tokens of answer.
    #[must_use]
    pub fn max_output_tokens(self, tokens: u32) -> Self {
        Self { max_output_tokens: Some(tokens), ..self }
    }

    /// 0.0 to 2.0.
    #[must_use]
    pub fn temperature(self, temperature: f32) -> Self {
        Self { temperature: Some(temperature), ..self }
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn complete(&self) -> Result<Completion, ModelError> {
        host::complete(self)
    }

    /// Like [`Request::complete`], but the tokens go to the person as drafts while they arrive. Only the
    /// reply that `handle` returns is the answer.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn relay(&self) -> Result<Completion, ModelError> {
        host::relay(self)
    }

    /// The tokens as they arrive.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn stream(&self) -> Result<StreamReader, ModelError> {
        host::stream(self).map(|reader| StreamReader { reader, over: false })
    }
}

/// Pieces of text, as an iterator. It ends after the last piece or the first error; dropping it early
/// cancels the call, and what the provider may have produced is paid.
#[derive(Debug)]
pub struct StreamReader {
    reader: host::StreamReader,
    over: bool,
}

impl StreamReader {
    /// The whole, once the iterator is at its end.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] before the end.
    pub fn completion(&self) -> Result<Completion, ModelError> {
        self.reader.completion()
    }
}

impl Iterator for StreamReader {
    type Item = Result<String, ModelError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let piece = self.reader.next().transpose();
        self.over = !matches!(piece, Some(Ok(_)));
        piece
    }
}
