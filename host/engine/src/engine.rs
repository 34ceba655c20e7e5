//! The engine as the doors see it: load everything, take requests, run turns, answer questions.
//!
//! Its futures are boxed: one that is not is compiled anew, with all that it awaits, in every program that awaits it.

use chela_egress::Egress;
use chela_gateway::{CacheLevel, Gateway};
use chela_sandbox::{Grants, Plugin, PluginKind, Progress, Sandbox};
use chela_store::Store;
use chela_types::{AgentId, ChannelId, Clock, Digest, Fault, PluginId, Price};
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::attempt::Frames;
use crate::capability::check_requests;
use crate::channel::{
    Account, Acknowledgement, Channel, ChannelStation, Parts, Sessions, Waiting, Webhook, session_key,
};
use crate::config::Config;
use crate::dispatcher::Dispatcher;
use crate::drafts::{Draft, Drafts};
use crate::error::Error;
use crate::journey::Journey;
use crate::promptness::Promptness;
use crate::retention;
use crate::router::Router;
use crate::swap::{
    Below, Fleet, Order, PluginStatus, ROUTING, Reloaded, ReplayProgress, ReplayReport, ReplayRequest,
    Settled, Update, Who, check_strangers, replay, serves_agent, serves_channel,
};

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
}

impl Engine {
    /// Loads the deployed version of every plugin that the configuration names; nothing runs yet.
    ///
    /// # Errors
    /// The first plugin of which no version can serve, or a configuration that cannot run.
    pub fn start<'a>(
        config: Config,
        rooms: Rooms,
        progress: &'a (dyn Fn(&str, Progress) + Send + Sync),
    ) -> BoxFuture<'a, Result<Self, Error>> {
        Box::pin(async move {
            let sessions = Arc::new(Sessions::new(config.session_key));
            let waiting = Waiting::new(config.waiting_max);
            let Rooms { store, gateway, sandbox, egress, clock } = rooms;
            let below = Below {
                store: store.clone(),
                sandbox,
                egress,
                clock: Arc::clone(&clock),
                sessions: Arc::clone(&sessions),
                waiting: waiting.clone(),
                node: NODE.to_owned(),
            };
            let fleet = Fleet::start((config, gateway), below, progress).await?;
            let journey = Journey {
                clock,
                store,
                fleet,
                waiting,
                drafts: Drafts::default(),
                frames: Frames::default(),
                promptness: Promptness::default(),
                suspects: Semaphore::new(1),
            };
            Ok(Self { journey: Arc::new(journey), sessions })
        })
    }

    /// Looks at everything that a configuration names, and lets serve what may: configuration, plugins, models. What
    /// runs ends as it began.
    ///
    /// # Errors
    /// A configuration that cannot run, or that a plugin refuses; nothing has changed then. A plugin whose new version
    /// is refused is no error: the old one serves, and the report says so.
    pub fn reload<'a>(&'a self, update: Update, who: &'a Who) -> BoxFuture<'a, Result<Reloaded, Error>> {
        Box::pin(async move { self.journey.fleet.reload(update, who).await })
    }

    /// Carries out an operator's order about a plugin's versions.
    ///
    /// # Errors
    /// [`Error::Swap`], a version that is refused, or the store; nothing has changed then.
    pub fn order<'a>(
        &'a self,
        plugin: &'a PluginId,
        order: Order,
        who: &'a Who,
    ) -> BoxFuture<'a, Result<PluginStatus, Error>> {
        Box::pin(async move {
            self.journey.fleet.order(plugin, order, who).await?;
            self.journey.fleet.plugin(plugin, false).await
        })
    }

    /// All plugins with their versions; words of conversations, in examples, only `with_words`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn plugins(&self, with_words: bool) -> BoxFuture<'_, Result<Vec<PluginStatus>, Error>> {
        Box::pin(async move { self.journey.fleet.plugins(with_words).await })
    }

    /// Runs recorded turns again, and tells how far it is.
    ///
    /// # Errors
    /// As [`crate::replay`].
    pub async fn replay(
        &self,
        request: &ReplayRequest,
        tell: impl FnMut(ReplayProgress),
    ) -> Result<ReplayReport, Error> {
        let house = self.journey.fleet.house();
        let rooms = self.journey.fleet.replay_rooms(&house);
        replay(&house.config, &rooms, request, tell).await
    }

    /// The gateway that serves at this moment.
    pub fn gateway(&self) -> Gateway {
        self.journey.fleet.house().gateway.clone()
    }

    /// What may answer an agent's calls instead of a model; absent if there is no such agent.
    pub fn cache_level(&self, agent: &AgentId) -> Option<CacheLevel> {
        let house = self.journey.fleet.house();
        let own = house.config.agents.get(agent)?;
        Some(if own.confidential { CacheLevel::Off } else { own.cache })
    }

    /// What a model costs now, by its name as `provider/model`.
    pub fn price(&self, model: &str) -> Option<Price> {
        self.journey.fleet.house().gateway.price(model)
    }

    /// What this kernel lacks to shut workers of plugins in; absent: nothing, as far as one was started.
    pub fn workers_lack(&self) -> Option<&'static str> {
        self.journey.fleet.jailed()?.lacks()
    }

    /// The version of a plugin that serves those whom no canary gets.
    pub fn serving(&self, plugin: &PluginId) -> Option<Digest> {
        self.journey.fleet.house().serving(plugin)
    }

    /// Takes a request of a platform; when it returns `Ok`, everything in it is kept.
    ///
    /// # Errors
    /// Refusals (the sender's fault: nothing was run), the adapter's fault, or the store's.
    pub fn receive<'a>(
        &'a self,
        channel: &'a str,
        webhook: Webhook,
    ) -> BoxFuture<'a, Result<Acknowledgement, Error>> {
        Box::pin(async move {
            let outcome = self.journey.accept(channel, webhook).await;
            let result = match &outcome {
                Ok(_) => "accepted".to_owned(),
                Err(Error::Refused { kind, .. }) => kind.word().to_owned(),
                Err(error) => format!("{}_fault", error.blame()),
            };
            let known = self
                .station(channel)
                .map_or_else(|| "unknown".to_owned(), |channel| channel.name.to_string());
            metrics::counter!("webhooks_total", "channel" => known, "result" => result).increment(1);
            outcome
        })
    }

    /// Runs turns until `stop`; then drains, at most `drain` long.
    pub fn run(&self, stop: CancellationToken, drain: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let learning = tokio::spawn(learn_own_ids(Arc::clone(&self.journey)));
            let fleet = Arc::clone(&self.journey.fleet);
            let watching = tokio::spawn({
                let stop = stop.clone();
                async move { fleet.run(stop).await }
            });
            let purging = tokio::spawn(retention::run(Arc::clone(&self.journey)));
            Dispatcher::new(Arc::clone(&self.journey)).run(stop, drain).await;
            for beside in [learning, watching, purging] {
                beside.abort();
            }
        })
    }

    fn station(&self, channel: &str) -> Option<Arc<ChannelStation>> {
        self.journey.fleet.house().station(channel).ok().cloned()
    }

    /// Whether a channel is reached through the public listener.
    pub fn is_public(&self, channel: &str) -> bool {
        self.station(channel).is_some_and(|channel| !channel.config.operator)
    }

    /// Largest body that a channel takes, in bytes.
    pub fn body_bytes_max(&self, channel: &str) -> Option<usize> {
        self.station(channel).map(|channel| channel.tables.accept.body_bytes_max)
    }

    /// Whether a channel is a web chat of this host.
    pub fn is_web_chat(&self, channel: &str) -> bool {
        self.station(channel).is_some_and(|channel| channel.is_web_chat())
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

    /// How the channels are.
    pub fn channel_health(&self) -> Vec<ChannelHealth> {
        let house = self.journey.fleet.house();
        let health = |channel: &Arc<ChannelStation>| ChannelHealth {
            channel: channel.name.to_string(),
            plugin: channel.config.plugin.to_string(),
            own_ids: channel.own_ids().to_vec(),
        };
        let stations = house.channels.values().map(|lineup| &lineup.active.plugin);
        stations.filter(|channel| !channel.config.operator).map(health).collect()
    }

    /// The configured agents with their descriptions.
    pub fn agents(&self) -> Vec<(AgentId, String)> {
        let house = self.journey.fleet.house();
        house.config.agents.iter().map(|(name, agent)| (name.clone(), agent.description.clone())).collect()
    }
}

/// This process among those of an installation; there is one.
const NODE: &str = "local";

/// Under which name the store keeps the events of a web session.
pub fn session_events_key(channel: &ChannelId, session: &str) -> String {
    session_key(channel, session)
}

/// Loads what the configuration names and its folders hold, whatever is deployed, and goes on after a plugin that is
/// refused; keeps and opens nothing. Returns what each serves, and what was loaded or why it was not.
pub fn check<'a>(
    config: &'a Config,
    sandbox: &'a Sandbox,
    egress: &'a Egress,
    clock: Arc<dyn Clock>,
    progress: &'a (dyn Fn(&str, Progress) + Send + Sync),
) -> BoxFuture<'a, Vec<(String, Result<Loaded, Error>)>> {
    Box::pin(async move {
        let sessions = Arc::new(Sessions::new(config.session_key));
        let (egress, waiting) = (egress.clone(), Waiting::new(config.waiting_max));
        let checking = Checking { config, sandbox, egress, clock, sessions, waiting, progress };
        let mut checked = Vec::new();
        if let Some(name) = &config.routing.router {
            checked.push((ROUTING.to_owned(), checking.router(name).await));
        }
        for name in config.agents.keys() {
            checked.push((serves_agent(name), checking.agent(name).await));
        }
        for (name, channel) in &config.channels {
            let outcome = checking.channel(name).await;
            // The operator's own terminals are the host's, and no news unless they fail.
            if !channel.operator || outcome.is_err() {
                checked.push((serves_channel(name), outcome));
            }
        }
        checked
    })
}

/// Loads plugins with what the configuration says of them, place by place.
struct Checking<'a> {
    config: &'a Config,
    sandbox: &'a Sandbox,
    egress: Egress,
    clock: Arc<dyn Clock>,
    sessions: Arc<Sessions>,
    waiting: Waiting,
    progress: &'a (dyn Fn(&str, Progress) + Send + Sync),
}

impl Checking<'_> {
    async fn router(&self, name: &PluginId) -> Result<Loaded, Error> {
        let (plugin, _) = self.load::<Router>(name, &Map::new(), ROUTING).await?;
        Ok(describe(ROUTING.to_owned(), &plugin, PluginKind::Router))
    }

    async fn agent(&self, name: &AgentId) -> Result<Loaded, Error> {
        let agent = self.config.agents.get(name).ok_or_else(|| Error::UnknownAgent(name.to_string()))?;
        let serves = serves_agent(name);
        let (plugin, _) = self.load::<Agent>(&agent.plugin, &agent.config, &serves).await?;
        if let Some(own) = self.config.plugins.get(&agent.plugin) {
            check_requests(&plugin, &own.secrets)?;
        }
        Ok(describe(serves, &plugin, PluginKind::Agent))
    }

    async fn channel(&self, name: &ChannelId) -> Result<Loaded, Error> {
        let channel =
            self.config.channels.get(name).ok_or_else(|| Error::UnknownChannel(name.to_string()))?;
        let serves = serves_channel(name);
        let (plugin, settings) = self.load::<Channel>(&channel.plugin, &channel.config, &serves).await?;
        let loaded = describe(serves, &plugin, PluginKind::Channel);
        let station = ChannelStation::new(Parts {
            name: name.clone(),
            config: channel.clone(),
            plugin,
            settings,
            egress: self.egress.clone(),
            clock: Arc::clone(&self.clock),
            sessions: Arc::clone(&self.sessions),
            waiting: self.waiting.clone(),
            account: Arc::new(Account::new(channel)),
        })?;
        check_strangers(self.config, name, &station)?;
        Ok(loaded)
    }

    async fn load<K: chela_sandbox::Kind>(
        &self,
        name: &PluginId,
        over: &Map<String, Value>,
        serves: &str,
    ) -> Result<(Plugin<K>, Map<String, Value>), Error> {
        let unused = || {
            Error::Configuration(format!(
                "chela.toml: {serves} names plugin `{name}`, and there is no [plugin.{name}]"
            ))
        };
        let plugin = self.config.plugins.get(name).ok_or_else(unused)?;
        let build = self.sandbox.read(name, plugin.source.clone()).await?;
        let settled = Settled::of(self.config, name, (&build.provenance, build.component_digest))?;
        let settled = settled.ok_or_else(unused)?;
        let told = |progress| (self.progress)(serves, progress);
        let settings = settled.settings(name, over);
        let loaded = self.sandbox.load::<K>(build.source(), settings, told).await?;
        let told = serde_json::from_str(loaded.config()).unwrap_or_default();
        Ok((loaded, told))
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

/// Asks each platform for the account's own ids until it has told them, also those that come with a new configuration.
async fn learn_own_ids(journey: Arc<Journey>) {
    let (mut pause, longest) = OWN_IDS_PAUSE;
    let mut swaps = journey.fleet.swaps();
    loop {
        // A house that comes while platforms are asked is another round.
        swaps.mark_unchanged();
        let house = journey.fleet.house();
        let mut missing = 0;
        let stations = house.channels.values().map(|lineup| &lineup.active.plugin);
        for channel in stations.filter(|channel| channel.own_ids().is_empty()) {
            if let Err(error) = channel.ask_own_ids().await {
                missing += 1;
                tracing::warn!(channel = %channel.name, %error, "own ids are not known yet");
            }
        }
        drop(house);
        if missing == 0 {
            if swaps.changed().await.is_err() {
                return;
            }
            pause = OWN_IDS_PAUSE.0;
            continue;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
