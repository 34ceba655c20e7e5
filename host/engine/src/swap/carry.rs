//! How something is carried out that changes what serves: a reload, an order, a verdict of the watch.

use chela_store::Deployment;
use chela_types::PluginId;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::Change;
use super::fleet::{Fleet, Update, used};
use super::refused::SwapRefused;
use super::release::Verdict;
use super::state::State;
use super::status::{Order, Reloaded, Who};
use super::work::{Ahead, Work};
use crate::error::Error;

/// How often something is worked out without holding others up, before it holds them up.
const ATTEMPTS: usize = 3;

/// What is asked of a fleet.
pub(super) enum Ask<'a> {
    Reload(&'a Update),
    Order(&'a PluginId, &'a Order),
    /// By the watch.
    SendBack(&'a Verdict),
}

/// What is to be, worked out and not yet made.
struct Outcome {
    next: State,
    changes: Vec<Change>,
    report: Reloaded,
}

impl Outcome {
    fn of(mut next: State, change: Change) -> Self {
        next.plugins.insert(change.id().clone(), change.plugged.clone());
        Self { next, changes: vec![change], report: Reloaded::default() }
    }
}

impl Fleet {
    /// Carries something out: it is worked out while everything goes on, and then made, unless what stands has become
    /// another meanwhile or was judged; it is worked out again then, with what was loaded already.
    pub(super) async fn carry_out(&self, ask: Ask<'_>, who: &Who) -> Result<Reloaded, Error> {
        let ahead = Ahead::default();
        for _ in 0..ATTEMPTS {
            let seen = self.state();
            let proven = seen.proven();
            let outcome = self.work_out(&ask, &seen, (who, &ahead)).await?;
            let _right = self.change.lock().await;
            if Arc::ptr_eq(&seen, &self.state()) && seen.proven() == proven {
                return self.make(outcome, (who, &ahead)).await;
            }
        }
        let _right = self.change.lock().await;
        let outcome = self.work_out(&ask, &self.state(), (who, &ahead)).await?;
        self.make(outcome, (who, &ahead)).await
    }

    async fn work_out(&self, ask: &Ask<'_>, seen: &State, with: (&Who, &Ahead)) -> Result<Outcome, Error> {
        let written = self.below.store.deployments(&seen.config.tenant).await?;
        let mut standing = State::clone(seen);
        let mut deployed = BTreeMap::new();
        for deployment in written {
            match standing.plugins.get_mut(&deployment.plugin) {
                // Another may have written it, or a write whose outcome was not heard.
                Some(plugged) => plugged.deployment = deployment,
                None => _ = deployed.insert(deployment.plugin.clone(), deployment),
            }
        }
        match ask {
            Ask::Reload(update) => self.work_reload_out(update, standing, deployed, with).await,
            Ask::Order(id, order) => {
                let config = Arc::clone(&standing.config);
                let work = Work::of(self, &config, with);
                let plugged = standing.plugins.get(*id).cloned();
                let plugged = plugged.ok_or_else(|| SwapRefused::NoPlugin(id.to_string()))?;
                let mut change = Change::of(plugged);
                work.follow(&mut change).await;
                work.order(&mut change, order).await?;
                Ok(Outcome::of(standing, change))
            }
            Ask::SendBack(verdict) => {
                let config = Arc::clone(&standing.config);
                let work = Work::of(self, &config, with);
                let Some(plugged) = standing.plugins.get(&verdict.plugin).cloned() else {
                    return Ok(Outcome { next: standing, changes: Vec::new(), report: Reloaded::default() });
                };
                let mut change = Change::of(plugged);
                work.follow(&mut change).await;
                work.send_back(&mut change, verdict).await?;
                Ok(Outcome::of(standing, change))
            }
        }
    }

    async fn work_reload_out(
        &self,
        update: &Update,
        standing: State,
        mut deployed: BTreeMap<PluginId, Deployment>,
        with: (&Who, &Ahead),
    ) -> Result<Outcome, Error> {
        let is_applied = update.is_applied(&standing);
        let config = if is_applied { Arc::new(update.config.clone()) } else { Arc::clone(&standing.config) };
        let work = Work::of(self, &config, with);
        let mut report = Reloaded { applied: is_applied, ..Reloaded::default() };
        let mut changes = Vec::new();
        for id in used(&config) {
            changes.push(match standing.plugins.get(&id) {
                Some(plugged) => {
                    let mut change = Change::of(plugged.clone());
                    work.look(&mut change, &mut report).await?;
                    change
                }
                None => {
                    report.changed.push(format!("plugin {id} is used now"));
                    work.plug(&id, deployed.remove(&id), &mut report).await?
                }
            });
        }
        let plugins: BTreeMap<_, _> =
            changes.iter().map(|change| (change.id().clone(), change.plugged.clone())).collect();
        let gone = standing.plugins.keys().filter(|id| !plugins.contains_key(*id));
        report.changed.extend(gone.map(|id| format!("plugin {id} is used no more")));
        let gateway = update.gateway.clone().filter(|_| is_applied);
        let gateway = gateway.unwrap_or_else(|| standing.gateway.clone());
        let next = State::new(Arc::clone(&config), gateway, plugins, &standing);
        Ok(Outcome { next, changes, report })
    }

    /// Makes what was worked out, by whoever has the right to: the house is built, all is written down, then it serves.
    async fn make(&self, outcome: Outcome, with: (&Who, &Ahead)) -> Result<Reloaded, Error> {
        let Outcome { mut next, changes, report } = outcome;
        let house = self.built(&mut next)?;
        let config = Arc::clone(&next.config);
        next.stand(Work::of(self, &config, with).make(changes).await?);
        self.serve(next, house);
        Ok(report)
    }
}
