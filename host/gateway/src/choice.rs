//! Which tier a call is made by, before money is set aside for it.
//!
//! The agent's policy says it first. Then whoever watches how long people wait may ask for a faster tier or a smarter
//! one, and last a budget that is nearly used up asks for a cheaper one: money has the last word. Everything that is read
//! here is in memory.

use chela_types::{AgentId, TierId};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::difficulty::{Features, Scorer};
use crate::ledger::limited;
use crate::plan::{Plans, SharedClock};
use crate::watch::Watch;
use crate::{Answer, Budgets, Call, Error, Model};

/// How an agent's tier is chosen.
#[derive(Debug, Clone)]
pub enum TierPolicy {
    /// Its own, whatever it asks for.
    Fixed,
    /// The one that it asks for.
    Wish,
    /// Its own or a cheaper one, as a scorer says of each call.
    Calibrated {
        /// The cheaper one.
        cheap: TierId,
        /// Fitted on the operator's labelled turns.
        scorer: Arc<Scorer>,
    },
}

/// An agent's tier, and how it is chosen.
#[derive(Debug, Clone)]
pub struct AgentTier {
    /// Its own. The dearer of two, where a scorer chooses.
    pub tier: TierId,
    /// How it is chosen.
    pub policy: TierPolicy,
}

/// What whoever watches an agent's waiting times asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Pressure {
    /// Nothing.
    #[default]
    None = 0,
    /// The faster tier: the cheaper one of its two, or the next one that the tier itself names.
    Lower = 1,
    /// The smarter tier: its own.
    Raise = 2,
}

impl Pressure {
    const fn of(kept: u8) -> Self {
        match kept {
            1 => Self::Lower,
            2 => Self::Raise,
            _ => Self::None,
        }
    }
}

/// All agents' tiers.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    each: BTreeMap<AgentId, (AgentTier, AtomicU8)>,
}

impl Agents {
    pub(crate) fn new(each: BTreeMap<AgentId, AgentTier>) -> Self {
        let each = each.into_iter().map(|(agent, tier)| (agent, (tier, AtomicU8::default())));
        Self { each: each.collect() }
    }

    /// Whether the agent's own wish for a tier counts.
    pub(crate) fn may_wish(&self, agent: &AgentId) -> bool {
        self.each.get(agent).is_none_or(|(tier, _)| matches!(tier.policy, TierPolicy::Wish))
    }

    /// False if there is no such agent.
    pub(crate) fn press(&self, agent: &AgentId, pressure: Pressure) -> bool {
        let kept = self.each.get(agent).map(|(_, kept)| kept);
        kept.inspect(|kept| kept.store(pressure as u8, Ordering::Relaxed)).is_some()
    }

    /// Every tier that is named here, with the agent.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&AgentId, &TierId)> {
        self.each.iter().filter_map(|(agent, (of, _))| match &of.policy {
            TierPolicy::Calibrated { cheap, .. } => Some((agent, cheap)),
            TierPolicy::Fixed | TierPolicy::Wish => None,
        })
    }
}

/// Chooses the tier.
pub(crate) struct Choice {
    pub(crate) agents: Arc<Agents>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) clock: SharedClock,
    pub(crate) below: Arc<dyn Model>,
}

impl Model for Choice {
    fn complete(&self, call: Arc<Call>) -> BoxFuture<'_, Result<Answer, Error>> {
        self.below.complete(self.chosen(call))
    }
}

/// A tier, and why: a short code, with a score if there is one, and never what was said.
struct Chosen {
    tier: TierId,
    why: String,
}

impl Choice {
    fn chosen(&self, call: Arc<Call>) -> Arc<Call> {
        let agent = self.agents.each.get(&call.agent);
        let first = agent.map(|(of, _)| by_policy(of, &call));
        let wanted = first.as_ref().map_or_else(|| call.tier.clone(), |first| first.tier.clone());
        let pressed = agent
            .and_then(|(of, kept)| self.pressed(of, &wanted, Pressure::of(kept.load(Ordering::Relaxed))));
        let at = pressed.as_ref().map_or(&wanted, |pressed| &pressed.tier);
        let lowered = self.lowered(agent.map(|(of, _)| of), at, &call);
        let Some(last) = lowered.or(pressed).or(first) else { return call };
        let wanted = (last.tier != wanted).then_some(wanted);
        Arc::new(Call { tier: last.tier, wanted, why: Some(last.why), ..Arc::unwrap_or_clone(call) })
    }

    /// What the waiting times ask for, if that is another tier.
    fn pressed(&self, of: &AgentTier, at: &TierId, pressure: Pressure) -> Option<Chosen> {
        let tier = match pressure {
            Pressure::None => None,
            Pressure::Lower => self.cheaper(Some(of), at),
            Pressure::Raise => matches!(of.policy, TierPolicy::Calibrated { .. }).then(|| of.tier.clone()),
        };
        tier.filter(|tier| tier != at).map(|tier| Chosen { tier, why: "sla".to_owned() })
    }

    /// A cheaper tier, if a budget that applies is used to the share that was stated.
    fn lowered(&self, of: Option<&AgentTier>, at: &TierId, call: &Call) -> Option<Chosen> {
        let lower_at = self.budgets.lower_at?;
        let tier = self.cheaper(of, at)?;
        let scopes = limited(&self.budgets, call, self.clock.now());
        let used = self.watch.fullest(&call.tenant, &scopes);
        (used >= lower_at).then(|| Chosen { tier, why: format!("budget {used} ≥ {lower_at}") })
    }

    fn cheaper(&self, of: Option<&AgentTier>, at: &TierId) -> Option<TierId> {
        match of.map(|of| &of.policy) {
            Some(TierPolicy::Calibrated { cheap, .. }) if cheap != at => Some(cheap.clone()),
            Some(TierPolicy::Calibrated { .. }) => None,
            _ => self.plans.get(at)?.cheaper.clone(),
        }
    }
}

fn by_policy(of: &AgentTier, call: &Call) -> Chosen {
    match &of.policy {
        TierPolicy::Fixed => Chosen { tier: of.tier.clone(), why: "fixed".to_owned() },
        TierPolicy::Wish => Chosen { tier: call.tier.clone(), why: "wish".to_owned() },
        TierPolicy::Calibrated { cheap, scorer } => match Features::of_call(call) {
            Some(features) => {
                let score = scorer.score(&features);
                let tier = if score.is_enough() { cheap } else { &of.tier };
                Chosen { tier: tier.clone(), why: format!("calibrated {score}") }
            }
            // What the scorer cannot see may be what makes it difficult.
            None => Chosen { tier: of.tier.clone(), why: "calibrated unread".to_owned() },
        },
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
