//! Who may be reached from where. Decided on values that the host itself read from the verified request,
//! whatever a router or a channel component says.

use chela_types::{AgentId, ChannelId, Message};

use crate::config::{AgentConfig, Config};
use crate::error::Error;

/// The policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy<'a> {
    config: &'a Config,
}

impl<'a> Policy<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config }
    }

    /// Every agent that this message may reach, in the order of their names.
    pub(crate) fn candidates(&self, message: &Message) -> Vec<(&'a AgentId, &'a AgentConfig)> {
        self.config.agents.iter().filter(|(name, agent)| self.may_reach(message, (name, agent))).collect()
    }

    /// The agent that answers if no router says otherwise: the channel's default, else the fallback,
    /// each only if it may be reached.
    pub(crate) fn default_agent(&self, message: &Message) -> Result<&'a AgentId, Error> {
        let channel = self.channel(&message.channel)?;
        std::iter::once(&channel.default_agent)
            .chain(&self.config.routing.fallback)
            .find_map(|wanted| {
                let (name, agent) = self.config.agents.get_key_value(wanted)?;
                self.may_reach(message, (name, agent)).then_some(name)
            })
            .ok_or_else(|| Error::Unreachable(message.channel.clone()))
    }

    fn may_reach(&self, message: &Message, (name, agent): (&AgentId, &AgentConfig)) -> bool {
        let own = self.config.channels.get(&message.channel).filter(|channel| channel.operator);
        if let Some(own) = own {
            return own.reaches.as_ref().is_none_or(|reaches| reaches.contains(name));
        }
        from_here(agent, &message.channel, message.place.as_deref())
            && (agent.outsiders || !message.sender.outsider)
    }

    /// Whether somebody from outside the organisation gets an answer in a channel that everybody may write to.
    pub(crate) fn answers_strangers(&self, channel: &ChannelId) -> bool {
        let Ok(config) = self.channel(channel) else { return false };
        std::iter::once(&config.default_agent).chain(&self.config.routing.fallback).any(|name| {
            self.config
                .agents
                .get(name)
                .is_some_and(|agent| agent.outsiders && from_here(agent, channel, None))
        })
    }

    fn channel(&self, id: &ChannelId) -> Result<&'a crate::config::ChannelConfig, Error> {
        self.config.channels.get(id).ok_or_else(|| Error::UnknownChannel(id.to_string()))
    }
}

fn from_here(agent: &AgentConfig, channel: &ChannelId, place: Option<&str>) -> bool {
    agent.reachable_from.as_ref().is_none_or(|origins| {
        origins.iter().any(|origin| {
            origin.channel == *channel && origin.place.as_deref().is_none_or(|wanted| place == Some(wanted))
        })
    })
}
