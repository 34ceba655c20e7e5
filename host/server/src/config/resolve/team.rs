//! `plugin`, `department`, `agent`, `channel`, `routing`: who answers whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chela_gateway::difficulty::Scorer;
use chela_gateway::{CacheLevel, TierPolicy};
use chela_sandbox::Level;
use chela_types::{AgentId, ChannelId, DepartmentId, PluginId, TierId};
use secrecy::SecretString;

use super::host::{over, seconds};
use super::{At, Resolver, dotted, size};
use crate::config::problem::{Code, Note, suggest};
use crate::config::raw::{self, Raw};
use crate::config::resolved::{
    Agent, Budget, Channel, DeliveryPolicy, Department, KindLimits, Place, Plugin, PluginKind, Reach,
    Routing, Source,
};

impl Resolver<'_> {
    pub(super) fn plugins(&mut self, raw: &Raw, limits: &KindLimits) -> BTreeMap<PluginId, Plugin> {
        let each = |(name, plugin): (&String, &raw::Plugin)| {
            let id = self.unreserved(&["plugin", name]);
            let source = self.source(&["plugin", name, "source"], &plugin.source);
            let config = self.free(&["plugin", name, "config"], &plugin.config);
            let kind = self.plugin_kind(raw, name);
            let limits = over(&plugin.limits, limits.of(kind));
            // Only its own: that of its kind is shown where it is written.
            let own =
                plugin.limits.deadline_ms.filter(|_| kind.is_some_and(|kind| kind != PluginKind::Agent));
            if own.is_some() {
                self.within_lease(raw, &["plugin", name, "limits", "deadline_ms"], limits.deadline);
            }
            let grants = plugin.grants.iter().map(|grant| grant_name(*grant).to_owned()).collect();
            let level = plugin.isolation.map(|isolation| match isolation {
                raw::Isolation::InProcess => Level::InProcess,
                raw::Isolation::Worker => Level::Worker,
            });
            let secrets = self.secrets(("plugin", name), &plugin.secrets);
            Some((id?, Plugin { source: source?, grants, kind, limits, config, secrets, level }))
        };
        raw.plugin.iter().filter_map(each).collect()
    }

    /// What the other tables use a plugin as. Whether it is that, its manifest says when it is loaded.
    fn plugin_kind(&mut self, raw: &Raw, name: &str) -> Option<PluginKind> {
        let used = [
            (PluginKind::Router, raw.routing.router.as_deref() == Some(name)),
            (PluginKind::Agent, raw.agent.values().any(|agent| agent.plugin == name)),
            (PluginKind::Channel, raw.channel.values().any(|channel| channel.plugin == name)),
        ];
        let mut kinds = used.into_iter().filter(|(_, used)| *used).map(|(kind, _)| kind);
        let kind = kinds.next();
        if let (Some(first), Some(second)) = (kind, kinds.next()) {
            let words = |kind| match kind {
                PluginKind::Router => "a router",
                PluginKind::Agent => "an agent",
                PluginKind::Channel => "a channel",
            };
            let message = format!("the plugin `{name}` is used as {} and as {}", words(first), words(second));
            let note = Note::new(Code::PluginMisused, message, "a plugin is of one kind");
            self.fail_key(
                &["plugin", name],
                note.help("look at the tables that name it as `plugin` or `router`"),
            );
        }
        kind
    }

    fn source(&mut self, at: At<'_>, text: &str) -> Option<Source> {
        match text.strip_prefix("builtin:") {
            Some(name) => {
                let names: Vec<_> = chela_bundle::all().map(|found| found.name).collect();
                self.builtin(at, ("plugin", name), &names)?;
                Some(Source::Builtin(name.to_owned()))
            }
            None => self.folder(at, text).map(Source::Folder),
        }
    }

    pub(super) fn departments(&mut self, raw: &Raw, budget: &Budget) -> BTreeMap<DepartmentId, Department> {
        let each = |(name, department): (&String, &raw::Department)| {
            let id = self.name(&["department", name])?;
            if let Some(places) = &department.reachable_from {
                self.places(raw, &["department", name, "reachable_from"], places);
            }
            let concurrency = department.concurrency.map(size);
            let (description, weight) = (department.description.clone(), department.weight);
            let own: (At<'_>, _) = (&["department", name, "budget"], department.budget.as_deref());
            let budget = self.own_limits(raw, own, &budget.department);
            Some((id, Department { description, weight, concurrency, budget }))
        };
        raw.department.iter().filter_map(each).collect()
    }

    pub(super) fn agents(&mut self, raw: &Raw, budget: &Budget) -> BTreeMap<AgentId, Agent> {
        let each = |(name, agent): (&String, &raw::Agent)| {
            let id = self.name(&["agent", name]);
            let agent = self.agent(raw, budget, (name, agent));
            Some((id?, agent?))
        };
        raw.agent.iter().filter_map(each).collect()
    }

    fn agent(&mut self, raw: &Raw, budget: &Budget, (name, agent): (&str, &raw::Agent)) -> Option<Agent> {
        let plugin = self.reference(&["agent", name, "plugin"], "plugin", &agent.plugin, &raw.plugin);
        let department = self.department(&["agent", name, "department"], agent.department.as_deref(), raw);
        let persona = match agent.persona.strip_prefix("file:") {
            Some(path) => self.text_file(&["agent", name, "persona"], path).map(|(_, text)| text),
            None => Some(agent.persona.clone()),
        };
        let tier = self.tier(raw, name, agent);
        let mut tiers_allowed = self.tiers_allowed(raw, name, agent, tier.as_ref());
        let tier_policy = self.tier_policy(raw, name, (agent, tier.as_ref()));
        if let Some(TierPolicy::Calibrated { cheap, .. }) = &tier_policy {
            tiers_allowed.insert(cheap.clone());
        }
        let knowledge =
            agent.knowledge.as_deref().and_then(|path| self.folder(&["agent", name, "knowledge"], path));
        let reach = self.reach(raw, name, agent);
        let answer_within = self.answer_within(raw, name, (agent, tier.as_ref()));
        let own: (At<'_>, _) = (&["agent", name, "budget"], agent.budget.as_deref());
        let budget = self.own_limits(raw, own, &budget.agent);
        let config = self.free(&["agent", name, "config"], &agent.config);
        Some(Agent {
            plugin: plugin?,
            department,
            description: agent.description.clone(),
            persona: persona?,
            tier,
            tiers_allowed,
            tier_policy: tier_policy?,
            knowledge,
            reach,
            outsiders: agent.outsiders,
            confidential: agent.confidential,
            cache: self.level(name, agent),
            cache_ttl: agent.cache_ttl_s.map(seconds),
            rate_per_minute: agent.rate_per_minute,
            concurrency: size(agent.concurrency),
            budget,
            over_budget_to_human: agent.over_budget == raw::OverBudget::Human,
            answer_within,
            history: size(agent.history),
            config,
        })
    }

    /// What people were promised. Where it is not kept, a faster tier is asked: so there has to be one.
    fn answer_within(
        &mut self,
        raw: &Raw,
        name: &str,
        (agent, tier): (&raw::Agent, Option<&TierId>),
    ) -> Option<Duration> {
        let within = agent.answer_within_s?;
        let of_tier = tier.and_then(|tier| raw.tier.get(tier.as_str()));
        let has_cheaper = of_tier.is_none_or(|tier| tier.cheaper.is_some());
        if agent.tier_policy != raw::TierPolicy::Calibrated && !has_cheaper {
            let message =
                format!("the tier of the agent `{name}` has no `cheaper` one that could answer faster");
            let note = Note::new(Code::WrongValue, message, "nothing can be done to keep it");
            self.fail(
                &["agent", name, "answer_within_s"],
                note.help("name a faster tier as `cheaper` of its tier"),
            );
        }
        Some(seconds(within))
    }

    /// What may answer instead of a model. What is confidential is answered by nothing else.
    fn level(&mut self, name: &str, agent: &raw::Agent) -> CacheLevel {
        let written = agent.cache.map(CacheLevel::from);
        if !agent.confidential {
            return written.unwrap_or_default();
        }
        if let Some(level) = written.filter(|level| *level != CacheLevel::Off) {
            let message = format!("the agent `{name}` is confidential, and its answers would be kept");
            let label = format!("`{}` keeps what is confidential", level.as_str());
            let help = "leave `cache` out, or write `cache = \"off\"`; or `confidential = false`";
            self.fail(&["agent", name, "cache"], Note::new(Code::CacheConflict, message, label).help(help));
        }
        CacheLevel::Off
    }

    /// The tier that is written, or the only one there is.
    fn tier(&mut self, raw: &Raw, name: &str, agent: &raw::Agent) -> Option<TierId> {
        if let Some(tier) = &agent.tier {
            return self.reference(&["agent", name, "tier"], "tier", tier, &raw.tier);
        }
        let mut tiers = raw.tier.keys();
        if let (Some(only), None) = (tiers.next(), tiers.next()) {
            return TierId::new(only.as_str()).ok();
        }
        if raw.plugin.get(&agent.plugin).is_some_and(|plugin| plugin.grants.contains(&raw::Grant::Models)) {
            let message = format!("the agent `{name}` may ask models, but has no tier");
            let note = Note::new(Code::MissingKey, message, "`tier` is missing here");
            let help = suggest("", raw.tier.keys().map(String::as_str));
            self.fail_key(
                &["agent", name],
                note.help("add a table `[tier.NAME]` with a `chain`").maybe_help(help),
            );
        }
        None
    }

    fn tier_policy(
        &mut self,
        raw: &Raw,
        name: &str,
        (agent, tier): (&raw::Agent, Option<&TierId>),
    ) -> Option<TierPolicy> {
        match agent.tier_policy {
            raw::TierPolicy::Calibrated => self.calibrated(raw, name, (agent, tier)),
            policy => {
                let given =
                    [("cheap_tier", agent.cheap_tier.is_some()), ("tier_model", agent.tier_model.is_some())];
                for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                    let at: At<'_> = &["agent", name, key];
                    let message = format!("`{}` is read by no other policy than `calibrated`", dotted(at));
                    let note = Note::new(Code::WrongValue, message, "does not belong here");
                    self.fail_key(at, note.help("`tier_policy = \"calibrated\"`"));
                }
                let is_fixed = policy == raw::TierPolicy::Fixed;
                Some(if is_fixed { TierPolicy::Fixed } else { TierPolicy::Wish })
            }
        }
    }

    /// Two tiers, and what chooses between them.
    fn calibrated(
        &mut self,
        raw: &Raw,
        name: &str,
        (agent, tier): (&raw::Agent, Option<&TierId>),
    ) -> Option<TierPolicy> {
        let cheap = match &agent.cheap_tier {
            Some(cheap) => self.reference(&["agent", name, "cheap_tier"], "tier", cheap, &raw.tier),
            None => {
                self.missing(
                    &["agent", name],
                    "cheap_tier",
                    "the cheaper of the two tiers: `cheap_tier = \"fast\"`",
                );
                None
            }
        };
        if let (Some(cheap), Some(tier)) = (&cheap, tier)
            && cheap == tier
        {
            let note = Note::new(
                Code::WrongValue,
                format!("the agent `{name}` has `{tier}` for both tiers"),
                "the same",
            );
            self.fail(
                &["agent", name, "cheap_tier"],
                note.help("`tier` is the dearer, `cheap_tier` the cheaper one"),
            );
        }
        let Some(file) = &agent.tier_model else {
            let help = "`chela tier fit` makes one from labelled turns: `tier_model = \"tiers/NAME.toml\"`";
            self.missing(&["agent", name], "tier_model", help);
            return None;
        };
        let at: At<'_> = &["agent", name, "tier_model"];
        let (_, text) = self.text_file(at, file)?;
        match Scorer::parse(&text) {
            Ok(scorer) => Some(TierPolicy::Calibrated { cheap: cheap?, scorer: Arc::new(scorer) }),
            Err(error) => {
                let message = format!("`{}` is not used: {error}", dotted(at));
                let note = Note::new(Code::WrongValue, message, "no model of a tier");
                self.fail(at, note.help("`chela tier fit` makes one from labelled turns"));
                None
            }
        }
    }

    pub(super) fn department(&mut self, at: At<'_>, name: Option<&str>, raw: &Raw) -> Option<DepartmentId> {
        self.reference(at, "department", name?, &raw.department)
    }

    fn tiers_allowed(
        &mut self,
        raw: &Raw,
        name: &str,
        agent: &raw::Agent,
        own: Option<&TierId>,
    ) -> BTreeSet<TierId> {
        let mut allowed: BTreeSet<TierId> = own.cloned().into_iter().collect();
        for (index, tier) in agent.tiers_allowed.iter().enumerate() {
            let at = ["agent", name, "tiers_allowed", &index.to_string()];
            allowed.extend(self.reference::<TierId, _>(&at, "tier", tier, &raw.tier));
        }
        allowed
    }

    fn reach(&mut self, raw: &Raw, name: &str, agent: &raw::Agent) -> Reach {
        if let Some(places) = &agent.reachable_from {
            return Reach::Only(self.places(raw, &["agent", name, "reachable_from"], places));
        }
        let department = agent.department.as_deref().and_then(|d| Some((d, raw.department.get(d)?)));
        match department.and_then(|(name, d)| Some((name, d.reachable_from.as_ref()?))) {
            Some((department, places)) => {
                Reach::Only(self.places(raw, &["department", department, "reachable_from"], places))
            }
            None => Reach::Everywhere,
        }
    }

    fn places(&mut self, raw: &Raw, at: At<'_>, written: &[String]) -> BTreeSet<Place> {
        let mut places = BTreeSet::new();
        for (index, text) in written.iter().enumerate() {
            let index = index.to_string();
            let at = [at, &[index.as_str()]].concat();
            let (channel, place) = match text.split_once('/') {
                Some((channel, place)) => (channel, Some(place.to_owned())),
                None => (text.as_str(), None),
            };
            if place.as_deref() == Some("") {
                let message = format!("`{}` names no place after the `/`", dotted(&at));
                self.fail(
                    &at,
                    Note::new(Code::WrongValue, message, "no place").help("`CHANNEL` or `CHANNEL/PLACE`"),
                );
                continue;
            }
            let channel = self.reference(&at, "channel", channel, &raw.channel);
            places.extend(channel.map(|channel| Place { channel, place }));
        }
        places
    }

    pub(super) fn routing(&mut self, raw: &Raw) -> Routing {
        let routing = &raw.routing;
        let router = routing
            .router
            .as_deref()
            .and_then(|router| self.reference(&["routing", "router"], "plugin", router, &raw.plugin));
        let fallback = routing
            .fallback
            .as_deref()
            .and_then(|agent| self.reference(&["routing", "fallback"], "agent", agent, &raw.agent));
        Routing { router, fallback, sticky: routing.sticky, max_hand_overs: routing.max_hand_overs }
    }

    pub(super) fn channels(&mut self, raw: &Raw, budget: &Budget) -> BTreeMap<ChannelId, Channel> {
        let each = |(name, channel): (&String, &raw::Channel)| {
            let id = self.unreserved(&["channel", name]);
            let channel = self.channel(raw, budget, (name, channel));
            Some((id?, channel?))
        };
        raw.channel.iter().filter_map(each).collect()
    }

    fn channel(
        &mut self,
        raw: &Raw,
        budget: &Budget,
        (name, channel): (&str, &raw::Channel),
    ) -> Option<Channel> {
        let plugin = self.reference(&["channel", name, "plugin"], "plugin", &channel.plugin, &raw.plugin);
        let department =
            self.department(&["channel", name, "department"], channel.department.as_deref(), raw);
        let default_agent = self.default_agent(raw, name, channel);
        let secrets = self.secrets(("channel", name), &channel.secrets);
        let config = self.free(&["channel", name, "config"], &channel.config);
        let own: (At<'_>, _) = (&["channel", name, "budget"], channel.budget.as_deref());
        let budget = self.own_limits(raw, own, &budget.channel);
        Some(Channel {
            plugin: plugin?,
            department,
            default_agent: default_agent?,
            routed: channel.routed,
            delivery: match channel.delivery {
                raw::DeliveryPolicy::AtLeastOnce => DeliveryPolicy::AtLeastOnce,
                raw::DeliveryPolicy::AtMostOnce => DeliveryPolicy::AtMostOnce,
            },
            secrets,
            config,
            rate_per_minute: channel.rate_per_minute,
            budget,
            progress: channel.progress,
        })
    }

    /// The `secrets` of a table.
    fn secrets(
        &mut self,
        (kind, name): (&str, &str),
        written: &BTreeMap<String, String>,
    ) -> BTreeMap<String, SecretString> {
        let mut secrets = BTreeMap::new();
        for (key, text) in written {
            let secret = self.secret(&[kind, name, "secrets", key], text);
            secrets.extend(secret.map(|secret| (key.clone(), secret)));
        }
        secrets
    }

    fn default_agent(&mut self, raw: &Raw, name: &str, channel: &raw::Channel) -> Option<AgentId> {
        if let Some(agent) = &channel.default_agent {
            return self.reference(&["channel", name, "default_agent"], "agent", agent, &raw.agent);
        }
        if let Some(fallback) = &raw.routing.fallback {
            // An unknown fallback is reported once, where it is written.
            return raw.agent.contains_key(fallback).then(|| AgentId::new(fallback.clone()).ok())?;
        }
        let note = Note::new(
            Code::NoDefaultAgent,
            format!("nobody would answer messages of the channel `{name}`"),
            "has no default agent",
        );
        let agents = suggest("", raw.agent.keys().map(String::as_str)).unwrap_or_default();
        let help = format!("set `default_agent` here, or `fallback` in `[routing]`; {agents}");
        self.fail_key(&["channel", name], note.help(help));
        None
    }

    /// Who may be reached from where has to agree with who answers where.
    pub(super) fn reachability(&mut self, raw: &Raw, agents: &BTreeMap<AgentId, Agent>) {
        let mut defaults = BTreeSet::new();
        for (name, channel) in &raw.channel {
            let written = channel.default_agent.as_ref();
            let Some(default) = written.or(raw.routing.fallback.as_ref()) else { continue };
            defaults.insert(default.as_str());
            let (Ok(id), Ok(agent)) = (ChannelId::new(name.as_str()), AgentId::new(default.as_str())) else {
                continue;
            };
            if agents.get(&agent).is_some_and(|agent| !agent.reach.allows(&id, None)) {
                let note = Note::new(
                    Code::DefaultUnreachable,
                    format!(
                        "`{default}` answers the channel `{name}` by default, but may not be reached from all of it"
                    ),
                    "not reachable from here",
                );
                let help = format!(
                    "add `{name}` to `reachable_from` of `[agent.{default}]`, or choose another agent"
                );
                let at: At<'_> = match written {
                    Some(_) => &["channel", name, "default_agent"],
                    None => &["routing", "fallback"],
                };
                self.fail(at, note.help(help));
            }
        }
        if raw.channel.is_empty() {
            return;
        }
        for (id, agent) in agents {
            self.reached(id, agent, raw.routing.router.is_some() || defaults.contains(id.as_str()));
        }
    }

    fn reached(&mut self, id: &AgentId, agent: &Agent, chosen: bool) {
        let why = match &agent.reach {
            Reach::Only(places) if places.is_empty() => "`reachable_from` names no channel",
            _ if !chosen => "there is no router, and no channel names it as default",
            _ => return,
        };
        let note = Note::new(Code::AgentUnreachable, format!("nobody can reach the agent `{id}`"), why);
        let at = ["agent", id.as_str()];
        let span = self.document.key(&at);
        self.problems.warning(span, note);
    }
}

/// The manifest's name of a grant.
fn grant_name(grant: raw::Grant) -> &'static str {
    match grant {
        raw::Grant::Models => "models",
        raw::Grant::Knowledge => "knowledge",
        raw::Grant::Memory => "memory",
        raw::Grant::History => "history",
        raw::Grant::Tools => "tools",
        raw::Grant::Http => "http",
        raw::Grant::Blobs => "blobs",
    }
}
