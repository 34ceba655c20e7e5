//! Which version shall serve: what is found in a folder, what an operator orders, what the watch sends back. Each
//! change is written down with who, when and why before it serves.

use chela_sandbox::Build;
use chela_store::{Deploy, Deployment, Happened, Version, VersionState};
use chela_types::{Blame, Digest, Fault, PluginId, Retry};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

use super::edition::{Edition, OnProgress, Settled, asks, more};
use super::fleet::{Below, Fleet, Plugged, State, Update, kept_build, station, used, watching};
use super::release::Verdict;
use super::status::{Candidate, Order, Reloaded, Who};
use crate::config::{Config, Reload};
use crate::error::Error;

/// Digits of a digest that name a version at least.
const DIGITS_MIN: usize = 4;
/// Versions of a plugin that are looked through.
const VERSIONS_MAX: usize = 1_000;

/// Why an order is not carried out. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapRefused {
    /// No plugin of this name is in use.
    #[error("no plugin in use is called `{0}`")]
    NoPlugin(String),
    /// There is nothing else to serve.
    #[error(
        "plugin `{plugin}` has no other version: its folder holds what serves already; name one with --version or --from"
    )]
    NothingNew {
        /// The plugin.
        plugin: PluginId,
    },
    /// No version has a digest that begins so.
    #[error(
        "no version of plugin `{plugin}` has a digest that begins with `{digest}`; see `chela plugin list`"
    )]
    NoVersion {
        /// The plugin.
        plugin: PluginId,
        /// What was given.
        digest: String,
    },
    /// Several do.
    #[error(
        "several versions of plugin `{plugin}` have a digest that begins with `{digest}`; give more of it"
    )]
    Ambiguous {
        /// The plugin.
        plugin: PluginId,
        /// What was given.
        digest: String,
    },
    /// It is active already.
    #[error("version {digest} of plugin `{plugin}` is active already")]
    Active {
        /// The plugin.
        plugin: PluginId,
        /// Its digest, shortened.
        digest: String,
    },
    /// Older than what serves.
    #[error(
        "plugin `{plugin}` would go from version {from} back to {to}; if that is meant: chela plugin promote {plugin} --downgrade"
    )]
    Downgrade {
        /// The plugin.
        plugin: PluginId,
        /// What serves.
        from: String,
        /// What would.
        to: String,
    },
    /// Asks for more than what serves.
    #[error("the new version of plugin `{plugin}` asks for more than the active one: {}; if that is meant: chela plugin promote {plugin} --approve", asked.join(", "))]
    AsksMore {
        /// The plugin.
        plugin: PluginId,
        /// For what.
        asked: Vec<String>,
    },
    /// Its shadow has not shown enough.
    #[error(
        "the new version of plugin `{plugin}` is not proven: {why}; to promote it all the same: --unproven"
    )]
    Unproven {
        /// The plugin.
        plugin: PluginId,
        /// What is missing.
        why: String,
    },
    /// There is nothing to go back to.
    #[error("plugin `{plugin}` has no version before the active one")]
    NoBefore {
        /// The plugin.
        plugin: PluginId,
    },
    /// A share that is none.
    #[error("a canary has 0 to 100 percent, and not {0}")]
    Percent(u8),
}

impl Fault for SwapRefused {
    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// What a change is made with.
struct Work<'a> {
    below: &'a Below,
    tell: &'a UnboundedSender<Verdict>,
    config: &'a Config,
    who: &'a Who,
    progress: OnProgress<'a>,
}

/// A build under the settings that hold now.
struct Proposal {
    id: PluginId,
    build: Build,
    settled: Settled,
    digest: Digest,
}

impl Proposal {
    fn new(id: &PluginId, build: Build, settled: Settled) -> Self {
        let digest = settled.digest(build.digest());
        Self { id: id.clone(), build, settled, digest }
    }
}

/// What is to be made of a build in a folder.
enum Finding {
    /// It may serve.
    Serve,
    /// It may not by itself; why, and how it is kept.
    Stay(VersionState, String),
    /// It was seen before, and stays what it is.
    Known(VersionState, String),
}

/// Plugs a plugin in: what is deployed serves, and what is new in its folder, if it may.
///
/// # Errors
/// No version of it can serve.
pub(super) async fn plug(
    (below, tell): (&Below, &UnboundedSender<Verdict>),
    (config, id, deployed): (&Config, &PluginId, Option<Deployment>),
    progress: OnProgress<'_>,
) -> Result<Plugged, Error> {
    let who = Who::loader();
    let work = Work { below, tell, config, who: &who, progress };
    let settled = work.settled(id)?;
    let source = work.source(id)?;
    let folder = below.sandbox.read(id, source).await;
    let Some((deployment, digest)) = deployed.and_then(|it| it.active.map(|digest| (it, digest))) else {
        return work.first(id, Proposal::new(id, folder?, settled)).await;
    };
    let kept = match below.store.version(&config.tenant, id, digest).await? {
        Some(version) => kept_build(&below.store, &below.sandbox, id, &version).await,
        None => Err(Error::Configuration(format!("the active version of plugin `{id}` is not kept"))),
    };
    match (kept, folder) {
        (Ok(build), folder) => work.resume(deployment, Proposal::new(id, build, settled), folder).await,
        (Err(error), Ok(build)) => {
            tracing::error!(plugin = %id, %error, "what was active cannot be read; what is in the folder serves");
            work.restored(deployment, Proposal::new(id, build, settled), &error).await
        }
        (Err(error), Err(_)) => Err(error),
    }
}

impl Work<'_> {
    fn settled(&self, id: &PluginId) -> Result<Settled, Error> {
        Settled::of(self.config, id)?.ok_or_else(|| SwapRefused::NoPlugin(id.to_string()).into())
    }

    fn source(&self, id: &PluginId) -> Result<chela_sandbox::Source, Error> {
        let plugin = self.config.plugins.get(id);
        Ok(plugin.ok_or_else(|| Error::from(SwapRefused::NoPlugin(id.to_string())))?.source.clone())
    }

    async fn load(&self, proposal: &Proposal) -> Result<Arc<Edition>, Error> {
        let Proposal { id, build, settled, .. } = proposal;
        let loading = (id, build, settled.clone());
        let edition = Edition::load(&self.below.sandbox, loading, self.progress).await?;
        for channel in settled.channels.keys() {
            station(self.below, self.config, channel, (&edition, None))?;
        }
        Ok(Arc::new(edition))
    }

    /// Keeps a version with its component, so that it can be loaded again whatever becomes of its folder.
    async fn keep(
        &self,
        proposal: &Proposal,
        (state, reason): (VersionState, &str),
        happened: Vec<Happened>,
    ) -> Result<(), Error> {
        let Proposal { id, build, settled, digest } = proposal;
        let component = self.below.store.keep_artefact(build.component.clone()).await?;
        let now = self.below.clock.now();
        let version = Version {
            plugin: id.clone(),
            digest: *digest,
            kind: build.manifest.kind.to_string(),
            version: build.manifest.version.clone(),
            component,
            component_bytes: build.component.len() as u64,
            manifest: build.text.clone(),
            settings: settled.json(),
            asks: asks(build),
            state,
            reason: reason.to_owned(),
            since: now,
            by: self.who.0.clone(),
            noticed: now,
        };
        Ok(self.below.store.keep_version(&self.config.tenant, version, happened).await?)
    }

    fn happened(&self, id: &PluginId, digest: Digest, (what, why): (&str, &str), detail: Value) -> Happened {
        Happened {
            plugin: Some(id.clone()),
            digest: Some(digest),
            what: what.to_owned(),
            by: self.who.0.clone(),
            why: why.to_owned(),
            detail,
        }
    }

    /// Writes down what shall serve.
    async fn write(
        &self,
        deployment: Deployment,
        states: Vec<(Digest, VersionState, String)>,
        happened: Vec<Happened>,
    ) -> Result<Deployment, Error> {
        let tenant = self.config.tenant.clone();
        let deployment = Deployment { since: self.below.clock.now(), by: self.who.0.clone(), ..deployment };
        Ok(self.below.store.deploy(Deploy { tenant, deployment, states, happened }).await?)
    }

    async fn observe(&self, id: &PluginId, digest: Digest) {
        let Below { store, node, .. } = self.below;
        if let Err(error) = store.observe(&self.config.tenant, node, id, digest).await {
            tracing::warn!(%error, "what serves here could not be written down");
        }
    }

    /// The first version of a plugin.
    async fn first(&self, id: &PluginId, proposal: Proposal) -> Result<Plugged, Error> {
        let edition = self.load(&proposal).await?;
        let none = Deployment {
            plugin: id.clone(),
            revision: 0,
            active: None,
            before: None,
            canary: None,
            shadow: None,
            noticed: None,
            since: self.below.clock.now(),
            by: self.who.0.clone(),
            why: String::new(),
        };
        let deployment = self.activate(&none, &proposal, ("first", "the first version")).await?;
        Ok(Plugged::new(deployment, edition))
    }

    /// What was active is lost; what the folder holds takes its place.
    async fn restored(&self, from: Deployment, proposal: Proposal, lost: &Error) -> Result<Plugged, Error> {
        let edition = self.load(&proposal).await?;
        let why = lost.to_string();
        let deployment = self.activate(&from, &proposal, ("restored", &why)).await?;
        Ok(Plugged::new(deployment, edition))
    }

    /// Writes down that a version is active from now on.
    async fn activate(
        &self,
        from: &Deployment,
        proposal: &Proposal,
        (what, why): (&str, &str),
    ) -> Result<Deployment, Error> {
        self.keep(proposal, (VersionState::Ready, ""), Vec::new()).await?;
        let Proposal { id, digest, build, .. } = proposal;
        let mut states = vec![(*digest, VersionState::Ready, String::new())];
        let earlier = from.active.filter(|earlier| earlier != digest);
        // The settings of a plugin are no version to go back to: they are what the configuration says.
        let is_configured = what == CONFIGURED;
        if let Some(earlier) = earlier {
            states.push((earlier, VersionState::Retired, format!("{} took its place", digest.short())));
        }
        let detail = json!({ "version": build.manifest.version, "before": earlier });
        let happened = self.happened(id, *digest, (what, why), detail);
        let next = Deployment {
            active: Some(*digest),
            before: if is_configured { from.before } else { earlier },
            canary: None,
            shadow: None,
            noticed: if is_configured { from.noticed } else { Some(*digest) },
            why: why.to_owned(),
            ..from.clone()
        };
        let written = self.write(next, states, vec![happened]).await?;
        self.observe(id, *digest).await;
        metrics::counter!("swaps_total", "plugin" => id.to_string(), "what" => what.to_owned()).increment(1);
        Ok(written)
    }

    /// What was active serves again, or what is new in the folder, if it may.
    async fn resume(
        &self,
        deployment: Deployment,
        active: Proposal,
        folder: Result<Build, chela_sandbox::Error>,
    ) -> Result<Plugged, Error> {
        let id = active.id.clone();
        let mut edition = self.load(&active).await;
        let fresh = match folder {
            Ok(build) if build.digest() == active.build.digest() => None,
            Ok(build) => Some(Proposal::new(&id, build, active.settled.clone())),
            Err(error) => {
                tracing::warn!(plugin = %id, %error, "what is in the folder is refused; the kept version serves");
                None
            }
        };
        let mut plugged = None;
        if let Some(fresh) = fresh {
            let manifest = (&*active.build.manifest.version, asks(&active.build));
            let finding = match &edition {
                // A version that serves no more cannot be asked to.
                Err(_) => Finding::Serve,
                Ok(_) => self.consider(&deployment, manifest, &fresh).await?,
            };
            match self.found(&deployment, fresh, finding).await? {
                Found::Serving(new, written) => {
                    let mut next = Plugged::new(written, new);
                    if let Ok(before) = edition {
                        self.watch(&mut next, before, true);
                    }
                    return Ok(next);
                }
                Found::Staying { deployment, .. } => {
                    edition = edition.map(|edition| {
                        plugged = Some(deployment);
                        edition
                    });
                }
            }
        }
        let deployment = plugged.unwrap_or(deployment);
        let edition = edition?;
        let deployment = match deployment.active {
            Some(digest) if digest == edition.digest() => deployment,
            _ => self.activate(&deployment, &active, (CONFIGURED, "its settings were changed")).await?,
        };
        let mut plugged = Plugged::new(deployment, edition);
        self.beside(&mut plugged, &active.settled).await;
        Ok(plugged)
    }

    /// What ran beside the active version when the host stopped.
    async fn beside(&self, plugged: &mut Plugged, settled: &Settled) {
        let Deployment { before, canary, shadow, since, .. } = plugged.deployment.clone();
        let watch = self.config.swap.watch;
        let watched = self.below.clock.now().since(since);
        if let Some(digest) = before.filter(|_| watched < watch)
            && let Some(before) = self.kept(plugged, digest, settled).await
        {
            self.watch(plugged, before, true);
            plugged.watch_until = Instant::now().checked_add(watch.saturating_sub(watched));
        }
        if let Some((digest, share)) = canary
            && let Some(edition) = self.kept(plugged, digest, settled).await
        {
            edition.release.watch(Some(watching(self.tell, &plugged.active, self.config, true)));
            plugged.canary = Some((edition, share));
        }
        if let Some(digest) = shadow {
            plugged.shadow = self.kept(plugged, digest, settled).await;
        }
    }

    async fn kept_build(&self, id: &PluginId, version: &Version) -> Result<Build, Error> {
        kept_build(&self.below.store, &self.below.sandbox, id, version).await
    }

    async fn kept(&self, plugged: &Plugged, digest: Digest, settled: &Settled) -> Option<Arc<Edition>> {
        let id = &plugged.deployment.plugin;
        let loaded = async {
            let version = self.below.store.version(&self.config.tenant, id, digest).await?;
            let version = version.ok_or_else(|| Error::Configuration("it is not kept".to_owned()))?;
            let build = self.kept_build(id, &version).await?;
            self.load(&Proposal::new(id, build, settled.clone())).await
        };
        match loaded.await {
            Ok(edition) => Some(edition),
            Err(error) => {
                tracing::warn!(plugin = %id, version = %digest.short(), %error, "a version beside the active one cannot be loaded");
                None
            }
        }
    }

    /// From now on the active version is held against the one before, which takes over where it fails.
    fn watch(&self, plugged: &mut Plugged, before: Arc<Edition>, on_trial: bool) {
        let watch = self.config.swap.watch;
        // What the operator has taken from a plugin, no version before gets back.
        if watch.is_zero() || before.settled != plugged.active.settled {
            plugged.drain(&before);
            return;
        }
        plugged.active.release.watch(Some(watching(self.tell, &before, self.config, on_trial)));
        plugged.before = Some(before);
        plugged.watch_until = Instant::now().checked_add(watch);
    }

    /// What is to be made of a build in a folder that is not the active one's.
    async fn consider(
        &self,
        deployment: &Deployment,
        (serves, approved): (&str, Vec<String>),
        fresh: &Proposal,
    ) -> Result<Finding, Error> {
        let Proposal { id, build, digest, .. } = fresh;
        let known = self.below.store.version(&self.config.tenant, id, *digest).await?;
        if let Some(version) = known
            .filter(|version| version.state == VersionState::Refused || deployment.noticed == Some(*digest))
        {
            return Ok(Finding::Known(version.state, version.reason));
        }
        if is_lower(&build.manifest.version, serves) {
            let (from, to) = (serves.to_owned(), build.manifest.version.clone());
            let refused = SwapRefused::Downgrade { plugin: id.clone(), from, to };
            return Ok(Finding::Stay(VersionState::Waiting, refused.to_string()));
        }
        let asked = more(&asks(build), &approved);
        if !asked.is_empty() {
            let refused = SwapRefused::AsksMore { plugin: id.clone(), asked };
            return Ok(Finding::Stay(VersionState::Waiting, refused.to_string()));
        }
        Ok(match self.config.swap.reload {
            Reload::Auto => Finding::Serve,
            Reload::Manual => {
                let why = format!("chela plugin promote {id}, or shadow or canary before that");
                Finding::Stay(VersionState::Ready, why)
            }
        })
    }

    /// Loads what was found, keeps it, and writes down what becomes of it.
    async fn found(
        &self,
        deployment: &Deployment,
        fresh: Proposal,
        finding: Finding,
    ) -> Result<Found, Error> {
        let id = fresh.id.clone();
        let (state, why) = match finding {
            Finding::Known(state, why) => {
                return Ok(Found::Staying { deployment: deployment.clone(), state, why });
            }
            Finding::Stay(state, why) => (state, why),
            Finding::Serve => (VersionState::Ready, String::new()),
        };
        let loaded = self.load(&fresh).await;
        let (state, why) = match (&loaded, why) {
            (Err(error), _) => (VersionState::Refused, error.to_string()),
            (Ok(edition), why) if why.is_empty() => {
                let why = "found in its folder";
                let written = self.activate(deployment, &fresh, ("promoted", why)).await?;
                return Ok(Found::Serving(Arc::clone(edition), written));
            }
            (Ok(_), why) => (state, why),
        };
        let what = if state == VersionState::Ready { "noticed" } else { state.as_str() };
        let detail = json!({ "version": fresh.build.manifest.version });
        let happened = self.happened(&id, fresh.digest, (what, &why), detail);
        self.keep(&fresh, (state, &why), vec![happened]).await?;
        let next = Deployment { noticed: Some(fresh.digest), ..deployment.clone() };
        // Since when the active one serves has not changed.
        let tenant = self.config.tenant.clone();
        let noticed = Deploy { tenant, deployment: next, states: Vec::new(), happened: Vec::new() };
        let deployment = self.below.store.deploy(noticed).await?;
        tracing::warn!(plugin = %id, version = %fresh.digest.short(), why, "a version was found and does not serve");
        Ok(Found::Staying { deployment, state, why })
    }
}

/// What an event is called whose cause is the configuration.
const CONFIGURED: &str = "configured";

/// What became of what was found.
enum Found {
    Serving(Arc<Edition>, Deployment),
    Staying { deployment: Deployment, state: VersionState, why: String },
}

/// Whether a manifest's version is lower than another's. Both were read as semantic when the manifests were.
fn is_lower(version: &str, than: &str) -> bool {
    let parse = |text: &str| semver::Version::parse(text).ok();
    parse(version).zip(parse(than)).is_some_and(|(version, than)| version.cmp_precedence(&than).is_lt())
}

/// Looks at everything that a configuration names. Nothing has changed if it fails.
pub(super) async fn reload(
    fleet: &Fleet,
    state: &mut State,
    update: Update,
    who: &Who,
) -> Result<Reloaded, Error> {
    refresh(fleet, state).await?;
    let is_applied = update.apply || state.config.swap.reload == Reload::Auto;
    let config = if is_applied { Arc::new(update.config) } else { Arc::clone(&state.config) };
    let work = Work { below: &fleet.below, tell: fleet.tell(), config: &config, who, progress: &|_, _| {} };
    let mut report = Reloaded::default();
    let mut plugins = BTreeMap::new();
    for id in used(&config) {
        let plugged = match state.plugins.get(&id) {
            Some(standing) => work.look(standing, &id, &mut report).await?,
            None => {
                let deployed = fleet.below.store.deployments(&config.tenant).await?;
                let deployed = deployed.into_iter().find(|deployment| deployment.plugin == id);
                report.changed.push(format!("plugin {id} is used now"));
                plug((&fleet.below, fleet.tell()), (&config, &id, deployed), &|_, _| {}).await?
            }
        };
        plugins.insert(id, plugged);
    }
    let gone = state.plugins.keys().filter(|id| !plugins.contains_key(*id));
    report.changed.extend(gone.map(|id| format!("plugin {id} is used no more")));
    let gateway = update.gateway.filter(|_| is_applied);
    fleet.settle(state, (config, gateway), plugins)?;
    Ok(report)
}

/// What is written down may have been changed by another, or by a write whose outcome was not heard.
async fn refresh(fleet: &Fleet, state: &mut State) -> Result<(), Error> {
    for deployment in fleet.below.store.deployments(&state.config.tenant).await? {
        if let Some(plugged) = state.plugins.get_mut(&deployment.plugin) {
            plugged.deployment = deployment;
        }
    }
    Ok(())
}

impl Work<'_> {
    /// A plugin as it stands after a look into its folder and at its settings.
    async fn look(&self, standing: &Plugged, id: &PluginId, report: &mut Reloaded) -> Result<Plugged, Error> {
        let settled = self.settled(id)?;
        let mut next = standing.copy();
        let active = &standing.active;
        match self.below.sandbox.read(id, self.source(id)?).await {
            Err(error) => {
                let why = error.to_string();
                if next.refused.as_ref() != Some(&why) {
                    let refused = Happened {
                        digest: None,
                        ..self.happened(id, active.digest(), ("refused", &why), Value::Null)
                    };
                    self.below.store.happened(&self.config.tenant, refused).await?;
                    metrics::counter!("swap_refused_total", "plugin" => id.to_string()).increment(1);
                    tracing::warn!(plugin = %id, %error, "what is in the folder is refused; the old version serves");
                    next.refused = Some(why.clone());
                }
                report.refused.push((id.to_string(), why));
            }
            Ok(build) if build.digest() == active.build => next.refused = None,
            Ok(build) => {
                next.refused = None;
                let fresh = Proposal::new(id, build, settled.clone());
                let manifest = (&*active.release.version, active.asks.clone());
                let finding = self.consider(&standing.deployment, manifest, &fresh).await?;
                match self.found(&standing.deployment, fresh, finding).await? {
                    Found::Serving(edition, written) => {
                        report
                            .changed
                            .push(format!("plugin {id} is version {} now", edition.digest().short()));
                        return Ok(self.replace(standing, edition, written, true));
                    }
                    Found::Staying { deployment, state, why } => {
                        next.deployment = deployment;
                        let what = if state == VersionState::Refused {
                            metrics::counter!("swap_refused_total", "plugin" => id.to_string()).increment(1);
                            &mut report.refused
                        } else {
                            &mut report.waiting
                        };
                        what.push((id.to_string(), why));
                    }
                }
            }
        }
        if settled == active.settled {
            return Ok(next);
        }
        let version = self.below.store.version(&self.config.tenant, id, active.digest()).await?;
        let version = version.ok_or_else(|| Error::Configuration(format!("plugin `{id}` is not kept")))?;
        let build = self.kept_build(id, &version).await?;
        let proposal = Proposal::new(id, build, settled);
        let edition = self.load(&proposal).await?;
        let why = "its settings were changed";
        let written = self.activate(&next.deployment, &proposal, (CONFIGURED, why)).await?;
        report.changed.push(format!("plugin {id} is configured otherwise"));
        Ok(self.replace(&next, edition, written, false))
    }

    /// A version in the active one's place.
    fn replace(
        &self,
        standing: &Plugged,
        edition: Arc<Edition>,
        written: Deployment,
        on_trial: bool,
    ) -> Plugged {
        let mut next = Plugged::new(written, edition);
        next.draining = standing.draining.clone();
        let active = next.active.digest();
        for other in standing.editions().skip(1).filter(|it| it.digest() != active) {
            next.drain(other);
        }
        self.watch(&mut next, Arc::clone(&standing.active), on_trial);
        next
    }
}

/// Carries an order out.
pub(super) async fn order(fleet: &Fleet, id: &PluginId, order: Order, who: &Who) -> Result<(), Error> {
    let mut state = fleet.state.lock().await;
    refresh(fleet, &mut state).await?;
    let config = Arc::clone(&state.config);
    let work = Work { below: &fleet.below, tell: fleet.tell(), config: &config, who, progress: &|_, _| {} };
    let standing = state.plugins.get(id).ok_or_else(|| SwapRefused::NoPlugin(id.to_string()))?;
    let next = match order {
        Order::Shadow { candidate } => work.shadow(standing, &candidate).await?,
        Order::Canary { percent: 0, .. } | Order::Stop => work.stop(standing, "stopped", "").await?,
        Order::Canary { candidate, percent, approve } => {
            work.canary(standing, &candidate, (percent, approve)).await?
        }
        Order::Promote { candidate, approve, downgrade, unproven } => {
            let allowed = Allowed { approve, downgrade, unproven };
            work.promote(standing, &candidate, allowed).await?
        }
        Order::Rollback { why } => work.roll_back(standing, &why).await?,
    };
    state.plugins.insert(id.clone(), next);
    fleet.rebuild(&mut state)
}

/// What an operator says beforehand that he means.
struct Allowed {
    approve: bool,
    downgrade: bool,
    unproven: bool,
}

impl Work<'_> {
    /// The version that an order means, under the settings that hold now.
    async fn candidate(&self, standing: &Plugged, candidate: &Candidate) -> Result<Proposal, Error> {
        let id = &standing.deployment.plugin;
        let settled = self.settled(id)?;
        if let Some(digits) = &candidate.digest {
            let version = self.named(id, digits).await?;
            return Ok(Proposal::new(id, self.kept_build(id, &version).await?, settled));
        }
        if let Some(folder) = &candidate.folder {
            let build = self.below.sandbox.read(id, chela_sandbox::Source::Folder(folder.clone())).await?;
            return Ok(Proposal::new(id, build, settled));
        }
        let beside = standing.canary.as_ref().map(|(edition, _)| edition).or(standing.shadow.as_ref());
        let noticed = beside.map(|edition| edition.digest());
        if let Some(digest) = noticed
            && let Some(version) = self.below.store.version(&self.config.tenant, id, digest).await?
        {
            return Ok(Proposal::new(id, self.kept_build(id, &version).await?, settled));
        }
        let build = self.below.sandbox.read(id, self.source(id)?).await?;
        if build.digest() == standing.active.build {
            return Err(SwapRefused::NothingNew { plugin: id.clone() }.into());
        }
        Ok(Proposal::new(id, build, settled))
    }

    async fn named(&self, id: &PluginId, digits: &str) -> Result<Version, Error> {
        let digest = digits.to_ascii_lowercase();
        let versions = self.below.store.versions(&self.config.tenant, Some(id), VERSIONS_MAX).await?;
        let mut found =
            versions.into_iter().filter(|version| version.digest.to_string().starts_with(&digest));
        let plugin = id.clone();
        match (found.next(), found.next()) {
            (Some(one), None) if digest.len() >= DIGITS_MIN => Ok(one),
            (Some(_), _) => Err(SwapRefused::Ambiguous { plugin, digest }.into()),
            (None, _) => Err(SwapRefused::NoVersion { plugin, digest }.into()),
        }
    }

    /// The version that an order means, loaded and kept; not the active one.
    async fn prepared(
        &self,
        standing: &Plugged,
        candidate: &Candidate,
    ) -> Result<(Proposal, Arc<Edition>), Error> {
        let proposal = self.candidate(standing, candidate).await?;
        if proposal.digest == standing.active.digest() {
            let (plugin, digest) = (proposal.id, proposal.digest.short());
            return Err(SwapRefused::Active { plugin, digest }.into());
        }
        let edition = match standing.loaded(proposal.digest) {
            Some(edition) => Arc::clone(edition),
            None => self.load(&proposal).await?,
        };
        let known = self.below.store.version(&self.config.tenant, &proposal.id, proposal.digest).await?;
        if known.is_none() {
            self.keep(&proposal, (VersionState::Ready, ""), Vec::new()).await?;
        }
        Ok((proposal, edition))
    }

    async fn shadow(&self, standing: &Plugged, candidate: &Candidate) -> Result<Plugged, Error> {
        let (proposal, edition) = self.prepared(standing, candidate).await?;
        let next = Deployment { shadow: Some(proposal.digest), ..standing.deployment.clone() };
        let written = self.noted(next, &proposal, ("shadow", ""), json!({})).await?;
        let mut plugged = Plugged { deployment: written, ..standing.copy() };
        plugged.shadow = Some(edition);
        Ok(plugged)
    }

    async fn canary(
        &self,
        standing: &Plugged,
        candidate: &Candidate,
        (percent, approve): (u8, bool),
    ) -> Result<Plugged, Error> {
        if percent > 100 {
            return Err(SwapRefused::Percent(percent).into());
        }
        let (proposal, edition) = self.prepared(standing, candidate).await?;
        self.approved(standing, &proposal, approve)?;
        let next = Deployment { canary: Some((proposal.digest, percent)), ..standing.deployment.clone() };
        let detail = json!({ "percent": percent });
        let written = self.noted(next, &proposal, ("canary", ""), detail).await?;
        let mut plugged = Plugged { deployment: written, ..standing.copy() };
        let is_new = plugged.canary.as_ref().is_none_or(|(it, _)| it.digest() != edition.digest());
        if is_new {
            edition.release.watch(Some(watching(self.tell, &standing.active, self.config, true)));
        }
        plugged.canary = Some((edition, percent));
        Ok(plugged)
    }

    /// Writes down what runs beside the active version, whose own time goes on.
    async fn noted(
        &self,
        next: Deployment,
        proposal: &Proposal,
        what: (&str, &str),
        detail: Value,
    ) -> Result<Deployment, Error> {
        let Proposal { id, digest, .. } = proposal;
        let happened = vec![self.happened(id, *digest, what, detail)];
        let states = vec![(*digest, VersionState::Ready, String::new())];
        let tenant = self.config.tenant.clone();
        Ok(self.below.store.deploy(Deploy { tenant, deployment: next, states, happened }).await?)
    }

    fn approved(&self, standing: &Plugged, proposal: &Proposal, approve: bool) -> Result<(), Error> {
        let asked = more(&asks(&proposal.build), &standing.active.asks);
        match asked.is_empty() || approve {
            true => Ok(()),
            false => Err(SwapRefused::AsksMore { plugin: proposal.id.clone(), asked }.into()),
        }
    }

    async fn promote(
        &self,
        standing: &Plugged,
        candidate: &Candidate,
        allowed: Allowed,
    ) -> Result<Plugged, Error> {
        let (proposal, edition) = self.prepared(standing, candidate).await?;
        self.approved(standing, &proposal, allowed.approve)?;
        let (from, to) = (&standing.active.release.version, &proposal.build.manifest.version);
        if is_lower(to, from) && !allowed.downgrade {
            let (from, to) = (from.clone(), to.clone());
            return Err(SwapRefused::Downgrade { plugin: proposal.id.clone(), from, to }.into());
        }
        if !allowed.unproven {
            self.proven(&proposal, &edition)?;
        }
        let written = self.activate(&standing.deployment, &proposal, ("promoted", "ordered")).await?;
        // A canary that has served its share has had its trial.
        let is_tried = standing.canary.as_ref().is_some_and(|(it, _)| {
            it.digest() == edition.digest()
                && !edition.release.is_on_trial()
                && !edition.release.is_withdrawn()
        });
        edition.release.watch(None);
        edition.release.reinstate();
        Ok(self.replace(standing, edition, written, !is_tried))
    }

    fn proven(&self, proposal: &Proposal, edition: &Edition) -> Result<(), Error> {
        let needs = &self.config.swap.shadow;
        let (compared, percent) = edition.release.tally.differences();
        let plugin = proposal.id.clone();
        if compared < u64::from(needs.calls_min) {
            let why = format!("{compared} of {} calls were compared in shadow", needs.calls_min);
            return Err(SwapRefused::Unproven { plugin, why }.into());
        }
        if needs.calls_min > 0 && percent > f64::from(needs.differences_percent) {
            let why = format!("{percent:.1} % of them differ, at most {} % may", needs.differences_percent);
            return Err(SwapRefused::Unproven { plugin, why }.into());
        }
        Ok(())
    }

    /// Ends what runs beside the active version.
    async fn stop(&self, standing: &Plugged, what: &str, why: &str) -> Result<Plugged, Error> {
        let digest = standing.active.digest();
        let id = &standing.deployment.plugin;
        let beside: Vec<&Arc<Edition>> =
            standing.canary.iter().map(|(it, _)| it).chain(&standing.shadow).collect();
        let happened = beside.iter().map(|it| self.happened(id, it.digest(), (what, why), Value::Null));
        let happened: Vec<Happened> = happened.collect();
        let next = Deployment { canary: None, shadow: None, ..standing.deployment.clone() };
        let tenant = self.config.tenant.clone();
        let deploy = Deploy { tenant, deployment: next, states: Vec::new(), happened };
        let deployment = self.below.store.deploy(deploy).await?;
        let mut plugged = Plugged { deployment, ..standing.copy() };
        for edition in beside.into_iter().filter(|it| it.digest() != digest) {
            edition.release.watch(None);
            plugged.drain(edition);
        }
        (plugged.canary, plugged.shadow) = (None, None);
        Ok(plugged)
    }

    /// Goes back: from a canary or a shadow to none, else from the active version to the one before.
    async fn roll_back(&self, standing: &Plugged, why: &str) -> Result<Plugged, Error> {
        if standing.canary.is_some() || standing.shadow.is_some() {
            return self.stop(standing, "rolled back", why).await;
        }
        self.back(standing, (VersionState::Retired, why)).await
    }

    async fn back(&self, standing: &Plugged, (state, why): (VersionState, &str)) -> Result<Plugged, Error> {
        let id = &standing.deployment.plugin;
        let no_before = || Error::from(SwapRefused::NoBefore { plugin: id.clone() });
        let digest = standing.deployment.before.ok_or_else(no_before)?;
        let version = self.below.store.version(&self.config.tenant, id, digest).await?;
        let build = self.kept_build(id, &version.ok_or_else(no_before)?).await?;
        let proposal = Proposal::new(id, build, self.settled(id)?);
        let edition = match standing.loaded(proposal.digest) {
            Some(edition) => Arc::clone(edition),
            None => self.load(&proposal).await?,
        };
        self.keep(&proposal, (VersionState::Ready, ""), Vec::new()).await?;
        let left = standing.active.digest();
        let reason = format!("rolled back: {why}");
        let states = vec![(proposal.digest, VersionState::Ready, String::new()), (left, state, reason)];
        let detail = json!({ "from": left });
        let happened = self.happened(id, proposal.digest, ("rolled back", why), detail);
        let next = Deployment {
            active: Some(proposal.digest),
            before: None,
            canary: None,
            shadow: None,
            why: why.to_owned(),
            ..standing.deployment.clone()
        };
        let written = self.write(next, states, vec![happened]).await?;
        self.observe(id, proposal.digest).await;
        edition.release.reinstate();
        let mut plugged = Plugged::new(written, edition);
        plugged.draining = standing.draining.clone();
        let active = plugged.active.digest();
        for other in standing.editions().filter(|it| it.digest() != active) {
            other.release.watch(None);
            plugged.drain(other);
        }
        Ok(plugged)
    }
}

/// A version that the watch has judged goes: the one before serves again, or the canary ends.
pub(super) async fn withdraw(fleet: &Fleet, verdict: &Verdict) -> Result<(), Error> {
    let who = Who::watch();
    let mut state = fleet.state.lock().await;
    refresh(fleet, &mut state).await?;
    let config = Arc::clone(&state.config);
    let work =
        Work { below: &fleet.below, tell: fleet.tell(), config: &config, who: &who, progress: &|_, _| {} };
    let Some(standing) = state.plugins.get(&verdict.plugin) else { return Ok(()) };
    let is_canary = standing.canary.as_ref().is_some_and(|(it, _)| it.digest() == verdict.digest);
    let next = if is_canary {
        let next = work.stop(standing, "rolled back", &verdict.why).await?;
        work.refuse(verdict).await?;
        next
    } else if standing.active.digest() == verdict.digest {
        work.back(standing, (VersionState::Refused, &verdict.why)).await?
    } else {
        return Ok(()); // somebody was quicker
    };
    state.plugins.insert(verdict.plugin.clone(), next);
    fleet.rebuild(&mut state)
}

impl Work<'_> {
    async fn refuse(&self, verdict: &Verdict) -> Result<(), Error> {
        let store = &self.below.store;
        let known = store.version(&self.config.tenant, &verdict.plugin, verdict.digest).await?;
        let Some(version) = known else { return Ok(()) };
        let version = Version {
            state: VersionState::Refused,
            reason: format!("rolled back: {}", verdict.why),
            since: self.below.clock.now(),
            by: self.who.0.clone(),
            ..version
        };
        Ok(store.keep_version(&self.config.tenant, version, Vec::new()).await?)
    }
}
