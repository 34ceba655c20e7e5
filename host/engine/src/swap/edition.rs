//! A version of one plugin, loaded for every place where it serves: each agent and channel may configure it otherwise,
//! and `init` sees that.

use chela_sandbox::{
    Build, Grant, Grants, Kind, Level, Limits, Plugin, PluginKind, Progress, Provenance, Sandbox, Settings,
};
use chela_types::{AgentId, ChannelId, Digest, PluginId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::lineup::Post;
use super::release::Release;
use crate::agent::Agent;
use crate::capability::Rules;
use crate::channel::{Channel, Tables};
use crate::config::Config;
use crate::error::Error;
use crate::router::Router;
use crate::trust;

/// Told while a plugin loads: what it serves, and how far it is.
pub(crate) type OnProgress<'a> = &'a (dyn Fn(&str, Progress) + Send + Sync);

/// Where a build comes from, and its component.
pub(crate) type Origin<'a> = (&'a Provenance, Digest);

/// What the operator says of a plugin, with what it is told in each place. Part of what a version is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) grants: Grants,
    pub(crate) level: Level,
    pub(crate) limits: Limits,
    pub(crate) config: Map<String, Value>,
    pub(crate) routes: bool,
    pub(crate) agents: BTreeMap<AgentId, Map<String, Value>>,
    pub(crate) channels: BTreeMap<ChannelId, Map<String, Value>>,
}

impl Settled {
    /// As the configuration has it of a build; `None` if nothing uses the plugin.
    ///
    /// # Errors
    /// The build may not serve, or the plugin is not configured.
    pub(crate) fn of(config: &Config, id: &PluginId, build: Origin<'_>) -> Result<Option<Self>, Error> {
        Self::at(config, id, || Ok(trust::level(config, id, build)?))
    }

    /// The same of a build that is only looked at.
    pub(crate) fn for_a_look(
        config: &Config,
        id: &PluginId,
        build: Origin<'_>,
    ) -> Result<Option<Self>, Error> {
        Self::at(config, id, || Ok(trust::level_for_a_look(config, id, build)?))
    }

    fn at(
        config: &Config,
        id: &PluginId,
        level: impl FnOnce() -> Result<Level, Error>,
    ) -> Result<Option<Self>, Error> {
        let routes = config.routing.router.as_ref() == Some(id);
        let agents: BTreeMap<_, _> = (config.agents.iter())
            .filter(|(_, agent)| agent.plugin == *id)
            .map(|(name, agent)| (name.clone(), agent.config.clone()))
            .collect();
        let channels: BTreeMap<_, _> = (config.channels.iter())
            .filter(|(_, channel)| channel.plugin == *id)
            .map(|(name, channel)| (name.clone(), channel.config.clone()))
            .collect();
        if !routes && agents.is_empty() && channels.is_empty() {
            return Ok(None);
        }
        let plugin = config.plugins.get(id).ok_or_else(|| {
            Error::Configuration(format!("chela.toml: plugin `{id}` is used, and there is no [plugin.{id}]"))
        })?;
        Ok(Some(Self {
            grants: plugin.grants,
            level: level()?,
            limits: plugin.limits.clone(),
            config: plugin.config.clone(),
            routes,
            agents,
            channels,
        }))
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of a build under these settings.
    pub(crate) fn digest(&self, build: Digest) -> Digest {
        Digest::of("chela 2026 version", &[build.as_bytes(), self.json().as_bytes()])
    }

    /// For one place, whose own configuration is above the plugin's.
    pub(crate) fn settings(&self, id: &PluginId, over: &Map<String, Value>) -> Settings {
        let mut told = self.config.clone();
        told.extend(over.clone());
        Settings {
            id: id.clone(),
            config: Value::Object(told),
            grants: self.grants,
            limits: self.limits.clone(),
            level: self.level,
        }
    }

    /// What it serves, in words.
    pub(crate) fn serves(&self) -> Vec<String> {
        let routing = self.routes.then(|| ROUTING.to_owned()).into_iter();
        let agents = self.agents.keys().map(serves_agent);
        routing.chain(agents).chain(self.channels.keys().map(serves_channel)).collect()
    }
}

/// What a router serves.
pub(crate) const ROUTING: &str = "routing";

pub(crate) fn serves_agent(name: &AgentId) -> String {
    format!("agent {name}")
}

pub(crate) fn serves_channel(name: &ChannelId) -> String {
    format!("channel {name}")
}

/// A version, loaded.
#[derive(Debug)]
pub(crate) struct Edition {
    pub(crate) release: Arc<Release>,
    pub(crate) kind: PluginKind,
    /// Of manifest and component.
    pub(crate) build: Digest,
    provenance: Provenance,
    component: Digest,
    pub(crate) settled: Settled,
    pub(crate) asks: Vec<String>,
    pub(crate) imports: Vec<String>,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) from_cache: bool,
    places: Places,
}

#[derive(Debug)]
enum Places {
    Routing(Plugin<Router>),
    Agents(BTreeMap<AgentId, Plugin<Agent>>),
    Channels(BTreeMap<ChannelId, (Plugin<Channel>, Map<String, Value>)>),
}

/// What any place's plugin tells of the whole.
struct Facts {
    imports: Vec<String>,
    grants: Grants,
    limits: Limits,
    from_cache: bool,
}

impl Facts {
    fn of<K: Kind>(plugin: &Plugin<K>) -> Self {
        Self {
            imports: plugin.imports().to_vec(),
            grants: plugin.grants(),
            limits: plugin.limits().clone(),
            from_cache: plugin.from_cache(),
        }
    }
}

impl Edition {
    /// Loads a build for every place of its settings.
    ///
    /// # Errors
    /// The first place in which it is refused.
    pub(crate) async fn load(
        sandbox: &Sandbox,
        (id, build, settled): (&PluginId, &Build, Settled),
        progress: OnProgress<'_>,
    ) -> Result<Self, Error> {
        let manifest = &build.manifest;
        let loading = Loading { sandbox, id, build, settled: &settled, progress };
        let (places, facts) = loading.places().await?;
        let release = Release::new(id.clone(), settled.digest(build.digest()), manifest.version.clone());
        Ok(Self {
            release: Arc::new(release),
            kind: manifest.kind,
            build: build.digest(),
            provenance: build.provenance,
            component: build.component_digest,
            asks: asks(build),
            imports: facts.imports,
            grants: facts.grants,
            limits: facts.limits,
            from_cache: facts.from_cache,
            places,
            settled,
        })
    }

    pub(crate) fn digest(&self) -> Digest {
        self.release.digest
    }

    /// Where its build comes from.
    pub(crate) fn origin(&self) -> Origin<'_> {
        (&self.provenance, self.component)
    }

    /// Who signed it, if somebody has.
    pub(crate) fn signer(&self) -> Option<String> {
        self.provenance.signer().map(|key| key.to_string())
    }

    /// From now on no call of it begins, wherever it serves, or calls begin again.
    pub(crate) fn set_open(&self, is_open: bool) {
        match &self.places {
            Places::Routing(plugin) => plugin.set_open(is_open),
            Places::Agents(agents) => agents.values().for_each(|plugin| plugin.set_open(is_open)),
            Places::Channels(channels) => channels.values().for_each(|(plugin, _)| plugin.set_open(is_open)),
        }
    }

    /// The same under the digest that turns know it by, where the operator has since then taken something from it.
    pub(crate) fn named(mut self, digest: Digest) -> Self {
        let Release { plugin, version, .. } = &*self.release;
        self.release = Arc::new(Release::new(plugin.clone(), digest, version.clone()));
        self
    }

    fn post<T>(&self, plugin: T) -> Post<T> {
        Post { release: Arc::clone(&self.release), plugin }
    }

    pub(crate) fn router(&self) -> Option<Post<Plugin<Router>>> {
        match &self.places {
            Places::Routing(plugin) => Some(self.post(plugin.clone())),
            _ => None,
        }
    }

    pub(crate) fn agent(&self, agent: &AgentId) -> Option<Post<Plugin<Agent>>> {
        match &self.places {
            Places::Agents(agents) => Some(self.post(agents.get(agent)?.clone())),
            _ => None,
        }
    }

    /// The adapter of a channel, and what it is told there.
    pub(crate) fn channel(&self, channel: &ChannelId) -> Option<&(Plugin<Channel>, Map<String, Value>)> {
        match &self.places {
            Places::Channels(channels) => channels.get(channel),
            _ => None,
        }
    }
}

struct Loading<'a> {
    sandbox: &'a Sandbox,
    id: &'a PluginId,
    build: &'a Build,
    settled: &'a Settled,
    progress: OnProgress<'a>,
}

impl Loading<'_> {
    async fn places(&self) -> Result<(Places, Facts), Error> {
        let nothing = Map::new();
        if self.settled.routes {
            let (plugin, _) = self.load::<Router>(&nothing, ROUTING).await?;
            let facts = Facts::of(&plugin);
            return Ok((Places::Routing(plugin), facts));
        }
        let mut facts = None;
        let mut agents = BTreeMap::new();
        for (name, over) in &self.settled.agents {
            let (plugin, _) = self.load::<Agent>(over, &serves_agent(name)).await?;
            facts = Some(Facts::of(&plugin));
            agents.insert(name.clone(), plugin);
        }
        if let Some(facts) = facts {
            return Ok((Places::Agents(agents), facts));
        }
        let mut channels = BTreeMap::new();
        for (name, over) in &self.settled.channels {
            let (plugin, told) = self.load::<Channel>(over, &serves_channel(name)).await?;
            facts = Some(Facts::of(&plugin));
            channels.insert(name.clone(), (plugin, told));
        }
        let unused = || Error::Configuration(format!("chela.toml: nothing uses [plugin.{}]", self.id));
        Ok((Places::Channels(channels), facts.ok_or_else(unused)?))
    }

    /// Loads it for one place; returns it with the configuration that it got.
    async fn load<K: Kind>(
        &self,
        over: &Map<String, Value>,
        serves: &str,
    ) -> Result<(Plugin<K>, Map<String, Value>), Error> {
        let settings = self.settled.settings(self.id, over);
        let told = |progress| (self.progress)(serves, progress);
        let plugin = self.sandbox.load::<K>(self.build.source(), settings, told).await?;
        let told = serde_json::from_str(plugin.config()).unwrap_or_default();
        Ok((plugin, told))
    }
}

/// Tables of a channel's manifest that say what the host is to believe, and what it does in the organisation's name. If
/// one of them is another one, that is for a person to approve.
const TABLES: [&str; 10] =
    ["verify", "identity", "outsider", "bind", "own", "progress", "edit", "deletion", "status", "endpoint"];

/// All that a manifest asks for beyond running: grants, hosts, secrets, and for channels how the host is to know who
/// writes and where it posts. What is not among the approved version's is *more*.
pub(crate) fn asks(build: &Build) -> Vec<String> {
    let manifest = &build.manifest;
    let grants = manifest.grants.union(manifest.optional);
    let mut asks: Vec<String> = grants.iter().map(|grant: Grant| format!("grant {grant}")).collect();
    if manifest.kind == PluginKind::Channel {
        let table = |name: &str| manifest.channel.get(name).map(ToString::to_string).unwrap_or_default();
        if let Ok(tables) = Tables::read(manifest.channel.clone()) {
            let to = |name: &str, url: &str, method: &str| format!("endpoint {name}: {method} {url}");
            let usual = |url: &str| address(url, &manifest.config);
            asks.extend(tables.endpoint.iter().map(|(name, it)| to(name, &usual(&it.url), &it.method)));
            asks.extend(tables.secrets().map(|secret| format!("secret {secret}")));
        }
        for name in TABLES {
            let digest = Digest::of("chela 2026 table", &[table(name).as_bytes()]).short();
            asks.push(format!("[{name}] as in {digest}"));
        }
    }
    asks.extend(Rules::asks(&manifest.outward, &manifest.config));
    asks.sort();
    asks.dedup();
    asks
}

/// An endpoint's address with what the manifest itself puts into it, where the operator says nothing.
fn address(url: &str, config: &toml::Table) -> String {
    config.iter().fold(url.to_owned(), |url, (key, value)| {
        value.as_str().map_or(url.clone(), |value| url.replace(&format!("{{{key}}}"), value))
    })
}

/// What is asked for beyond what was approved.
pub(crate) fn more(asked: &[String], approved: &[String]) -> Vec<String> {
    asked.iter().filter(|ask| !approved.contains(ask)).cloned().collect()
}
