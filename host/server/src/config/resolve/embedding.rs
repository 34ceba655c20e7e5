//! `embedding`: a chain of models, a model in a folder, or this program's words and letters.

use std::num::NonZeroUsize;

use chela_gateway::LEXICAL;
use chela_gateway::price::PriceTable;

use super::{At, Resolver, dotted, size};
use crate::config::problem::{Code, Note};
use crate::config::raw::{self, Raw};
use crate::config::resolved::Embedding;

impl Resolver<'_> {
    /// Whoever makes vectors.
    pub(super) fn embedding(&mut self, raw: &Raw, known: &PriceTable) -> Embedding {
        let entries = &raw.embedding.chain;
        let at: At<'_> = &["embedding", "chain"];
        if let Some(written) = &raw.embedding.model_dir {
            return self.local_model(&raw.embedding, written).unwrap_or(Embedding::Lexical);
        }
        if entries.iter().all(|entry| entry == LEXICAL) {
            if entries.len() > 1 {
                let message = format!("`{}` has `{LEXICAL}` twice", dotted(at));
                self.fail(at, Note::new(Code::Duplicate, message, "once is enough"));
            }
            return Embedding::Lexical;
        }
        if entries.iter().any(|entry| entry == LEXICAL) {
            let message = format!("`{}` has `{LEXICAL}` beside other models", dotted(at));
            let note = Note::new(Code::WrongValue, message, "it stands alone");
            self.fail(at, note.help("vectors of different kinds cannot be compared"));
            return Embedding::Lexical;
        }
        let chain = self.chain(raw, (at, entries), known);
        for (index, model) in chain.iter().enumerate() {
            let kind = raw.provider.get(&model.provider).map(|provider| provider.kind);
            if matches!(kind, Some(raw::ProviderKind::Anthropic | raw::ProviderKind::Scripted)) {
                let message = format!("`{}` makes no vectors", model.provider);
                let note = Note::new(Code::WrongValue, message, "no vectors");
                self.fail(&["embedding", "chain", &index.to_string()], note.help("`openai` and `azure` do"));
            }
        }
        Embedding::Chain(chain)
    }

    /// A model in a folder, which stands alone.
    fn local_model(&mut self, given: &raw::Embedding, written: &str) -> Option<Embedding> {
        let at: At<'_> = &["embedding", "model_dir"];
        if given.chain.iter().any(|entry| entry != LEXICAL) {
            let message = format!("`{}` stands beside a chain", dotted(at));
            let note = Note::new(Code::WrongValue, message, "it stands alone");
            self.fail(at, note.help("vectors of different models cannot be compared: leave one of them out"));
        }
        if !chela_embedder::IS_BUILT {
            let message = format!("`{}` needs a program that runs models", dotted(at));
            let note = Note::new(Code::WrongValue, message, "not in this program");
            self.fail(at, note.help("build one: `cargo build --release --features local-embeddings`"));
            return None;
        }
        let path = self.folder(at, written)?;
        let folder = chela_embedder::Folder::read(&path);
        let folder = folder.map_err(|error| self.no_model(at, &error)).ok()?;
        let half = std::thread::available_parallelism().map_or(1, |all| all.get() / 2);
        let concurrency = given.model_concurrency.map_or(half, size);
        Some(Embedding::Local {
            folder: Box::new(folder),
            concurrency: NonZeroUsize::new(concurrency).unwrap_or(NonZeroUsize::MIN),
        })
    }

    fn no_model(&mut self, at: At<'_>, error: &chela_embedder::Error) {
        let why = match error {
            chela_embedder::Error::Read { file, source } => format!("{}: {source}", self.shown(file)),
            chela_embedder::Error::Wrong { file, what } => format!("{}: {what}", self.shown(file)),
            chela_embedder::Error::NotBuilt => error.to_string(),
        };
        let note = Note::new(
            Code::PathUnusable,
            format!("`{}` needs a model that can be run; {why}", dotted(at)),
            "no such model",
        );
        let help = "a folder with config.json, tokenizer_config.json, vocab.txt and model.safetensors, as of all-MiniLM-L6-v2";
        self.fail(at, note.help(help));
    }
}
