//! One call of a plugin as its author wants to see it: a message, a turn, a request or an answer, through the station
//! that production has for it, with a store of its own and under the limits that it is given. What comes of it is told
//! as JSON, so that a case can say as much of it as it wants.

mod turn;

pub(crate) use turn::{failed, without_nulls};

use std::collections::BTreeMap;
use std::sync::Arc;

use chela_sandbox::{Kind, Plugin, Progress};
use chela_types::{AgentId, ChannelId, PluginId, Utterance};
use serde_json::{Map, Value};

use crate::channel::{Account, Channel, ChannelStation, Parts, Sessions, Waiting};
use crate::config::Config;
use crate::engine::Rooms;
use crate::error::Error;
use crate::swap::Settled;

/// Where a case is played: rooms of its own, and what the operator says of the plugin.
pub struct Stage<'a> {
    /// The rooms; a store in which nothing is kept yet.
    pub rooms: &'a Rooms,
    /// Who is there, and who uses the plugin.
    pub config: &'a Config,
    /// Told while the plugin loads.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("rooms", self.rooms).finish_non_exhaustive()
    }
}

/// Something that a person says.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// Through this channel account.
    pub channel: ChannelId,
    /// In this room of it.
    pub place: Option<String>,
    /// The platform's id of who speaks.
    pub sender: String,
    /// A display name.
    pub name: Option<String>,
    /// From outside the organisation.
    pub outsider: bool,
    /// What.
    pub text: String,
    /// What was said before, the oldest first.
    pub past: Vec<Utterance>,
}

/// Whose a value of the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryOf {
    /// Of the conversation.
    Conversation,
    /// Of the person.
    User,
    /// Of the agent.
    Agent,
}

/// What an agent remembers: values by whose they are and by their keys.
pub type Remembered = BTreeMap<MemoryOf, BTreeMap<String, String>>;

/// A request of a platform.
#[derive(Debug, Clone)]
pub struct Requested {
    /// Upper case.
    pub method: String,
    /// What follows the channel's address.
    pub path: String,
    /// Without the `?`.
    pub query: String,
    /// Beside those that say who signed it.
    pub headers: Vec<(String, String)>,
    /// The raw bytes.
    pub body: Vec<u8>,
    /// Whether it is signed as the manifest declares, with the secrets that the configuration has.
    pub signed: bool,
}

/// An answer on its way out.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Who speaks.
    pub agent: AgentId,
    /// What.
    pub reply: chela_types::Reply,
    /// To whom: names and values of the manifest's bindings.
    pub target: BTreeMap<String, String>,
    /// What the adapter noted when the message came.
    pub notes: Option<String>,
    /// Whether the platform's own request still waits.
    pub waits: bool,
    /// What the platform responds to each request, in order; 200 after the last.
    pub responses: Vec<Responded>,
}

/// What a platform responds.
#[derive(Debug, Clone)]
pub struct Responded {
    /// Its status.
    pub status: u16,
    /// Its headers, lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Stage<'_> {
    /// Lets the router choose.
    ///
    /// # Errors
    /// The plugin is refused, or the host fails; what the plugin does wrong is told.
    pub async fn route(&self, spoken: &Spoken, sticky: Option<AgentId>) -> Result<Value, Error> {
        turn::route(self, spoken, sticky).await
    }

    /// Lets an agent answer, with what it remembers. Of the memory, `watched` is told as it is then.
    ///
    /// # Errors
    /// As [`Stage::route`].
    pub async fn answer(
        &self,
        agent: &AgentId,
        spoken: &Spoken,
        (memory, watched): (&Remembered, &Remembered),
    ) -> Result<Value, Error> {
        turn::answer(self, agent, spoken, (memory, watched)).await
    }

    /// Lets an adapter read a request.
    ///
    /// # Errors
    /// As [`Stage::route`].
    pub async fn receive(&self, channel: &ChannelId, requested: &Requested) -> Result<Value, Error> {
        self.station(channel).await?.read(requested, &self.config.tenant).await
    }

    /// Lets an adapter say an answer. Nothing is sent.
    ///
    /// # Errors
    /// As [`Stage::route`].
    pub async fn deliver(&self, channel: &ChannelId, answered: &Answered) -> Result<Value, Error> {
        self.station(channel).await?.say(answered, self.config.delivery.steps_max).await
    }

    async fn station(&self, name: &ChannelId) -> Result<ChannelStation, Error> {
        let channel =
            self.config.channels.get(name).ok_or_else(|| Error::UnknownChannel(name.to_string()))?;
        let (plugin, settings) = self.load::<Channel>(&channel.plugin, &channel.config).await?;
        ChannelStation::new(Parts {
            name: name.clone(),
            config: channel.clone(),
            plugin,
            settings,
            egress: self.rooms.egress.clone(),
            clock: Arc::clone(&self.rooms.clock),
            sessions: Arc::new(Sessions::new(self.config.session_key)),
            waiting: Waiting::new(self.config.waiting_max),
            account: Arc::new(Account::new(channel)),
        })
    }

    async fn load<K: Kind>(
        &self,
        name: &PluginId,
        over: &Map<String, Value>,
    ) -> Result<(Plugin<K>, Map<String, Value>), Error> {
        let unused = || Error::Configuration(format!("chela.toml: nothing uses [plugin.{name}]"));
        let plugin = self.config.plugins.get(name).ok_or_else(unused)?;
        let build = self.rooms.sandbox.read(name, plugin.source.clone()).await?;
        let settled = Settled::of(self.config, name, (&build.provenance, build.component_digest))?;
        let settings = settled.ok_or_else(unused)?.settings(name, over);
        let loaded = self.rooms.sandbox.load::<K>(build.source(), settings, self.progress).await?;
        let told = serde_json::from_str(loaded.config()).unwrap_or_default();
        Ok((loaded, told))
    }
}
