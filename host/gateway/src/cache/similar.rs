//! What is learned of likeness, by tenant and agent: whether a kept answer may answer a question that only looks like
//! its own. Until the stated bound holds it may not.

use chela_lexical::{BandStanding, Decision, Language, Pool, Probe, Rule};
use chela_store::{CacheTrust, Store};
use chela_types::{AgentId, TenantId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::entry::{Entry, Known};
use super::judge::Judge;
use super::key::language_tag;

/// Draws evenly from `0.0..1.0`.
pub(crate) type Lots = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What was learned of one agent is written down so often; at once where a band opens or closes; and when the host stops.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// What is known of all agents.
pub(super) struct Similar {
    rule: Rule,
    pub(super) judge: Arc<dyn Judge>,
    lots: Lots,
    store: Option<Store>,
    /// By what it was learned: a rule, a judge, a language. What another one has learned is not believed.
    by: String,
    agents: Mutex<BTreeMap<(TenantId, AgentId), Agent>>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Agent {
    pool: Pool,
    /// When it was last written down, if it was.
    written: Option<Instant>,
    is_new: bool,
}

impl Similar {
    pub(super) fn new(
        (rule, language): (Rule, Language),
        judge: Arc<dyn Judge>,
        lots: Lots,
        store: Option<Store>,
    ) -> Self {
        let rule_as_text = serde_json::to_string(&rule).unwrap_or_default();
        let by = format!("{rule_as_text} {} {}", language_tag(language), judge.name());
        Self {
            rule,
            judge,
            lots,
            store,
            by,
            agents: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Reads what was learned of an agent before this host began; false if that cannot be read now.
    pub(super) async fn load(&self, tenant: &TenantId, agent: &AgentId) -> bool {
        let whose = (tenant.clone(), agent.clone());
        if self.agents.lock().contains_key(&whose) {
            return true;
        }
        let kept = match &self.store {
            None => None,
            Some(store) => match store.cache_trust(tenant, agent).await {
                Ok(kept) => kept,
                Err(error) => {
                    tracing::warn!(%agent, %error, "what was learned of similar questions cannot be read");
                    return false;
                }
            },
        };
        let kept = kept.filter(|kept| kept.by == self.by);
        let pool = kept.and_then(|kept| serde_json::from_str(&kept.learned).ok()).unwrap_or_default();
        self.agents.lock().entry(whose).or_insert(Agent { pool, ..Agent::default() });
        true
    }

    /// Whether a kept answer is served to a question so alike, or the question is asked for real and compared.
    pub(super) fn decide(&self, entry: &Entry, known: &Known, likeness: f32) -> Decision {
        let mut agents = self.agents.lock();
        let agent = agents.entry((entry.tenant.clone(), entry.agent.clone())).or_default();
        let mut learned = known.learned.lock();
        let decision = agent.pool.decide(self.rule, &learned.trust, likeness, (self.lots)());
        if decision == Decision::Exploit {
            learned.served_at = Some(likeness);
        }
        decision
    }

    /// Learns from a comparison.
    pub(super) fn confirm(self: &Arc<Self>, entry: &Entry, known: &Known, (probe, same): (&Probe, bool)) {
        self.learn(entry, |pool, rule| pool.confirm(rule, &mut known.learned.lock().trust, probe, same));
        let outcome = if same { "same" } else { "other" };
        metrics::counter!("gateway_cache_compared_total", "answer" => outcome).increment(1);
    }

    /// Learns that an entry was wrong where it was served last; false if it never was for its likeness alone.
    pub(super) fn refute(self: &Arc<Self>, entry: &Entry) -> bool {
        let Some(known) = &entry.question else { return false };
        let Some(likeness) = known.learned.lock().served_at else { return false };
        self.learn(entry, |pool, rule| pool.refute(rule, &mut known.learned.lock().trust, likeness));
        true
    }

    fn learn(self: &Arc<Self>, entry: &Entry, learn: impl FnOnce(&mut Pool, Rule)) {
        let mut agents = self.agents.lock();
        let agent = agents.entry((entry.tenant.clone(), entry.agent.clone())).or_default();
        let before = agent.pool.open();
        learn(&mut agent.pool, self.rule);
        // A band that a wrong answer has closed must not serve again because the host fell within the minute.
        let has_turned = agent.pool.open() != before;
        agent.is_new = true;
        let is_due = agent.written.is_none_or(|written| written.elapsed() >= WRITTEN_EVERY);
        if self.store.is_some() && (is_due || has_turned) {
            agent.written = Some(Instant::now());
            let similar = Arc::clone(self);
            tokio::spawn(async move { similar.write_down().await });
        }
    }

    /// Writes down what is new of all agents. One at a time, and each takes what is known when its turn comes: what is
    /// older never comes after what is newer.
    pub(super) async fn write_down(&self) {
        let Some(store) = &self.store else { return };
        let _turn = self.writing.lock().await;
        for ((tenant, agent), trust) in self.taken() {
            if let Err(error) = store.keep_cache_trust(&tenant, &agent, trust).await {
                tracing::warn!(%agent, %error, "what was learned of similar questions is not written down");
            }
        }
    }

    /// What is new of each agent.
    fn taken(&self) -> Vec<((TenantId, AgentId), CacheTrust)> {
        let mut agents = self.agents.lock();
        let new = agents.iter_mut().filter_map(|(whose, agent)| {
            if !std::mem::take(&mut agent.is_new) {
                return None;
            }
            agent.written = Some(Instant::now());
            let learned = serde_json::to_string(&agent.pool).ok()?;
            Some((whose.clone(), CacheTrust { by: self.by.clone(), learned }))
        });
        new.collect()
    }

    /// How the band of such a likeness stands for an agent.
    pub(super) fn standing(&self, entry: &Entry, likeness: f32) -> Option<BandStanding> {
        let agents = self.agents.lock();
        agents.get(&(entry.tenant.clone(), entry.agent.clone()))?.pool.standing(likeness)
    }
}
