//! The same question to the same agent, answered again without asking; and asked once by all who ask it at the same time
//! (`flight.rs`).
//!
//! The same is what an agent's [`CacheLevel`] calls so. *Exact*: a digest over everything that shapes the answer
//! (`key.rs`). *Canonical*: of a call that is one question and nothing else, the question in its one form, and all the rest
//! byte by byte. *Similar*: a question of the same partition that looks like it and was verified, where the bound that was
//! stated holds (`similar.rs`). Only whole answers that ended by themselves and say something are kept; those that may
//! answer another question, only if they call no tools.
//!
//! Tool calls are kept as text is: an agent that asks the same is told to call the same, under the same id, which is
//! its own as long as one conversation does not meet it twice; and a conversation that goes on has another key. An image
//! shapes the key by its bytes. What is behind an address may change, so a call with an image by address is not kept.

mod desk;
mod entry;
mod judge;
mod key;
mod shelf;
mod similar;

use chela_lexical::{Decision, Difference, Language, Probe, Reading, Vector};
use chela_types::{CacheNote, CacheVerdict, Digest, Finish};
use futures::StreamExt;
use futures::future::BoxFuture;
use moka::future::Cache as Entries;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::flight::Flights;
use crate::{Answer, Cache, CacheLevel, CachePolicy, Call, Chunk, Completed, Error, Model};
use entry::{Entry, OwnTime};
use judge::{Judge, Lexical};
use key::Asked;
use shelf::Shelves;
use similar::Similar;

pub use desk::{AgentStock, Candidate, Evict, Evicted, Explained, Stock};
pub(crate) use similar::Lots;

/// The layer.
pub(crate) struct Cached {
    kept: Option<Arc<Kept>>,
    flights: Flights,
    below: Arc<dyn Model>,
}

/// What is kept, and what is known of it.
pub(crate) struct Kept {
    entries: Entries<Digest, Arc<Entry>>,
    shelves: Shelves,
    similar: Option<Arc<Similar>>,
    language: Language,
    ttl: Duration,
    /// How often something was evicted: what was asked before is not kept after it.
    evictions: AtomicU64,
}

/// What of the kept questions is like the one that is asked.
enum Found {
    Nothing,
    /// Alike, but another question, or asked so rarely that nothing is known.
    Other(CacheNote),
    /// Its answer is served.
    Served(Arc<Entry>, f32),
    /// It is asked for real, and the answers are compared.
    Compare(Arc<Entry>, f32, Probe),
}

impl Cached {
    /// With what likeness needs beside the words: lots, and where to write down what was learned.
    pub(crate) fn new(
        config: Cache,
        below: Arc<dyn Model>,
        (lots, store): (Lots, Option<chela_store::Store>),
    ) -> Self {
        let judge = Arc::new(Lexical { language: config.language });
        Self::judged(config, below, (lots, store, judge))
    }

    fn judged(
        config: Cache,
        below: Arc<dyn Model>,
        (lots, store, judge): (Lots, Option<chela_store::Store>, Arc<dyn Judge>),
    ) -> Self {
        let similar =
            config.similar.map(|rule| Arc::new(Similar::new((rule, config.language), judge, lots, store)));
        let kept = config.enabled.then(|| {
            Arc::new(Kept {
                entries: entries(config),
                shelves: Shelves::default(),
                similar,
                language: config.language,
                ttl: config.ttl,
                evictions: AtomicU64::new(0),
            })
        });
        Self { kept, flights: Flights::default(), below }
    }

    /// Takes answers out, and lets nobody join what was asked before.
    pub(crate) async fn evict(&self, tenant: &chela_types::TenantId, which: &Evict, wrong: bool) -> Evicted {
        let Some(kept) = &self.kept else { return Evicted::default() };
        let evicted = kept.evict(tenant, which, wrong).await;
        self.flights.part();
        evicted
    }

    /// What is kept, unless nothing is.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }
}

/// Both limits hold: an entry weighs its bytes, and at least its share of the number of entries.
fn entries(config: Cache) -> Entries<Digest, Arc<Entry>> {
    let share = config.bytes_max.checked_div(config.entries_max).unwrap_or(config.bytes_max);
    let weigh = move |_: &Digest, entry: &Arc<Entry>| {
        let bytes = entry.bytes() as u64;
        u32::try_from(bytes.max(share)).unwrap_or(u32::MAX)
    };
    Entries::builder().max_capacity(config.bytes_max).weigher(weigh).expire_after(OwnTime).build()
}

#[cfg(test)]
impl Cached {
    /// How many listen to the call under way that is asked the same.
    pub(crate) fn listeners(&self, call: &Call) -> usize {
        Asked::of(call, Language::English).map_or(0, |asked| self.flights.listeners(&asked.key))
    }
}

impl Model for Cached {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move {
            let asked = self.kept.as_ref().and_then(|kept| Some((kept, Asked::of(&call, kept.language)?)));
            let Some((kept, asked)) = asked else {
                count(CacheVerdict::Off);
                return self.below.complete(call).await;
            };
            if let Some(answer) = kept.served(&call, &asked).await {
                return Ok(answer);
            }
            let found = match kept.alike(&asked).await {
                Found::Served(entry, likeness) => {
                    count(CacheVerdict::Similar);
                    return Ok(entry.serve(&call, CacheVerdict::Similar, Some(likeness)));
                }
                found => found,
            };
            let listener = self.flights.join(asked.key, call.clone(), || {
                let (kept, below) = (Arc::clone(kept), Arc::clone(&self.below));
                Box::pin(async move { kept.ask(below, call, (asked, found)).await })
            });
            if !listener.is_first() {
                count(CacheVerdict::Joined);
            }
            listener.opened().await
        })
    }

    fn kept<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            let kept = self.kept.as_ref()?;
            let asked = Asked::of(call, kept.language)?;
            kept.served(call, &asked).await
        })
    }
}

fn count(verdict: CacheVerdict) {
    metrics::counter!("gateway_cache_total", "verdict" => verdict.as_str()).increment(1);
}

impl Kept {
    /// What was asked, exactly or in another form.
    async fn served(&self, call: &Call, asked: &Asked) -> Option<Answer> {
        let entry = self.entries.get(&asked.key).await?;
        let verdict = entry.verdict(asked);
        count(verdict);
        Some(entry.serve(call, verdict, None))
    }

    /// What is like the question, if the agent wants to know.
    async fn alike(&self, asked: &Asked) -> Found {
        let (Some(similar), Some(question)) = (&self.similar, &asked.question) else { return Found::Nothing };
        if asked.level < CacheLevel::Similar {
            return Found::Nothing;
        }
        let Ok(reading) = Reading::of(&question.text, self.language) else { return Found::Nothing };
        let vector = Vector::of(&question.text).unwrap_or_default();
        let mut other = None;
        for (likeness, entry) in self.shelves.nearest(&asked.parts.partition, (&vector, reading.form())) {
            let Some(known) = entry.question.as_ref() else { continue };
            if !self.holds(&entry).await {
                continue;
            }
            match known.reading.as_ref().map_or(Err(Difference::Unread), |known| reading.verify(known)) {
                Err(difference) => {
                    other.get_or_insert_with(|| entry.note(difference.code(), Some(likeness)));
                }
                Ok(()) => {
                    if !similar.load(&entry.tenant, &entry.agent).await {
                        return Found::Nothing;
                    }
                    return match similar.decide(&entry, known, likeness) {
                        Decision::Exploit => Found::Served(Arc::clone(&entry), likeness),
                        Decision::Explore(probe) => Found::Compare(Arc::clone(&entry), likeness, probe),
                    };
                }
            }
        }
        other.map_or(Found::Nothing, Found::Other)
    }

    /// Whether an entry is still there: its time may be over, and nobody has looked.
    async fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.entries.get(&entry.key).await.is_some_and(|kept| Arc::ptr_eq(&kept, entry))
    }

    /// Asks for real.
    async fn ask(
        self: Arc<Self>,
        below: Arc<dyn Model>,
        call: Arc<Call>,
        (asked, found): (Asked, Found),
    ) -> Result<Answer, Error> {
        // The call that was under way may have ended since.
        if let Some(answer) = self.served(&call, &asked).await {
            return Ok(answer);
        }
        count(CacheVerdict::Miss);
        let evictions = self.evictions.load(Ordering::SeqCst);
        let answer = below.complete(Arc::clone(&call)).await.map_err(missed)?;
        Ok(keep(answer, Arc::new(Keeping { kept: self, call, asked, found, evictions })))
    }

    /// Keeps an answer, unless something was evicted since it was asked for: it might have been this.
    async fn insert(&self, entry: Entry, (level, evictions): (CacheLevel, u64)) {
        let is_late = || self.evictions.load(Ordering::SeqCst) != evictions;
        if is_late() {
            // Somebody may have asked anew since, and that answer stays.
            return;
        }
        let entry = Arc::new(entry);
        self.entries.insert(entry.key, Arc::clone(&entry)).await;
        if is_late() {
            self.entries.invalidate(&entry.key).await;
        } else if level == CacheLevel::Similar && entry.question.is_some() {
            self.shelves.put(&entry);
        }
    }
}

/// An answer on its way into the cache.
struct Keeping {
    kept: Arc<Kept>,
    call: Arc<Call>,
    asked: Asked,
    found: Found,
    evictions: u64,
}

impl Keeping {
    /// What the record says before the end.
    fn note(&self) -> Option<CacheNote> {
        match &self.found {
            Found::Nothing => None,
            Found::Other(note) => Some(note.clone()),
            Found::Served(entry, likeness) => Some(entry.note("similar", Some(*likeness))),
            Found::Compare(entry, likeness, _) => Some(entry.note("compared", Some(*likeness))),
        }
    }

    async fn end(&self, mut completed: Box<Completed>) -> Box<Completed> {
        completed.call.cache = CacheVerdict::Miss;
        completed.call.kept = self.note();
        // What two models said together ended by itself for neither.
        if self.call.tab.is_extended() {
            return completed;
        }
        if let Some(same) = self.compare(&completed).await
            && let Some(note) = &mut completed.call.kept
        {
            (if same { "same_answer" } else { "other_answer" }).clone_into(&mut note.why);
        }
        let CachePolicy::On { level, ttl, .. } = &self.call.cache else { return completed };
        let ttl = ttl.unwrap_or(self.kept.ttl);
        let how = (ttl, self.kept.language);
        if let Some(entry) = Entry::of((&self.call, &self.asked), &completed, how) {
            self.kept.insert(entry, (*level, self.evictions)).await;
        }
        completed
    }

    /// Whether the kept answer would have been right, where that was to be found out. Half an answer says nothing.
    async fn compare(&self, completed: &Completed) -> Option<bool> {
        let Found::Compare(entry, _, probe) = &self.found else { return None };
        let (similar, known) = (self.kept.similar.as_ref()?, entry.question.as_ref()?);
        if completed.finish != Finish::Stop || !completed.calls.is_empty() {
            return None;
        }
        let same = similar.judge.is_same(&entry.told.text, &completed.text).await;
        similar.confirm(entry, known, (probe, same));
        Some(same)
    }
}

/// Passes a live answer on, and keeps it if it ends well.
fn keep(mut answer: Answer, keeping: Arc<Keeping>) -> Answer {
    answer.begun.cache = CacheVerdict::Miss;
    answer.begun.kept = keeping.note();
    answer.chunks = answer
        .chunks
        .then(move |chunk| {
            let keeping = Arc::clone(&keeping);
            async move {
                match chunk {
                    Ok(Chunk::End(completed)) => Ok(Chunk::End(keeping.end(completed).await)),
                    Ok(said) => Ok(said),
                    Err(error) => Err(missed(error)),
                }
            }
        })
        .boxed();
    answer
}

fn missed(mut error: Error) -> Error {
    if let Some(call) = &mut error.call {
        call.cache = CacheVerdict::Miss;
    }
    error
}

#[cfg(test)]
mod alike_tests;
#[cfg(test)]
mod canary_tests;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod shelf_tests;
#[cfg(test)]
pub(crate) mod tests;
