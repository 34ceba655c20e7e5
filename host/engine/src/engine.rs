//! The engine as the doors see it: load everything, take requests, run turns, answer questions.

use chela_egress::Egress;
use chela_gateway::Gateway;
use chela_sandbox::{Grants, Plugin, PluginKind, Progress, Sandbox, Settings};
use chela_store::Store;
use chela_types::{AgentId, ChannelId, Clock, Fault, PluginId};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentStation};
use crate::channel::{
    Acknowledgement, Channel, ChannelStation, Parts, Sessions, Waiting, Webhook, session_key,
};
use crate::config::{Config, PluginConfig};
use crate::dispatcher::Dispatcher;
use crate::drafts::{Draft, Drafts};
use crate::error::Error;
use crate::journey::Journey;
use crate::policy::Policy;
use crate::router::{Router, RouterStation};

/// Pauses between attempts to learn a channel's own ids: first and longest.
const OWN_IDS_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The rooms below.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// What is kept.
    pub store: Store,
    /// Models.
    pub gateway: Gateway,
    /// Plugins.
    pub sandbox: Sandbox,
    /// The way out.
    pub egress: Egress,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// One loaded plugin, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Loaded {
    /// Agent, channel or router that it serves, as `agent hr`.
    pub serves: String,
    /// Name in the configuration.
    pub plugin: String,
    /// `router`, `agent` or `channel`.
    pub kind: &'static str,
    /// Version of the manifest.
    pub version: String,
    /// Digest over component, manifest and configuration.
    pub digest: String,
    /// What it may use.
    pub grants: Vec<&'static str>,
    /// What its component imports.
    pub imports: Vec<String>,
    /// Bytes of the component.
    pub component_bytes: u64,
    /// Whether the compiled file was there already.
    pub from_cache: bool,
}

/// Whether a channel knows under which ids its own account posts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChannelHealth {
    /// The channel.
    pub channel: String,
    /// The adapter.
    pub plugin: String,
    /// Ids that the platform told.
    pub own_ids: Vec<String>,
}

/// The engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    journey: Arc<Journey>,
    sessions: Arc<Sessions>,
    loaded: Arc<Vec<Loaded>>,
}

impl Engine {
    /// Loads every plugin that the configuration names; nothing runs yet.
    ///
    /// # Errors
    /// The first plugin that is refused, or a configuration that cannot run.
    pub async fn start(
        config: Config,
        rooms: Rooms,
        progress: &(dyn Fn(&str, Progress) + Send + Sync),
    ) -> Result<Self, Error> {
        let sessions = Arc::new(Sessions::new(config.session_key));
        let (egress, clock) = (rooms.egress.clone(), Arc::clone(&rooms.clock));
        let waiting = Waiting::new(config.waiting_max);
        let loader = Loader {
            config: &config,
            sandbox: &rooms.sandbox,
            egress,
            clock,
            sessions: &sessions,
            waiting: &waiting,
            progress,
        };
        let mut loaded = Vec::new();
        let router = match &config.routing.router {
            Some(name) => {
                let (plugin, description) = loader.router(name).await?;
                loaded.push(description);
                Some((name.clone(), plugin))
            }
            None => None,
        };
        let mut agents = BTreeMap::new();
        for name in config.agents.keys() {
            let (plugin, description) = loader.agent(name).await?;
            loaded.push(description);
            agents.insert(name.clone(), plugin);
        }
        let mut channels = BTreeMap::new();
        for (name, channel) in &config.channels {
            let (station, description) = loader.channel(name).await?;
            if !channel.operator {
                loaded.push(description);
            }
            channels.insert(name.clone(), Arc::new(station));
        }
        let agents = AgentStation::new(agents, &config);
        let journey = Journey {
            config,
            clock: rooms.clock,
            store: rooms.store,
            gateway: rooms.gateway,
            channels,
            waiting,
            router: RouterStation::new(router),
            agents,
            drafts: Drafts::default(),
            suspects: Semaphore::new(1),
        };
        Ok(Self { journey: Arc::new(journey), sessions, loaded: Arc::new(loaded) })
    }

    /// Takes a request of a platform; when it returns `Ok`, everything in it is kept.
    ///
    /// # Errors
    /// Refusals (the sender's fault: nothing was run), the adapter's fault, or the store's.
    pub async fn receive(&self, channel: &str, webhook: Webhook) -> Result<Acknowledgement, Error> {
        let outcome = self.journey.accept(channel, webhook).await;
        let result = match &outcome {
            Ok(_) => "accepted".to_owned(),
            Err(Error::Refused { kind, .. }) => kind.word().to_owned(),
            Err(error) => format!("{}_fault", error.blame()),
        };
        let known =
            self.journey.channel(channel).map_or("unknown", |channel| channel.name.as_str()).to_owned();
        metrics::counter!("webhooks_total", "channel" => known, "result" => result).increment(1);
        outcome
    }

    /// Runs turns until `stop`; then drains, at most `drain` long.
    pub async fn run(&self, stop: CancellationToken, drain: Duration) {
        let learning = tokio::spawn(learn_own_ids(Arc::clone(&self.journey)));
        Dispatcher::new(Arc::clone(&self.journey)).run(stop, drain).await;
        learning.abort();
    }

    /// Whether a channel is reached through the public listener.
    pub fn is_public(&self, channel: &str) -> bool {
        self.journey.channel(channel).is_ok_and(|channel| !channel.config.operator)
    }

    /// Largest body that a channel takes, in bytes.
    pub fn body_bytes_max(&self, channel: &str) -> Option<usize> {
        self.journey.channel(channel).ok().map(|channel| channel.tables.accept.body_bytes_max)
    }

    /// Whether a channel is a web chat of this host.
    pub fn is_web_chat(&self, channel: &str) -> bool {
        self.journey.channel(channel).is_ok_and(|channel| channel.is_web_chat())
    }

    /// A new web session of a channel: id and token.
    pub fn new_session(&self, channel: &ChannelId) -> (String, String) {
        self.sessions.issue(channel)
    }

    /// The token of a named session, for the operator's own terminal.
    pub fn session_token(&self, channel: &ChannelId, id: &str) -> String {
        self.sessions.token(channel, id)
    }

    /// The session's id, if the token is of this host and channel.
    pub fn session(&self, channel: &ChannelId, token: &str) -> Option<String> {
        self.sessions.read(channel, token)
    }

    /// Listens to drafts and news of a session.
    pub fn listen(&self, channel: &ChannelId, session: &str) -> broadcast::Receiver<Draft> {
        self.journey.drafts.listen(channel, session)
    }

    /// What is loaded.
    pub fn loaded(&self) -> &[Loaded] {
        &self.loaded
    }

    /// How the channels are.
    pub fn channel_health(&self) -> Vec<ChannelHealth> {
        let health = |channel: &Arc<ChannelStation>| ChannelHealth {
            channel: channel.name.to_string(),
            plugin: channel.config.plugin.to_string(),
            own_ids: channel.own_ids().to_vec(),
        };
        self.journey.channels.values().filter(|channel| !channel.config.operator).map(health).collect()
    }

    /// The configured agents with their descriptions.
    pub fn agents(&self) -> Vec<(AgentId, String)> {
        let agents = &self.journey.config.agents;
        agents.iter().map(|(name, agent)| (name.clone(), agent.description.clone())).collect()
    }
}

/// Under which name the store keeps the events of a web session.
pub fn session_events_key(channel: &ChannelId, session: &str) -> String {
    session_key(channel, session)
}

/// Loads every plugin as [`Engine::start`] does, but goes on after one that is refused; keeps and opens nothing.
/// Returns what each serves, and what was loaded or why it was not.
pub async fn check(
    config: &Config,
    sandbox: &Sandbox,
    egress: &Egress,
    clock: Arc<dyn Clock>,
    progress: &(dyn Fn(&str, Progress) + Send + Sync),
) -> Vec<(String, Result<Loaded, Error>)> {
    let sessions = Arc::new(Sessions::new(config.session_key));
    let (egress, waiting) = (egress.clone(), Waiting::new(config.waiting_max));
    let loader = Loader { config, sandbox, egress, clock, sessions: &sessions, waiting: &waiting, progress };
    let mut checked = Vec::new();
    if let Some(name) = &config.routing.router {
        checked.push((ROUTING.to_owned(), loader.router(name).await.map(|(_, loaded)| loaded)));
    }
    for name in config.agents.keys() {
        checked.push((serves_agent(name), loader.agent(name).await.map(|(_, loaded)| loaded)));
    }
    for (name, channel) in &config.channels {
        let outcome = loader.channel(name).await.map(|(_, loaded)| loaded);
        // The operator's own terminals are the host's, and no news unless they fail.
        if !channel.operator || outcome.is_err() {
            checked.push((serves_channel(name), outcome));
        }
    }
    checked
}

/// What a router serves.
const ROUTING: &str = "routing";

fn serves_agent(name: &AgentId) -> String {
    format!("agent {name}")
}

fn serves_channel(name: &ChannelId) -> String {
    format!("channel {name}")
}

/// Loads plugins with what the configuration says of them.
struct Loader<'a> {
    config: &'a Config,
    sandbox: &'a Sandbox,
    egress: Egress,
    clock: Arc<dyn Clock>,
    sessions: &'a Arc<Sessions>,
    waiting: &'a Waiting,
    progress: &'a (dyn Fn(&str, Progress) + Send + Sync),
}

impl Loader<'_> {
    async fn router(&self, name: &PluginId) -> Result<(Plugin<Router>, Loaded), Error> {
        let (plugin, _) = self.load::<Router>(name, &Map::new(), ROUTING).await?;
        let loaded = describe(ROUTING.to_owned(), &plugin, PluginKind::Router);
        Ok((plugin, loaded))
    }

    async fn agent(&self, name: &AgentId) -> Result<(Plugin<Agent>, Loaded), Error> {
        let agent = self.config.agents.get(name).ok_or_else(|| Error::UnknownAgent(name.to_string()))?;
        let serves = serves_agent(name);
        let (plugin, _) = self.load::<Agent>(&agent.plugin, &agent.config, &serves).await?;
        let loaded = describe(serves, &plugin, PluginKind::Agent);
        Ok((plugin, loaded))
    }

    async fn channel(&self, name: &ChannelId) -> Result<(ChannelStation, Loaded), Error> {
        let channel =
            self.config.channels.get(name).ok_or_else(|| Error::UnknownChannel(name.to_string()))?;
        let serves = serves_channel(name);
        let (plugin, settings) = self.load::<Channel>(&channel.plugin, &channel.config, &serves).await?;
        let loaded = describe(serves, &plugin, PluginKind::Channel);
        let parts = Parts {
            name: name.clone(),
            config: channel.clone(),
            plugin,
            settings,
            egress: self.egress.clone(),
            clock: Arc::clone(&self.clock),
            sessions: Arc::clone(self.sessions),
            waiting: self.waiting.clone(),
        };
        let station = ChannelStation::new(parts)?;
        let is_open = station.is_web_chat() && !channel.operator;
        if is_open && !Policy::new(self.config).answers_strangers(name) {
            let agent = &channel.default_agent;
            return Err(Error::Configuration(format!(
                "chela.toml: [channel.{name}] is a web chat, which anybody may write to, and its default agent `{agent}` \
                 is for the organisation alone: set [agent.{agent}] outsiders = true, or choose another"
            )));
        }
        Ok((station, loaded))
    }

    /// Loads a plugin; returns it with the configuration it got.
    async fn load<K: chela_sandbox::Kind>(
        &self,
        name: &PluginId,
        over: &Map<String, Value>,
        serves: &str,
    ) -> Result<(Plugin<K>, Map<String, Value>), Error> {
        let plugin = self.config.plugins.get(name).ok_or_else(|| {
            Error::Configuration(format!(
                "chela.toml: {serves} names plugin `{name}`, and there is no [plugin.{name}]"
            ))
        })?;
        let PluginConfig { source, grants, limits, config } = plugin;
        let mut settings = config.clone();
        settings.extend(over.clone());
        let settings = Settings {
            id: name.clone(),
            config: Value::Object(settings),
            grants: *grants,
            limits: limits.clone(),
        };
        let loaded = self
            .sandbox
            .load::<K>(source.clone(), settings, |progress| (self.progress)(serves, progress))
            .await?;
        let merged = serde_json::from_str(loaded.config()).unwrap_or_default();
        Ok((loaded, merged))
    }
}

fn describe<K: chela_sandbox::Kind>(serves: String, plugin: &Plugin<K>, kind: PluginKind) -> Loaded {
    let grants: Grants = plugin.grants();
    Loaded {
        serves,
        plugin: plugin.id().to_string(),
        kind: kind.as_str(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_string(),
        grants: grants.iter().map(chela_sandbox::Grant::as_str).collect(),
        imports: plugin.imports().to_vec(),
        component_bytes: plugin.component_bytes() as u64,
        from_cache: plugin.from_cache(),
    }
}

/// Asks each platform for the account's own ids until it has told them.
async fn learn_own_ids(journey: Arc<Journey>) {
    let (mut pause, longest) = OWN_IDS_PAUSE;
    loop {
        let mut missing = 0;
        for channel in journey.channels.values().filter(|channel| channel.own_ids().is_empty()) {
            match channel.ask_own_ids().await {
                Ok(_) => {}
                Err(error) => {
                    missing += 1;
                    tracing::warn!(channel = %channel.name, %error, "own ids are not known yet");
                }
            }
        }
        if missing == 0 {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
