//! Puts the layers together. The order is read here.

use chela_egress::Egress;
use chela_store::Store;
use chela_types::{AgentId, Clock, Price, TenantId, TierId};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::budget::Budget;
use crate::cache::Cached;
use crate::check::check;
use crate::choice::{AgentTier, Agents, Choice, Pressure};
use crate::embedding::{EmbedCall, Embedder, Embeddings};
use crate::escrow::Escrow;
use crate::failover::Failover;
use crate::ledger::Purses;
use crate::plan::{Plans, plans};
use crate::tier::Tiers;
use crate::watch::Watch;
use crate::{
    Answer, Budgets, CacheLevel, Call, Config, Error, Evict, Evicted, Explained, Kind, Model, Stock, provider,
};

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    model: Arc<dyn Model>,
    pub(crate) plans: Arc<Plans>,
    budgets: Arc<Budgets>,
    purses: Arc<Purses>,
    agents: Arc<Agents>,
    embedder: Arc<Embedder>,
    cache: Arc<Cached>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("tiers", &self.plans.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Checks the configuration and connects the layers. A call meets them from the last line up: choice, budget,
    /// cache, tier, failover, provider.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] naming the key to change.
    pub fn new(config: Config, store: Store, egress: &Egress, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let providers = provider::backends(&config, egress, &clock);
        let (plans, embedding) = plans(&config, &providers)?;
        let plans = Arc::new(plans);
        let failover = |plan: &Arc<_>| -> Arc<dyn Model> {
            Arc::new(Failover { plan: Arc::clone(plan), cooldown_max: config.cooldown_max })
        };
        let chains = plans.iter().map(|(tier, plan)| (tier.clone(), failover(plan))).collect();
        let tier: Arc<dyn Model> = Arc::new(Tiers { chains });
        let lots = Arc::new(rand::random::<f64>);
        let cache = Arc::new(Cached::new(config.cache, tier, (lots, Some(store.clone()))));
        let budgets = Arc::new(config.budgets);
        let watch = Watch::new(store.clone(), budgets.thresholds.clone(), budgets.lower_at);
        let escrow = Escrow::new(store.clone());
        let purses = Arc::new(Purses { store, escrow, watch: Arc::clone(&watch) });
        let embedder = Arc::new(Embedder {
            plan: embedding,
            budgets: Arc::clone(&budgets),
            purses: Arc::clone(&purses),
            clock: clock.clone(),
            cooldown_max: config.cooldown_max,
        });
        let budget = Arc::new(Budget {
            budgets: Arc::clone(&budgets),
            purses: Arc::clone(&purses),
            plans: plans.clone(),
            clock: clock.clone(),
            below: cache.clone(),
        });
        let agents = Arc::new(agents(config.agents, &plans)?);
        let model = Arc::new(Choice {
            agents: Arc::clone(&agents),
            plans: plans.clone(),
            budgets: Arc::clone(&budgets),
            watch,
            clock,
            below: budget,
        });
        Ok(Self { model, plans, budgets, purses, agents, embedder, cache })
    }

    /// Answers a call; ready when the first text or tool call is there. Dropping the answer ends the call, which is then
    /// charged at the model's bound.
    ///
    /// # Errors
    /// [`Error`], with the record of what was tried.
    pub async fn complete(&self, call: Call) -> Result<Answer, Error> {
        check(&call)?;
        self.model.complete(Arc::new(call)).await
    }

    /// Makes vectors of texts. Dropping this ends it, which is then charged at the bound.
    ///
    /// # Errors
    /// [`Error`], with the record of what was tried.
    pub async fn embed(&self, call: EmbedCall) -> Result<Embeddings, Error> {
        self.embedder.embed(call).await
    }

    /// Who makes vectors, in the order in which they are asked: `provider/model` each, or
    /// [`crate::LEXICAL`] or `local:NAME` alone.
    pub fn embedding_chain(&self) -> Vec<String> {
        self.embedder.chain()
    }

    /// Whether the agent's wish for a tier counts. Where it does not, whatever it asks for is not looked at.
    pub fn may_wish(&self, agent: &AgentId) -> bool {
        self.agents.may_wish(agent)
    }

    /// Asks for faster or smarter tiers for an agent, from its next call on: for whoever watches how long people wait.
    /// False if there is no such agent.
    pub fn press(&self, agent: &AgentId, pressure: Pressure) -> bool {
        self.agents.press(agent, pressure)
    }

    /// Whether what is run beside the turns has a budget of its own.
    pub fn has_budget_apart(&self) -> bool {
        !self.budgets.apart.is_empty()
    }

    /// Gives back what is set aside for calls to come. Before the store is closed, or it is charged at the next start.
    pub async fn close(&self) {
        self.purses.escrow.close().await;
    }

    /// The same, and it goes on.
    #[cfg(test)]
    pub(crate) async fn drain(&self) {
        self.purses.escrow.drain().await;
    }

    /// What may be used.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// The tiers that can be asked.
    pub fn tiers(&self) -> impl Iterator<Item = &TierId> {
        self.plans.keys()
    }

    /// What a model of any tier costs, by its name as `provider/model`.
    pub fn price(&self, model: &str) -> Option<Price> {
        let mut links = self.plans.values().flat_map(|plan| &plan.links);
        links.find(|link| link.name == model).map(|link| link.tariff.price)
    }

    /// The models of a tier's chain, in order, as `provider/model`.
    pub fn chain(&self, tier: &TierId) -> Vec<String> {
        let plan = self.plans.get(tier);
        plan.map(|plan| plan.links.iter().map(|link| link.name.clone()).collect()).unwrap_or_default()
    }

    /// What is kept of a tenant.
    pub async fn cache_stock(&self, tenant: &TenantId) -> Stock {
        match self.cache.kept() {
            Some(kept) => kept.stock(tenant).await,
            None => Stock::default(),
        }
    }

    /// What would become of a question if an agent asked it alone; with what others asked only if `content`.
    pub async fn explain_cached(
        &self,
        whose: (&TenantId, &AgentId),
        (question, level): (&str, CacheLevel),
        content: bool,
    ) -> Explained {
        match self.cache.kept() {
            Some(kept) => kept.explain(whose, (question, level), content).await,
            None => Explained { enabled: false, level, form: None, candidates: Vec::new() },
        }
    }

    /// Takes answers out of the cache; with `wrong`, those that were served for their likeness are counted as wrong.
    pub async fn evict_cached(&self, tenant: &TenantId, which: &Evict, wrong: bool) -> Evicted {
        self.cache.evict(tenant, which, wrong).await
    }

    /// Writes down what was learned of similar questions: for when this gateway is about to go.
    pub async fn write_down_cached(&self) {
        if let Some(kept) = self.cache.kept() {
            kept.write_down().await;
        }
    }
}

/// The agents' tiers; each that a scorer may choose exists.
pub(crate) fn agents(each: BTreeMap<AgentId, AgentTier>, plans: &Plans) -> Result<Agents, Error> {
    let agents = Agents::new(each);
    let unknown = agents.named().find(|(_, tier)| !plans.contains_key(*tier));
    let told = unknown.map(|(agent, tier)| format!("[agent.{agent}] cheap_tier: there is no tier `{tier}`"));
    match told {
        Some(told) => Err(Error::new(Kind::Config(told))),
        None => Ok(agents),
    }
}
