//! What an operator may ask of the cache and tell it: what is in it, what would become of a question, what is to go.
//!
//! Everything is about one tenant. Questions and answers of people are in none of it but where they are asked for.

use chela_lexical::{BandStanding, Vector, verify};
use chela_types::{AgentId, Digest, Money, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Kept;
use super::entry::{Entry, person};
use super::key::{alone, form};
use super::shelf::nearest;
use crate::CacheLevel;

/// So many questions are compared before others have their turn.
const COMPARED_AT_ONCE: usize = 256;

/// What is kept of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Whether anything is kept at all.
    pub enabled: bool,
    /// Answers.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// By agent.
    pub agents: Vec<AgentStock>,
}

/// What is kept of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStock {
    /// Which.
    pub agent: AgentId,
    /// Answers.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How often these were served.
    pub served: u64,
    /// What that would have cost.
    pub saved: Money,
}

/// What would become of a question if an agent asked it alone. Which instructions an agent gives with it is its own
/// affair: so all that is kept of it is looked through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Whether anything is kept at all.
    pub enabled: bool,
    /// What may answer for this agent.
    pub level: CacheLevel,
    /// A digest of the question's one form; absent if it has none.
    pub form: Option<String>,
    /// The kept answers that are nearest.
    pub candidates: Vec<Candidate>,
}

/// A kept answer, seen from a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its short id.
    pub entry: String,
    /// Short digests of what has to be the same beside the question: agent's version, documents, instructions, and
    /// tier with parameters.
    pub parts: [String; 4],
    /// How alike the questions look; absent where they are the same.
    pub likeness: Option<f32>,
    /// `exact`, `canonical`, `similar`, or what makes another question of it.
    pub why: String,
    /// What would be done, the rest being the same: `served`, `compared` or `asked`.
    pub then: String,
    /// Whether it was right for another question once, and never wrong for one so alike.
    pub vetted: bool,
    /// How the band of this likeness stands for the agent.
    pub band: Option<BandStanding>,
    /// Its question, for who may see what was said.
    pub question: Option<String>,
}

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evict {
    /// Everything of the tenant.
    All,
    /// What an agent was answered.
    Agent(AgentId),
    /// One answer, by its short id.
    Entry(String),
    /// What a person's questions made, by his name in the records (`CHANNEL/ID`).
    User(String),
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// Answers.
    pub entries: u64,
    /// Of those, the ones that were counted as wrong where they had been served for their likeness.
    pub wrong: u64,
}

impl Evict {
    fn is_meant(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Agent(agent) => entry.agent == *agent,
            Self::Entry(id) => entry.id() == *id,
            Self::User(user) => entry.person == person(&entry.tenant, user),
        }
    }
}

impl Kept {
    fn of<'a>(&'a self, tenant: &'a TenantId) -> impl Iterator<Item = Arc<Entry>> + 'a {
        self.entries.iter().map(|(_, entry)| entry).filter(move |entry| entry.tenant == *tenant)
    }

    /// What is kept of a tenant.
    pub(crate) async fn stock(&self, tenant: &TenantId) -> Stock {
        self.entries.run_pending_tasks().await;
        let mut agents: BTreeMap<AgentId, AgentStock> = BTreeMap::new();
        for entry in self.of(tenant) {
            let agent = entry.agent.clone();
            let empty =
                AgentStock { agent: agent.clone(), entries: 0, bytes: 0, served: 0, saved: Money::ZERO };
            let stock = agents.entry(agent).or_insert(empty);
            let served = entry.served.load(Ordering::Relaxed);
            let saved = entry.cost.nanos().saturating_mul(i64::try_from(served).unwrap_or(i64::MAX));
            stock.entries += 1;
            stock.bytes += entry.bytes() as u64;
            stock.served += served;
            stock.saved = stock.saved.plus(Money::from_nanos(saved));
        }
        let agents: Vec<AgentStock> = agents.into_values().collect();
        let sum = |of: fn(&AgentStock) -> u64| agents.iter().map(of).sum();
        let (entries, bytes) = (sum(|agent| agent.entries), sum(|agent| agent.bytes));
        Stock { enabled: true, entries, bytes, agents }
    }

    /// What would become of a question to an agent at this level; with the questions of others only if `content`.
    pub(crate) async fn explain(
        &self,
        (tenant, agent): (&TenantId, &AgentId),
        (question, level): (&str, CacheLevel),
        content: bool,
    ) -> Explained {
        if let Some(similar) = &self.similar {
            similar.load(tenant, agent).await;
        }
        let own: Vec<Arc<Entry>> = self.of(tenant).filter(|entry| entry.agent == *agent).collect();
        let form = form(question, self.language);
        let same = form.as_ref().filter(|_| level >= CacheLevel::Canonical);
        // Once for each partition: there may be many thousand answers in a few of them.
        let mut keys: HashMap<Digest, Vec<Digest>> = HashMap::new();
        let is_same = |entry: &Arc<Entry>| {
            let made = || alone((question, same), &entry.parts, self.language);
            keys.entry(entry.parts.partition).or_insert_with(made).contains(&entry.key)
        };
        let (same, others): (Vec<_>, Vec<_>) = own.into_iter().partition(is_same);
        let same = same.into_iter().map(|entry| (None, entry));
        let others = nearest_of_all(others, question, form.is_some()).await;
        let others = others.into_iter().map(|(likeness, entry)| (Some(likeness), entry));
        let candidates = same
            .chain(others)
            .map(|(likeness, entry)| self.candidate(&entry, (question, level), likeness, content));
        Explained {
            enabled: true,
            level,
            form: form
                .map(|form| Digest::of("chela gateway cache form v1", &[form.as_str().as_bytes()]).short()),
            candidates: candidates.collect(),
        }
    }

    fn candidate(
        &self,
        entry: &Entry,
        (question, level): (&str, CacheLevel),
        likeness: Option<f32>,
        content: bool,
    ) -> Candidate {
        let known = entry.question.as_ref();
        let vetted = |likeness| known.is_some_and(|known| known.learned.lock().trust.vouches_at(likeness));
        let vetted = likeness.is_some_and(vetted);
        let band = likeness.and_then(|likeness| self.similar.as_ref()?.standing(entry, likeness));
        let (why, then) = match (likeness, known) {
            (None, _) if entry.is_of(question) => ("exact", "served"),
            (None, _) => ("canonical", "served"),
            (Some(_), Some(known)) => match verify(question, &known.text, self.language) {
                Err(difference) => (difference.code(), "asked"),
                Ok(()) if level < CacheLevel::Similar => ("similar", "asked"),
                Ok(()) if vetted && band.is_some_and(|band| band.open) => ("similar", "served"),
                Ok(()) => ("similar", "compared"),
            },
            (Some(_), None) => ("other", "asked"),
        };
        let parts = &entry.parts;
        Candidate {
            entry: entry.id(),
            parts: [parts.version, parts.knowledge, parts.system, parts.parameters].map(|part| part.short()),
            likeness,
            why: why.to_owned(),
            then: then.to_owned(),
            vetted,
            band,
            question: known.filter(|_| content).map(|known| known.text.clone()),
        }
    }

    /// Takes out what is meant; with `wrong`, what of it was served for its likeness is counted as wrong there.
    pub(crate) async fn evict(&self, tenant: &TenantId, which: &Evict, wrong: bool) -> Evicted {
        // First: what is being asked now is not kept then.
        self.evictions.fetch_add(1, Ordering::SeqCst);
        let meant: Vec<Arc<Entry>> = self.of(tenant).filter(|entry| which.is_meant(entry)).collect();
        let mut evicted = Evicted::default();
        for entry in meant {
            self.entries.invalidate(&entry.key).await;
            evicted.entries += 1;
            if let Some(similar) = self.similar.as_ref().filter(|_| wrong) {
                similar.load(tenant, &entry.agent).await;
                evicted.wrong += u64::from(similar.refute(&entry));
            }
        }
        evicted
    }

    /// Writes down what was learned.
    pub(crate) async fn write_down(&self) {
        if let Some(similar) = &self.similar {
            similar.write_down().await;
        }
    }
}

/// The most alike of all that is kept; none for a question that is too long for a form, because to read it takes long.
async fn nearest_of_all(entries: Vec<Arc<Entry>>, question: &str, has_form: bool) -> Vec<(f32, Arc<Entry>)> {
    let mut found: Vec<(f32, Arc<Entry>)> = Vec::new();
    if !has_form {
        return found;
    }
    let vector = Vector::of(question).unwrap_or_default();
    for some in entries.chunks(COMPARED_AT_ONCE) {
        let so_far = found.into_iter().map(|(_, entry)| entry);
        found = nearest(so_far.chain(some.iter().cloned()).collect(), &vector);
        tokio::task::yield_now().await;
    }
    found
}
