//! Puts the layers together. The order is read here.

use chela_egress::Egress;
use chela_store::Store;
use chela_types::{Clock, Price, TierId};
use std::sync::Arc;

use crate::budget::Budget;
use crate::cache::Cached;
use crate::check::check;
use crate::escrow::Escrow;
use crate::failover::Failover;
use crate::ledger::Purses;
use crate::plan::{Plans, plans};
use crate::tier::Tiers;
use crate::watch::Watch;
use crate::{Answer, Budgets, Call, Config, Error, Model, provider};

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    model: Arc<dyn Model>,
    pub(crate) plans: Arc<Plans>,
    budgets: Arc<Budgets>,
    purses: Arc<Purses>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("tiers", &self.plans.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Checks the configuration and connects the layers. A call meets them from the last line up: budget,
    /// cache, tier, failover, provider.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] naming the key to change.
    pub fn new(config: Config, store: Store, egress: &Egress, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let providers = provider::backends(&config, egress, &clock);
        let plans = Arc::new(plans(&config, &providers)?);
        let failover = |plan: &Arc<_>| -> Arc<dyn Model> {
            Arc::new(Failover { plan: Arc::clone(plan), cooldown_max: config.cooldown_max })
        };
        let chains = plans.iter().map(|(tier, plan)| (tier.clone(), failover(plan))).collect();
        let tier: Arc<dyn Model> = Arc::new(Tiers { chains });
        let cache: Arc<dyn Model> = Arc::new(Cached::new(config.cache, tier));
        let budgets = Arc::new(config.budgets);
        let purses = Arc::new(Purses {
            escrow: Escrow::new(store.clone()),
            watch: Watch::new(store.clone(), budgets.thresholds.clone()),
            store,
        });
        let model = Arc::new(Budget {
            budgets: Arc::clone(&budgets),
            purses: Arc::clone(&purses),
            plans: plans.clone(),
            clock,
            below: cache,
        });
        Ok(Self { model, plans, budgets, purses })
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
}
