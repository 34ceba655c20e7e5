//! All plugins with their versions, as long as the host runs.
//!
//! What shall serve is written down first (`change.rs`), then it serves. So after a crash at any moment there is
//! exactly one active version of each plugin: the one that is written down.

use arc_swap::ArcSwap;
use chela_egress::Egress;
use chela_gateway::Gateway;
use chela_sandbox::worker::jail::Jailed;
use chela_sandbox::{Build, Sandbox, Source};
use chela_store::{Store, VersionState};
use chela_types::{ChannelId, Clock, Digest, PluginId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::carry::Ask;
use super::edition::{Edition, OnProgress, Settled};
use super::house::{House, Houses};
use super::lineup::Post;
use super::release::{Verdict, Watch};
use super::replay::ReplayRooms;
use super::state::{Plugged, State, station};
use super::status::{Order, Reloaded, Who};
use super::work::{Ahead, Work};
use crate::channel::{ChannelStation, Sessions, Waiting};
use crate::config::{Config, Reload};
use crate::error::Error;
use crate::trust;

/// How often it is looked whether a version has been watched long enough.
const ROUND: Duration = Duration::from_secs(1);
/// Versions that are loaded for turns which began with them, at most.
const RECALLED_MAX: usize = 16;

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
#[derive(Debug, Clone)]
pub struct Update {
    /// The configuration as it is written now.
    pub config: Config,
    /// Models, if they are configured otherwise; absent: as before.
    pub gateway: Option<Gateway>,
    /// Apply what a host that reloads by hand would only report.
    pub apply: bool,
}

impl Update {
    /// Whether it is more than a look.
    pub(super) fn is_applied(&self, standing: &State) -> bool {
        self.apply || standing.config.swap.reload == Reload::Auto
    }
}

/// All plugins with their versions.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(super) below: Below,
    pub(super) houses: Houses,
    /// What stands: read without waiting, replaced by whoever has the right to change it.
    state: ArcSwap<State>,
    pub(super) change: Mutex<()>,
    /// What is being loaded now, and how far it is.
    loading: parking_lot::Mutex<BTreeMap<PluginId, String>>,
    recalled: parking_lot::Mutex<Vec<Arc<Edition>>>,
    tell: UnboundedSender<Verdict>,
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
        let (config, who, ahead) = (Arc::clone(&state.config), Who::loader(), Ahead::default());
        let work = Work {
            below: &below,
            tell: &tell,
            config: &config,
            who: &who,
            progress,
            ahead: &ahead,
            fleet: None,
        };
        let mut changes = Vec::new();
        for id in used(&config) {
            let change = work.plug(&id, deployed.remove(&id), &mut Reloaded::default()).await?;
            state.plugins.insert(id, change.plugged.clone());
            changes.push(change);
        }
        let house = state.house(&below, None)?;
        state.stand(work.make(changes).await?);
        let fleet = Arc::new(Self {
            below,
            houses: Houses::new(house),
            state: ArcSwap::from_pointee(state),
            change: Mutex::default(),
            loading: parking_lot::Mutex::default(),
            recalled: parking_lot::Mutex::default(),
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

    /// The way out.
    pub(crate) fn egress(&self) -> &Egress {
        &self.below.egress
    }

    /// Which walls stood around the last worker.
    pub(crate) fn jailed(&self) -> Option<Jailed> {
        self.below.sandbox.jailed()
    }

    /// Tells of each swap.
    pub(crate) fn swaps(&self) -> tokio::sync::watch::Receiver<()> {
        self.houses.swaps()
    }

    /// What stands now.
    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The house of what shall stand; an error if it cannot serve.
    pub(super) fn built(&self, state: &mut State) -> Result<House, Error> {
        state.house(&self.below, Some(&self.houses.now()))
    }

    /// From now on this stands, and the house that was built of it serves.
    pub(super) fn serve(&self, state: State, house: House) {
        self.houses.swap(house);
        self.state.store(Arc::new(state));
        // Turns that still need one load it again.
        self.recalled.lock().clear();
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
        if update.is_applied(&self.state()) {
            self.close_untrusted(&update.config);
        }
        self.carry_out(Ask::Reload(&update), who).await
    }

    /// What the operator trusts no more begins no call from now on, whatever else comes of the configuration that says so;
    /// what he trusts again does.
    fn close_untrusted(&self, config: &Config) {
        for (id, plugged) in &self.state().plugins {
            for edition in plugged.editions() {
                let trusted = trust::level(config, id, edition.origin());
                if let Err(error) = &trusted {
                    tracing::error!(plugin = %id, version = %edition.digest().short(), %error, "a version is closed");
                }
                edition.set_open(trusted.is_ok());
            }
        }
        self.recalled.lock().clear();
    }

    pub(crate) async fn order(&self, id: &PluginId, order: Order, who: &Who) -> Result<(), Error> {
        self.carry_out(Ask::Order(id, &order), who).await.map(|_| ())
    }

    /// A version that no house has any more, for a turn that began with it. What is refused or gone is not recalled.
    pub(crate) async fn recall(&self, id: &PluginId, digest: Digest) -> Option<Arc<Edition>> {
        let house = self.house();
        let version = self.below.store.version(&house.config.tenant, id, digest).await.ok().flatten()?;
        if version.state == VersionState::Refused {
            return None;
        }
        let mut settled: Settled = serde_json::from_str(&version.settings).ok()?;
        // What the operator has taken away since then, it does not get back.
        let now = house.config.plugins.get(id)?;
        settled.grants = settled.grants.intersection(now.grants);
        let build = kept_build(&self.below.store, &self.below.sandbox, id, &version).await.ok()?;
        let origin = (&build.provenance, build.component_digest);
        settled.level = trust::level(&house.config, id, origin).ok()?;
        let is_it = |known: &&Arc<Edition>| known.digest() == digest && known.settled == settled;
        if let Some(known) = self.recalled.lock().iter().find(is_it) {
            return Some(Arc::clone(known));
        }
        let loading = (id, &build, settled.clone());
        match Edition::load(&self.below.sandbox, loading, &|_, _| {}).await {
            Ok(edition) => {
                let edition = Arc::new(edition.named(digest));
                let mut recalled = self.recalled.lock();
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
    ) -> Option<Post<Arc<ChannelStation>>> {
        let config = house.config.channels.get(channel)?;
        let edition = self.recall(&config.plugin, digest).await?;
        let account = house.station(channel.as_str()).ok()?.account();
        let plugin = station(&self.below, &house.config, channel, (&edition, Some(account))).ok()?;
        Some(Post { release: Arc::clone(&edition.release), plugin })
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
        while let Err(error) = self.carry_out(Ask::SendBack(&verdict), &Who::watch()).await {
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
        let is_over = |plugged: &Plugged| {
            // One that was withdrawn has its rollback under way.
            plugged.watch_until.is_some_and(|until| until <= now) && !plugged.active.release.is_withdrawn()
        };
        if !self.state().plugins.values().any(is_over) {
            return;
        }
        let _right = self.change.lock().await;
        let mut state = State::clone(&self.state());
        for plugged in state.plugins.values_mut().filter(|plugged| is_over(plugged)) {
            plugged.watch_until = None;
            plugged.active.release.watch(None);
            if let Some(standby) = plugged.standby.take() {
                plugged.drain(&standby);
            }
        }
        match self.built(&mut state) {
            Ok(house) => self.serve(state, house),
            Err(error) => tracing::error!(%error, "a house could not be built anew"),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut round = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = round.tick() => self.round().await,
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
    let (manifest, provenance) = (version.manifest.clone(), version.provenance.clone());
    let source = Source::Kept { manifest, component, provenance };
    Ok(sandbox.read(id, source).await?)
}
