//! A host for tests: answers what the capabilities of a plugin ask, in memory and in order.
//!
//! The functions of this crate reach it through a thread-local, so a plugin is tested unchanged. Without
//! one, the configuration is `{}`, the memory is empty, and models and knowledge answer `not-granted`.
//!
//! ```
//! use chela_sdk::{knowledge, testing::Host};
//!
//! let found = Host::new().passage("returns.md › Refunds", "Thirty days.").run(|| knowledge::search("refund", 3));
//! assert_eq!(found.unwrap().len(), 1);
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::HostError;
use crate::knowledge::Passage;
use crate::log::Level;
use crate::memory::{Entry, Scope};
use crate::models::{Completion, Finish, ModelError, Request, Usage};

/// The stand-in. Build it, then [`run`](Host::run) the code under test in it.
#[derive(Debug, Default)]
pub struct Host {
    pub(crate) config: Config,
    pub(crate) lines: Vec<(Level, String)>,
    pub(crate) memory: BTreeMap<(u8, String), Entry>,
    answers: VecDeque<Result<String, ModelError>>,
    requests: Vec<Request>,
    knowledge: Option<Result<Vec<Passage>, HostError>>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

impl Host {
    /// Grants nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration, an object.
    #[must_use]
    pub fn config(self, config: serde_json::Value) -> Self {
        Self { config: Config(config), ..self }
    }

    /// The next model call says this.
    #[must_use]
    pub fn answer(mut self, text: impl Into<String>) -> Self {
        self.answers.push_back(Ok(text.into()));
        self
    }

    /// The next model call fails.
    #[must_use]
    pub fn fail(mut self, error: ModelError) -> Self {
        self.answers.push_back(Err(error));
        self
    }

    /// Adds a passage that every search finds.
    #[must_use]
    pub fn passage(mut self, source: impl Into<String>, text: impl Into<String>) -> Self {
        let passage = Passage { source: source.into(), text: text.into(), score: 1.0 };
        match &mut self.knowledge {
            Some(Ok(passages)) => passages.push(passage),
            other => *other = Some(Ok(vec![passage])),
        }
        self
    }

    /// Every search fails.
    #[must_use]
    pub fn no_knowledge(self, error: HostError) -> Self {
        Self { knowledge: Some(Err(error)), ..self }
    }

    /// Runs `test` with this host in place, on this thread.
    pub fn run<R>(self, test: impl FnOnce() -> R) -> R {
        self.watch(test).0
    }

    /// Like [`Host::run`], and gives back what the host saw.
    pub fn watch<R>(self, test: impl FnOnce() -> R) -> (R, Seen) {
        let before = HOST.with_borrow_mut(|host| std::mem::replace(host, self));
        let result = test();
        let host = HOST.with_borrow_mut(|host| std::mem::replace(host, before));
        (result, Seen { requests: host.requests, lines: host.lines })
    }

    pub(crate) fn remember(&mut self, scope: Scope, key: &str, value: &str) -> u64 {
        let place = self.memory.entry((scope as u8, key.to_owned()));
        let entry = place.or_insert(Entry { value: String::new(), version: 0 });
        value.clone_into(&mut entry.value);
        entry.version = entry.version.saturating_add(1);
        entry.version
    }

    fn complete(&mut self, request: &Request) -> Result<Completion, ModelError> {
        self.requests.push(request.clone());
        let text = self.answers.pop_front().unwrap_or(Err(ModelError::NotGranted("models".to_owned())))?;
        let usage = Usage { input_tokens: 1, cached_tokens: 0, output_tokens: 1, cost_nanodollars: 1 };
        Ok(Completion { text, finish: Finish::Stop, usage, model: "testing/host".to_owned() })
    }
}

/// What a host saw during a test.
#[derive(Debug)]
pub struct Seen {
    /// Model calls, in order.
    pub requests: Vec<Request>,
    /// Log lines, in order.
    pub lines: Vec<(Level, String)>,
}

/// An object that is `{}` unless set.
#[derive(Debug)]
pub(crate) struct Config(serde_json::Value);

impl Default for Config {
    fn default() -> Self {
        Self(serde_json::Value::Object(serde_json::Map::new()))
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A stream of one-word pieces.
#[derive(Debug)]
pub(crate) struct StreamReader {
    pieces: RefCell<VecDeque<String>>,
    completion: Completion,
}

impl StreamReader {
    pub(crate) fn next(&self) -> Result<Option<String>, ModelError> {
        Ok(self.pieces.borrow_mut().pop_front())
    }

    pub(crate) fn completion(&self) -> Result<Completion, ModelError> {
        if !self.pieces.borrow().is_empty() {
            return Err(ModelError::Invalid("the stream is not at its end".to_owned()));
        }
        Ok(self.completion.clone())
    }
}

pub(crate) fn with<R>(act: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(act)
}

pub(crate) fn complete(request: &Request) -> Result<Completion, ModelError> {
    with(|host| host.complete(request))
}

pub(crate) fn relay(request: &Request) -> Result<Completion, ModelError> {
    with(|host| host.complete(request))
}

pub(crate) fn stream(request: &Request) -> Result<StreamReader, ModelError> {
    let completion = with(|host| host.complete(request))?;
    let pieces = completion.text.split_inclusive(' ').map(str::to_owned).collect();
    Ok(StreamReader { pieces: RefCell::new(pieces), completion })
}

pub(crate) fn search(_query: &str, limit: u32) -> Result<Vec<Passage>, HostError> {
    let refused = || Err(HostError::NotGranted("knowledge".to_owned()));
    let mut passages = with(|host| host.knowledge.clone()).unwrap_or_else(refused)?;
    passages.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(passages)
}

/// What this stand-in does not serve.
pub(crate) fn refuse<A, R>(_arguments: A) -> Result<R, HostError> {
    Err(HostError::NotGranted("not served in tests".to_owned()))
}
