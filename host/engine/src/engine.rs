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
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentStation};
use crate::channel::{Acknowledgement, Channel, ChannelStation, Parts, Sessions, Webhook, session_key};
use crate::config::{Config, PluginConfig};
use crate::dispatcher::Dispatcher;
use crate::drafts::{Draft, Drafts};
use crate::error::Error;
use crate::journey::Journey;
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
        let loader = Loader { config: &config, sandbox: &rooms.sandbox, progress };
        let mut loaded = Vec::new();
        let router = match &config.routing.router {
            Some(name) => {
                let plugin = loader.load::<Router>(name, &Map::new(), "routing").await?.0;
                loaded.push(describe("routing".to_owned(), &plugin, PluginKind::Router));
                Some((name.clone(), plugin))
            }
            None => None,
        };
        let mut agents = BTreeMap::new();
        for (name, agent) in &config.agents {
            let serves = format!("agent {name}");
            let plugin = loader.load::<Agent>(&agent.plugin, &agent.config, &serves).await?.0;
            loaded.push(describe(serves, &plugin, PluginKind::Agent));
            agents.insert(name.clone(), plugin);
        }
        let sessions = Arc::new(Sessions::new(config.session_key));
        let mut channels = BTreeMap::new();
        for (name, channel) in &config.channels {
            let serves = format!("channel {name}");
            let (plugin, settings) =
                loader.load::<Channel>(&channel.plugin, &channel.config, &serves).await?;
            if !channel.operator {
                loaded.push(describe(serves, &plugin, PluginKind::Channel));
            }
            let parts = Parts {
                name: name.clone(),
                config: channel.clone(),
                plugin,
                settings,
                egress: rooms.egress.clone(),
                clock: Arc::clone(&rooms.clock),
                sessions: Arc::clone(&sessions),
            };
            channels.insert(name.clone(), ChannelStation::new(parts)?);
        }
        let agents = AgentStation::new(agents, &config);
        let journey = Journey {
            config,
            clock: rooms.clock,
            store: rooms.store,
            gateway: rooms.gateway,
            channels,
            router: RouterStation::new(router),
            agents,
            drafts: Drafts::default(),
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
        self.journey.channel(channel).is_ok_and(ChannelStation::is_web_chat)
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
        let health = |channel: &ChannelStation| ChannelHealth {
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

/// Loads plugins with what the configuration says of them.
struct Loader<'a> {
    config: &'a Config,
    sandbox: &'a Sandbox,
    progress: &'a (dyn Fn(&str, Progress) + Send + Sync),
}

impl Loader<'_> {
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
