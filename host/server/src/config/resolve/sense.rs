//! Tables that are right each by itself and make no sense together: a budget that pays for nothing, documents that
//! nobody may search, a rule that leads to no agent.
//!
//! The host would start with them, and somebody would find out from an agent that does not answer.

use std::collections::{BTreeMap, BTreeSet};

use chela_gateway::{Call, Rate};
use chela_types::{
    AgentId, ChannelId, DepartmentId, Money, PluginId, Quantity, TenantId, TierId, Tokens, Unit,
};

use super::{At, Resolver, dotted};
use crate::config::problem::{Code, Note};
use crate::config::raw::Raw;
use crate::config::resolved::{Agent, Budget, Channel, Department, ModelRef, Plugin, Provider, Tier};

/// Who asks models, and for whom.
pub(super) struct Team<'a> {
    pub(super) plugins: &'a BTreeMap<PluginId, Plugin>,
    pub(super) agents: &'a BTreeMap<AgentId, Agent>,
    pub(super) departments: &'a BTreeMap<DepartmentId, Department>,
    pub(super) channels: &'a BTreeMap<ChannelId, Channel>,
}

impl Resolver<'_> {
    /// Each budget of an agent that may ask models has to pay for a call of each tier that it may use.
    pub(super) fn affordable(
        &mut self,
        budget: &Budget,
        Team { plugins, agents, departments, channels }: &Team<'_>,
        (providers, tiers): (&BTreeMap<String, Provider>, &BTreeMap<TierId, Tier>),
    ) {
        // A set: what all agents share is said once.
        let mut pairs = BTreeSet::new();
        for (id, agent) in *agents {
            if !plugins.get(&agent.plugin).is_some_and(|plugin| plugin.grants.contains("models")) {
                continue;
            }
            let of = |kind, id| {
                let own = vec![kind, id, "budget"];
                if self.document.is_written(&own) { own } else { vec!["budget", kind] }
            };
            let (user, global) = (vec!["budget", "user"], vec!["budget", "global"]);
            let mut all = vec![
                (of("agent", id.as_str()), &agent.budget),
                (user, &budget.user),
                (global, &budget.global),
            ];
            let department = agent.department.as_ref().and_then(|id| departments.get_key_value(id));
            all.extend(department.map(|(id, own)| (of("department", id.as_str()), &own.budget)));
            let channels = channels.iter().filter(|(id, _)| agent.reach.is_from(id));
            all.extend(channels.map(|(id, own)| (of("channel", id.as_str()), &own.budget)));
            for (key, limits) in all {
                for limit in limits {
                    pairs.extend(agent.tiers_allowed.iter().map(|tier| (key.clone(), limit.most, tier)));
                }
            }
        }
        for (key, most, id) in pairs {
            if let Some(tier) = tiers.get(id) {
                let call = |output| reserved(providers, (id, tier), output, most.unit);
                self.pays(&key, most, (id.as_str(), [call(1), call(tier.max_output_tokens)]));
            }
        }
    }

    /// One token that cannot be paid is a mistake. A whole answer that cannot be is a doubt: the plugin may ask for
    /// less.
    fn pays(&mut self, key: At<'_>, most: Quantity, (tier, [one, all]): (&str, [Quantity; 2])) {
        let chain: At<'_> = &["tier", tier, "chain"];
        let tokens: At<'_> = &["tier", tier, "max_output_tokens"];
        let (at, what, reserved, or) = match () {
            () if one > most => (chain, "one call", one, ""),
            () if all > most => (tokens, "a whole answer", all, ", or lower `max_output_tokens`"),
            () => return,
        };
        let message = format!("`{}` does not pay for {what} by `{}`", dotted(key), dotted(at));
        let label = format!("{most}, but {what} sets aside {reserved}");
        let help = format!(
            "every model of the chain is paid for in advance: raise the budget, or shorten the chain{or}"
        );
        let note = Note::new(Code::BudgetTooSmall, message, label).help(help);
        // Shown where something is written: all but the chain may be a default.
        let place = [key, at, chain].into_iter().find(|at| self.document.is_written(at)).unwrap_or(chain);
        if one > most { self.fail(place, note) } else { self.warn(place, note) }
    }

    /// Documents are for a plugin that may search them.
    pub(super) fn searchable(
        &mut self,
        plugins: &BTreeMap<PluginId, Plugin>,
        agents: &BTreeMap<AgentId, Agent>,
    ) {
        for (id, agent) in agents.iter().filter(|(_, agent)| agent.knowledge.is_some()) {
            let plugin = &agent.plugin;
            if plugins.get(plugin).is_some_and(|plugin| !plugin.grants.contains("knowledge")) {
                let at: At<'_> = &["agent", id.as_str(), "knowledge"];
                let message = format!("nobody searches the documents of `{}`", dotted(at));
                let label = format!("the plugin `{plugin}` has no grant `knowledge`");
                let help = format!("add `\"knowledge\"` to `grants` of `[plugin.{plugin}]`");
                self.warn(at, Note::new(Code::GrantMissing, message, label).help(help));
            }
        }
    }

    /// Rules of our own keyword router. A doubt alone: the table is the plugin's, and such a rule is passed over.
    pub(super) fn rules(&mut self, raw: &Raw) {
        for (name, plugin) in raw.plugin.iter().filter(|(_, plugin)| plugin.source == KEYWORD_ROUTER) {
            let rules = plugin.config.get("rules").and_then(toml::Value::as_array);
            for (index, rule) in rules.into_iter().flatten().enumerate() {
                let agent = rule.get("agent").and_then(toml::Value::as_str);
                if let Some(agent) = agent.filter(|agent| !raw.agent.contains_key(*agent)) {
                    let at: At<'_> = &["plugin", name, "config", "rules", &index.to_string(), "agent"];
                    let note = self.unknown(at, "agent", (agent, &raw.agent));
                    self.warn(at, note);
                }
            }
        }
    }
}

/// The one router whose table is known here.
const KEYWORD_ROUTER: &str = "builtin:keyword";

/// What the smallest call that asks a tier for so many tokens sets aside: as the gateway counts it, for every model of
/// the chain.
fn reserved(
    providers: &BTreeMap<String, Provider>,
    (id, tier): (&TierId, &Tier),
    output: u32,
    unit: Unit,
) -> Quantity {
    let input = smallest(id).map_or(Tokens(0), |call| call.input_bound());
    let rate = |model: &ModelRef| {
        let price = *providers.get(&model.provider)?.prices.get(&model.model)?;
        Some(Rate { price, input, output: Tokens(u64::from(output)) })
    };
    let rates = tier.chain.iter().filter_map(rate);
    match unit {
        Unit::Dollars => rates.map(|rate| rate.bound()).sum::<Money>().into(),
        Unit::Tokens => rates.fold(Tokens(0), |sum, rate| sum.plus(rate.tokens())).into(),
        Unit::Requests => Quantity::requests(1),
    }
}

/// A call with nothing in it. The gateway's own, so that both count the same tokens around a text.
fn smallest(tier: &TierId) -> Option<Call> {
    let agent = AgentId::new("none").ok()?;
    Some(Call::new(TenantId::default_tenant(), agent, "", tier.clone(), Vec::new()))
}
