//! What is deployed and loaded at one moment, and the house that is built of it.

use chela_egress::Leaks;
use chela_gateway::Gateway;
use chela_sandbox::Plugin;
use chela_store::Deployment;
use chela_types::{AgentId, ChannelId, Digest, PluginId};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::edition::Edition;
use super::fleet::Below;
use super::house::House;
use super::lineup::{Lineup, Post};
use super::release::Release;
use crate::agent::AgentStation;
use crate::channel::{Account, ChannelStation, Parts};
use crate::config::Config;
use crate::error::Error;
use crate::policy::Policy;

/// Versions that still run calls, as they are shown.
const DRAINING_MAX: usize = 32;

/// What is deployed and loaded.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) gateway: Gateway,
    pub(super) plugins: BTreeMap<PluginId, Plugged>,
    pub(super) accounts: BTreeMap<ChannelId, Arc<Account>>,
    pub(super) stations: BTreeMap<(ChannelId, Digest), Arc<ChannelStation>>,
}

/// One plugin.
#[derive(Debug, Clone)]
pub(super) struct Plugged {
    pub(super) deployment: Deployment,
    pub(super) active: Arc<Edition>,
    /// While the active one is watched: the proven one before it, which takes over.
    pub(super) standby: Option<Arc<Edition>>,
    pub(super) canary: Option<(Arc<Edition>, u8)>,
    pub(super) shadow: Option<Arc<Edition>>,
    pub(super) watch_until: Option<Instant>,
    /// Retired versions, as long as calls of them run.
    pub(super) draining: Vec<Weak<Release>>,
    /// The last thing in the folder that was refused.
    pub(super) refused: Option<String>,
    /// Why the active version begins no call any more, if it does not.
    pub(super) closed: Option<String>,
}

impl Plugged {
    pub(super) fn new(deployment: Deployment, active: Arc<Edition>) -> Self {
        Self {
            deployment,
            active,
            standby: None,
            canary: None,
            shadow: None,
            watch_until: None,
            draining: Vec::new(),
            refused: None,
            closed: None,
        }
    }

    /// Everything that is loaded.
    pub(super) fn editions(&self) -> impl Iterator<Item = &Arc<Edition>> {
        std::iter::once(&self.active)
            .chain(self.canary.as_ref().map(|(edition, _)| edition))
            .chain(&self.shadow)
            .chain(&self.standby)
    }

    /// Whether the active version has shown that it works.
    pub(super) fn is_proven(&self) -> bool {
        !self.active.release.is_withdrawn() && !self.active.release.is_on_trial()
    }

    pub(super) fn loaded(&self, digest: Digest) -> Option<&Arc<Edition>> {
        self.editions().find(|edition| edition.digest() == digest)
    }

    pub(super) fn drain(&mut self, edition: &Arc<Edition>) {
        self.draining.retain(|release| release.strong_count() > 0);
        if self.draining.len() < DRAINING_MAX {
            self.draining.push(Arc::downgrade(&edition.release));
        }
    }
}

impl State {
    /// Whose active versions have shown that they work: that changes without anybody changing what stands.
    pub(super) fn proven(&self) -> Vec<bool> {
        self.plugins.values().map(Plugged::is_proven).collect()
    }

    /// Plugins as they are written down.
    pub(super) fn stand(&mut self, plugged: Vec<Plugged>) {
        for plugged in plugged {
            // Zero is to be seen, too.
            let id = plugged.deployment.plugin.clone();
            metrics::counter!("swap_lost_total", "plugin" => id.to_string()).increment(0);
            self.plugins.insert(id, plugged);
        }
    }

    /// With another configuration and other plugins; accounts stay where they are the same.
    pub(super) fn new(
        config: Arc<Config>,
        gateway: Gateway,
        plugins: BTreeMap<PluginId, Plugged>,
        earlier: &Self,
    ) -> Self {
        // Stations are of a configuration: they are made anew.
        Self { config, gateway, plugins, accounts: earlier.accounts.clone(), stations: BTreeMap::new() }
    }

    /// What serves from now on.
    pub(super) fn house(&mut self, below: &Below, earlier: Option<&House>) -> Result<House, Error> {
        let config = Arc::clone(&self.config);
        self.accounts
            .retain(|name, account| config.channels.get(name).is_some_and(|channel| account.fits(channel)));
        for (name, channel) in &config.channels {
            self.accounts.entry(name.clone()).or_insert_with(|| Arc::new(Account::new(channel)));
        }
        let mut channels = BTreeMap::new();
        let mut stations = BTreeMap::new();
        for (name, channel) in &config.channels {
            let plugged = self.plugged(&channel.plugin)?;
            let lineup = plugged.lineup(|edition| {
                let station = self.station(below, name, edition)?;
                stations.insert((name.clone(), edition.digest()), Arc::clone(&station));
                Ok(Post { release: Arc::clone(&edition.release), plugin: station })
            })?;
            check_strangers(&config, name, &lineup.active.plugin)?;
            channels.insert(name.clone(), lineup);
        }
        self.stations = stations;
        let router = match &config.routing.router {
            Some(id) => Some((id.clone(), self.plugged(id)?.lineup(|it| place(it, it.router()))?)),
            None => None,
        };
        let mut lineups: BTreeMap<AgentId, Lineup<Plugin<crate::agent::Agent>>> = BTreeMap::new();
        for (name, agent) in &config.agents {
            let lineup = self.plugged(&agent.plugin)?.lineup(|it| place(it, it.agent(name)))?;
            lineups.insert(name.clone(), lineup);
        }
        let agents = AgentStation::new(lineups, &config, earlier.map(|house| &house.agents));
        let leaks = match earlier {
            Some(earlier) if Arc::ptr_eq(&earlier.config, &config) => Arc::clone(&earlier.leaks),
            _ => Arc::new(Leaks::of(config.all_secrets())),
        };
        Ok(House { config, gateway: self.gateway.clone(), channels, router, agents, leaks })
    }

    fn plugged(&self, id: &PluginId) -> Result<&Plugged, Error> {
        self.plugins.get(id).ok_or_else(|| Error::Configuration(format!("plugin `{id}` is not loaded")))
    }

    /// A channel's station under one version of its adapter.
    fn station(
        &self,
        below: &Below,
        name: &ChannelId,
        edition: &Edition,
    ) -> Result<Arc<ChannelStation>, Error> {
        if let Some(known) = self.stations.get(&(name.clone(), edition.digest())) {
            return Ok(Arc::clone(known));
        }
        station(below, &self.config, name, (edition, self.accounts.get(name)))
    }
}

fn place<T>(edition: &Edition, post: Option<Post<T>>) -> Result<Post<T>, Error> {
    post.ok_or_else(|| {
        let id = &edition.release.plugin;
        Error::Configuration(format!(
            "version {} of plugin `{id}` does not serve here",
            edition.digest().short()
        ))
    })
}

/// A channel's station under one version of its adapter; whatever is missing for it is said before it serves.
pub(super) fn station(
    below: &Below,
    config: &Config,
    name: &ChannelId,
    (edition, account): (&Edition, Option<&Arc<Account>>),
) -> Result<Arc<ChannelStation>, Error> {
    let channel = config.channels.get(name).ok_or_else(|| Error::UnknownChannel(name.to_string()))?;
    let adapter = edition.channel(name).ok_or_else(|| Error::UnknownChannel(name.to_string()))?;
    let (plugin, settings) = adapter.clone();
    let account = account.cloned().unwrap_or_else(|| Arc::new(Account::new(channel)));
    Ok(Arc::new(ChannelStation::new(Parts {
        name: name.clone(),
        config: channel.clone(),
        plugin,
        settings,
        egress: below.egress.clone(),
        clock: Arc::clone(&below.clock),
        sessions: Arc::clone(&below.sessions),
        waiting: below.waiting.clone(),
        account,
    })?))
}

/// A chat that anybody may write to needs an agent for everybody.
pub(crate) fn check_strangers(
    config: &Config,
    name: &ChannelId,
    station: &ChannelStation,
) -> Result<(), Error> {
    let is_open = station.is_web_chat() && !station.config.operator;
    if !is_open || Policy::new(config).answers_strangers(name) {
        return Ok(());
    }
    let agent = &station.config.default_agent;
    Err(Error::Configuration(format!(
        "chela.toml: [channel.{name}] is a web chat, which anybody may write to, and its default agent `{agent}` \
         is for the organisation alone: set [agent.{agent}] outsiders = true, or choose another"
    )))
}

impl Plugged {
    /// The versions that serve a place.
    fn lineup<T: Clone>(
        &self,
        mut post: impl FnMut(&Edition) -> Result<Post<T>, Error>,
    ) -> Result<Lineup<T>, Error> {
        Ok(Lineup {
            active: post(&self.active)?,
            // Of those beside it, one that knows a place not is not there.
            before: self.standby.as_deref().and_then(|edition| post(edition).ok()),
            canary: self.canary.as_ref().and_then(|(edition, share)| Some((post(edition).ok()?, *share))),
            shadow: self.shadow.as_deref().and_then(|edition| post(edition).ok()),
        })
    }
}
