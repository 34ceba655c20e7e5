//! All plugins with their versions: what is deployed, what is loaded, and the house that is built of it.
//!
//! What shall serve is written down first (`deploy.rs`), then it serves. So after a crash at any moment there is
//! exactly one active version of each plugin: the one that is written down.

use arc_swap::ArcSwap;
use chela_egress::Egress;
use chela_gateway::Gateway;
use chela_sandbox::{Build, Plugin, Sandbox, Source};
use chela_store::{Deployment, Store};
use chela_types::{AgentId, ChannelId, Clock, Digest, PluginId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::edition::{Edition, OnProgress, Settled};
use super::house::{House, Houses};
use super::lineup::{Lineup, Post};
use super::release::{Release, Verdict, Watch};
use super::replay::ReplayRooms;
use super::status::{Order, Reloaded, Who};
use crate::agent::AgentStation;
use crate::channel::{Account, ChannelStation, Parts, Sessions, Waiting};
use crate::config::Config;
use crate::error::Error;
use crate::policy::Policy;

/// How often it is looked whether a version has been watched long enough.
const ROUND: Duration = Duration::from_secs(1);
/// How often old versions are looked through.
const PURGE: Duration = Duration::from_secs(3_600);
/// Versions that are loaded for turns which began with them, at most.
const RECALLED_MAX: usize = 16;
/// Versions that still run calls, as they are shown.
const DRAINING_MAX: usize = 32;

/// What a fleet stands on.
#[derive(Debug, Clone)]
pub(crate) struct Below {
    pub(crate) store: Store,
    pub(crate) sandbox: Sandbox,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) waiting: Waiting,
    /// This process among those of an installation.
    pub(crate) node: String,
}

/// What a reload brings.
#[derive(Debug)]
pub struct Update {
    /// The configuration as it is written now.
    pub config: Config,
    /// Models, if they are configured otherwise; absent: as before.
    pub gateway: Option<Gateway>,
    /// Apply what a host that reloads by hand would only report.
    pub apply: bool,
}

/// All plugins with their versions.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(super) below: Below,
    pub(super) houses: Houses,
    /// What stands: read without waiting, replaced by whoever has the right to change it.
    state: ArcSwap<State>,
    change: Mutex<()>,
    /// What is being loaded now, and how far it is.
    loading: parking_lot::Mutex<BTreeMap<PluginId, String>>,
    recalled: Mutex<Vec<Arc<Edition>>>,
    tell: UnboundedSender<Verdict>,
}

/// What is deployed and loaded.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) gateway: Gateway,
    pub(super) plugins: BTreeMap<PluginId, Plugged>,
    accounts: BTreeMap<ChannelId, Arc<Account>>,
    stations: BTreeMap<(ChannelId, Digest), Arc<ChannelStation>>,
}

/// One plugin.
#[derive(Debug, Clone)]
pub(super) struct Plugged {
    pub(super) deployment: Deployment,
    pub(super) active: Arc<Edition>,
    /// While the active one is watched.
    pub(super) before: Option<Arc<Edition>>,
    pub(super) canary: Option<(Arc<Edition>, u8)>,
    pub(super) shadow: Option<Arc<Edition>>,
    pub(super) watch_until: Option<Instant>,
    /// Retired versions, as long as calls of them run.
    pub(super) draining: Vec<Weak<Release>>,
    /// The last thing in the folder that was refused.
    pub(super) refused: Option<String>,
}

impl Plugged {
    pub(super) fn new(deployment: Deployment, active: Arc<Edition>) -> Self {
        Self {
            deployment,
            active,
            before: None,
            canary: None,
            shadow: None,
            watch_until: None,
            draining: Vec::new(),
            refused: None,
        }
    }

    /// Everything that is loaded.
    pub(super) fn editions(&self) -> impl Iterator<Item = &Arc<Edition>> {
        std::iter::once(&self.active)
            .chain(&self.before)
            .chain(self.canary.as_ref().map(|(edition, _)| edition))
            .chain(&self.shadow)
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

impl Fleet {
    /// Loads what is deployed, or, where nothing is yet, what the configuration names.
    ///
    /// # Errors
    /// The first plugin of which no version can serve, or a configuration that cannot run.
    pub(crate) async fn start(
        (config, gateway): (Config, Gateway),
        below: Below,
        progress: OnProgress<'_>,
    ) -> Result<Arc<Self>, Error> {
        let (tell, verdicts) = unbounded_channel();
        let mut state = State {
            config: Arc::new(config),
            gateway,
            plugins: BTreeMap::new(),
            accounts: BTreeMap::new(),
            stations: BTreeMap::new(),
        };
        let deployed = below.store.deployments(&state.config.tenant).await?;
        let mut deployed: BTreeMap<_, _> =
            deployed.into_iter().map(|deployment| (deployment.plugin.clone(), deployment)).collect();
        let starter = Starter { below: &below, tell: &tell, progress };
        for id in used(&state.config) {
            let plugged = starter.plug(&state.config, &id, deployed.remove(&id)).await?;
            // Zero is to be seen, too.
            metrics::counter!("swap_lost_total", "plugin" => id.to_string()).increment(0);
            state.plugins.insert(id, plugged);
        }
        let house = state.house(&below, None)?;
        let fleet = Arc::new(Self {
            below,
            houses: Houses::new(house),
            state: ArcSwap::from_pointee(state),
            change: Mutex::default(),
            loading: parking_lot::Mutex::default(),
            recalled: Mutex::default(),
            tell,
        });
        tokio::spawn(listen(Arc::downgrade(&fleet), verdicts));
        Ok(fleet)
    }

    pub(crate) fn house(&self) -> Arc<House> {
        self.houses.now()
    }

    /// What recorded turns are run again with.
    pub(crate) fn replay_rooms(&self, house: &House) -> ReplayRooms {
        let Below { store, sandbox, clock, .. } = self.below.clone();
        ReplayRooms { store, sandbox, gateway: house.gateway.clone(), clock }
    }

    pub(crate) async fn changed(&self) {
        self.houses.changed().await;
    }

    /// What stands now.
    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The right to change what stands, and a copy to do it in.
    pub(super) async fn change(&self) -> (MutexGuard<'_, ()>, State) {
        let right = self.change.lock().await;
        (right, State::clone(&self.state()))
    }

    /// From now on this stands, and its house serves.
    pub(super) fn stand(&self, mut state: State) -> Result<(), Error> {
        let house = self.built(&mut state)?;
        self.serve(state, house);
        Ok(())
    }

    /// The house of what shall stand; an error if it cannot serve.
    pub(super) fn built(&self, state: &mut State) -> Result<House, Error> {
        state.house(&self.below, Some(&self.houses.now()))
    }

    /// From now on this stands, and the house that was built of it serves.
    pub(super) fn serve(&self, state: State, house: House) {
        self.houses.swap(house);
        self.state.store(Arc::new(state));
    }

    /// What is being loaded now.
    pub(super) fn loading(&self, id: &PluginId) -> Option<String> {
        self.loading.lock().get(id).cloned()
    }

    /// Tells of a load, until it has ended.
    pub(super) fn tell_loading(&self, id: &PluginId, what: Option<String>) {
        let mut loading = self.loading.lock();
        match what {
            Some(what) => loading.insert(id.clone(), what),
            None => loading.remove(id),
        };
    }

    /// Looks at everything that a configuration names, and lets serve what may. Nothing has changed if it fails.
    ///
    /// # Errors
    /// A configuration that a plugin refuses, or that cannot run.
    pub(crate) async fn reload(&self, update: Update, who: &Who) -> Result<Reloaded, Error> {
        super::reload::reload(self, update, who).await
    }

    pub(crate) async fn order(&self, id: &PluginId, order: Order, who: &Who) -> Result<(), Error> {
        super::orders::order(self, id, order, who).await
    }

    /// A version that no house has any more, for a turn that began with it. What is refused or gone is not recalled.
    pub(crate) async fn recall(&self, id: &PluginId, digest: Digest) -> Option<Arc<Edition>> {
        let mut recalled = self.recalled.lock().await;
        if let Some(known) = recalled.iter().find(|edition| edition.digest() == digest) {
            return Some(Arc::clone(known));
        }
        let house = self.house();
        let version = self.below.store.version(&house.config.tenant, id, digest).await.ok().flatten()?;
        if version.state == chela_store::VersionState::Refused {
            return None;
        }
        let mut settled: Settled = serde_json::from_str(&version.settings).ok()?;
        // What the operator has taken away since then, it does not get back.
        settled.grants = settled.grants.intersection(house.config.plugins.get(id)?.grants);
        let build = kept_build(&self.below.store, &self.below.sandbox, id, &version).await.ok()?;
        let loading = (id, &build, settled.clone());
        match Edition::load(&self.below.sandbox, loading, &|_, _| {}).await {
            Ok(edition) => {
                let edition = Arc::new(edition.named(digest));
                if recalled.len() >= RECALLED_MAX {
                    recalled.remove(0);
                }
                recalled.push(Arc::clone(&edition));
                Some(edition)
            }
            Err(error) => {
                tracing::warn!(plugin = %id, version = %digest.short(), %error, "a turn's version cannot be loaded any more");
                None
            }
        }
    }

    /// A channel's adapter as it was when it began to send an answer.
    pub(crate) async fn recall_station(
        &self,
        house: &House,
        channel: &ChannelId,
        digest: Digest,
    ) -> Option<Arc<ChannelStation>> {
        let config = house.config.channels.get(channel)?;
        let edition = self.recall(&config.plugin, digest).await?;
        let account = house.station(channel.as_str()).ok()?.account();
        station(&self.below, &house.config, channel, (&edition, Some(account))).ok()
    }

    pub(super) fn tell(&self) -> &UnboundedSender<Verdict> {
        &self.tell
    }

    /// What must go, goes.
    async fn judge(&self, verdict: Verdict) {
        metrics::counter!("swap_rollbacks_total", "plugin" => verdict.plugin.to_string()).increment(1);
        tracing::error!(plugin = %verdict.plugin, version = %verdict.digest.short(), why = verdict.why, "a version is rolled back");
        let mut pause = Duration::from_millis(100);
        // It serves nobody already; a disk that takes nothing now must learn of it before the next start.
        while let Err(error) = super::orders::withdraw(self, &verdict).await {
            if matches!(error, Error::Swap(_)) {
                tracing::error!(%error, "a rollback has nowhere to go");
                return;
            }
            tracing::error!(%error, "a rollback cannot be written down yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }

    /// Ends watches whose time is over.
    async fn round(&self) {
        let now = Instant::now();
        if !self.state().plugins.values().any(|plugged| plugged.watch_until.is_some_and(|it| it <= now)) {
            return;
        }
        let (_right, mut state) = self.change().await;
        let over: Vec<PluginId> = (state.plugins.iter())
            .filter(|(_, plugged)| plugged.watch_until.is_some_and(|until| until <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &over {
            if let Some(plugged) = state.plugins.get_mut(id) {
                plugged.watch_until = None;
                if plugged.active.release.is_withdrawn() {
                    continue; // its rollback is under way
                }
                plugged.active.release.watch(None);
                if let Some(before) = plugged.before.take() {
                    plugged.drain(&before);
                }
            }
        }
        if !over.is_empty()
            && let Err(error) = self.stand(state)
        {
            tracing::error!(%error, "a house could not be built anew");
        }
    }

    async fn purge(&self) {
        let house = self.house();
        let before = self.below.clock.now().minus(house.config.swap.keep);
        match self.below.store.purge_versions(&house.config.tenant, before).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "retired versions are gone"),
            Err(error) => tracing::warn!(%error, "retired versions cannot be removed"),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let (mut round, mut purge) = (tokio::time::interval(ROUND), tokio::time::interval(PURGE));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = round.tick() => self.round().await,
                _ = purge.tick() => self.purge().await,
            }
        }
    }
}

/// Hears verdicts as long as there is a fleet.
async fn listen(fleet: Weak<Fleet>, mut verdicts: UnboundedReceiver<Verdict>) {
    while let Some(verdict) = verdicts.recv().await {
        let Some(fleet) = fleet.upgrade() else { return };
        // One that the disk keeps from being written down must not hold up the others.
        tokio::spawn(async move { fleet.judge(verdict).await });
    }
}

pub(super) fn watching(
    tell: &UnboundedSender<Verdict>,
    against: &Arc<Edition>,
    config: &Config,
    on_trial: bool,
) -> Watch {
    let against = Arc::clone(&against.release);
    Watch { against, bounds: config.swap.clone(), on_trial, tell: tell.clone() }
}

/// The plugins that something uses.
pub(super) fn used(config: &Config) -> BTreeSet<PluginId> {
    let agents = config.agents.values().map(|agent| &agent.plugin);
    let channels = config.channels.values().map(|channel| &channel.plugin);
    config.routing.router.iter().chain(agents).chain(channels).cloned().collect()
}

/// A build as it is kept.
pub(super) async fn kept_build(
    store: &Store,
    sandbox: &Sandbox,
    id: &PluginId,
    version: &chela_store::Version,
) -> Result<Build, Error> {
    let component = store.artefact(version.component).await?.ok_or_else(|| {
        let digest = version.digest.short();
        Error::Configuration(format!(
            "the component of version {digest} of plugin `{id}` is not kept any more"
        ))
    })?;
    let source = Source::Embedded { manifest: version.manifest.clone(), component };
    Ok(sandbox.read(id, source).await?)
}

/// Plugs plugins in when the host starts.
struct Starter<'a> {
    below: &'a Below,
    tell: &'a UnboundedSender<Verdict>,
    progress: OnProgress<'a>,
}

impl Starter<'_> {
    async fn plug(
        &self,
        config: &Config,
        id: &PluginId,
        deployed: Option<Deployment>,
    ) -> Result<Plugged, Error> {
        let Starter { below, tell, progress } = self;
        super::plugging::plug((below, tell), (config, id, deployed), *progress).await
    }
}

impl State {
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
    fn house(&mut self, below: &Below, earlier: Option<&House>) -> Result<House, Error> {
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
        Ok(House { config, gateway: self.gateway.clone(), channels, router, agents })
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
            before: self.before.as_deref().and_then(|edition| post(edition).ok()),
            canary: self.canary.as_ref().and_then(|(edition, share)| Some((post(edition).ok()?, *share))),
            shadow: self.shadow.as_deref().and_then(|edition| post(edition).ok()),
        })
    }
}
