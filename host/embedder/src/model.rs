//! A model that is open.

use std::fmt;

use crate::{Error, Folder};

/// A model in memory. Whoever asks it works on the thread that he asks on.
pub struct Model {
    folder: Folder,
    parts: Parts,
}

/// What it made of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// [`Folder::dims`] numbers, of length 1.
    pub vector: Vec<f32>,
    /// Tokens that were read, beginning and end included.
    pub tokens: u64,
    /// The text was longer than the model reads: what follows [`Folder::tokens_max`] tokens had no part in it.
    pub is_cut: bool,
}

impl fmt::Debug for Model {
    /// Without its millions of numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Model {
    /// Reads words and weights into memory.
    ///
    /// # Errors
    /// The file that cannot be read or does not fit the others; [`Error::NotBuilt`].
    pub fn open(folder: Folder) -> Result<Self, Error> {
        Ok(Self { parts: Parts::open(&folder)?, folder })
    }

    /// Where it came from.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The vector of a text. The same text has the same one, whatever was asked before.
    pub fn embed(&self, text: &str) -> Made {
        self.parts.embed(text, self.folder.tokens_max())
    }
}

#[cfg(feature = "local-embeddings")]
struct Parts {
    words: crate::words::Words,
    bert: crate::bert::Bert,
}

#[cfg(feature = "local-embeddings")]
impl Parts {
    fn open(folder: &Folder) -> Result<Self, Error> {
        let words = crate::words::Words::read(folder)?;
        let bert = crate::weights::read(&folder.file("model.safetensors"), folder.shape())?;
        Ok(Self { words, bert })
    }

    fn embed(&self, text: &str, most: usize) -> Made {
        let crate::words::Tokens { ids, is_cut } = self.words.tokens(text, most);
        Made { vector: self.bert.vector(&ids), tokens: ids.len() as u64, is_cut }
    }
}

/// There is none.
#[cfg(not(feature = "local-embeddings"))]
enum Parts {}

#[cfg(not(feature = "local-embeddings"))]
impl Parts {
    const fn open(_: &Folder) -> Result<Self, Error> {
        Err(Error::NotBuilt)
    }

    const fn embed(&self, _: &str, _: usize) -> Made {
        match *self {}
    }
}

#[cfg(test)]
#[cfg(feature = "local-embeddings")]
#[path = "model_tests.rs"]
mod tests;
