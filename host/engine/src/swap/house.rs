//! What serves at one moment: the configuration, and for each place the versions that a call may go to.

use arc_swap::ArcSwap;
use chela_egress::Leaks;
use chela_gateway::Gateway;
use chela_sandbox::Plugin;
use chela_types::{ChannelId, Digest, PluginId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

use super::lineup::Lineup;
use crate::agent::AgentStation;
use crate::channel::ChannelStation;
use crate::config::Config;
use crate::error::Error;
use crate::router::Router;

/// What serves at one moment.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) config: Arc<Config>,
    pub(crate) gateway: Gateway,
    pub(crate) channels: BTreeMap<ChannelId, Lineup<Arc<ChannelStation>>>,
    pub(crate) router: Option<(PluginId, Lineup<Plugin<Router>>)>,
    pub(crate) agents: AgentStation,
    /// What no plugin's request may hold, nor its answer.
    pub(crate) leaks: Arc<Leaks>,
}

impl House {
    /// The versions of a channel's adapter.
    pub(crate) fn channel(&self, name: &str) -> Result<&Lineup<Arc<ChannelStation>>, Error> {
        self.channels
            .iter()
            .find_map(|(id, lineup)| (id.as_str() == name).then_some(lineup))
            .ok_or_else(|| Error::UnknownChannel(name.to_owned()))
    }

    /// The adapter that serves a channel.
    pub(crate) fn station(&self, name: &str) -> Result<&Arc<ChannelStation>, Error> {
        Ok(&self.channel(name)?.active.plugin)
    }

    /// The version of a plugin that is active.
    pub(crate) fn serving(&self, plugin: &PluginId) -> Option<Digest> {
        if let Some((_, lineup)) = self.router.as_ref().filter(|(id, _)| id == plugin) {
            return Some(lineup.active.release.digest);
        }
        let channel = self.config.channels.iter().find(|(_, channel)| channel.plugin == *plugin);
        let agent = self.config.agents.iter().find(|(_, agent)| agent.plugin == *plugin);
        let of_channel = channel.and_then(|(name, _)| Some(self.channels.get(name)?.active.release.digest));
        of_channel.or_else(|| Some(self.agents.lineup(agent?.0).ok()?.active.release.digest))
    }

    /// The router, where a channel's messages are routed.
    pub(crate) fn router_of(&self, channel: &ChannelId) -> Option<&(PluginId, Lineup<Plugin<Router>>)> {
        let is_routed = self.config.channels.get(channel).is_some_and(|channel| channel.routed);
        self.router.as_ref().filter(|_| is_routed)
    }
}

/// The house that serves now. Whoever begins something takes it, and keeps it to the end of what he does.
#[derive(Debug)]
pub(crate) struct Houses {
    now: ArcSwap<House>,
    swaps: watch::Sender<()>,
}

impl Houses {
    pub(crate) fn new(first: House) -> Self {
        Self { now: ArcSwap::from_pointee(first), swaps: watch::Sender::new(()) }
    }

    pub(crate) fn now(&self) -> Arc<House> {
        self.now.load_full()
    }

    /// From now on, this one.
    pub(crate) fn swap(&self, next: House) {
        self.now.store(Arc::new(next));
        self.swaps.send_replace(());
    }

    /// Tells of each swap after what was seen of it last; whoever has marked it as seen and then takes the house misses
    /// none.
    pub(crate) fn swaps(&self) -> watch::Receiver<()> {
        self.swaps.subscribe()
    }
}
