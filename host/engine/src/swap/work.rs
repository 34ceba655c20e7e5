//! A change of what serves, step by step: load, keep, write down, watch. Whatever the cause (a folder, an order, the
//! watch), it is made of these, and is written down with who, when and why before it serves.

use chela_sandbox::{Build, Progress};
use chela_store::{Deploy, Deployment, Happened, Version, VersionState};
use chela_types::{Digest, PluginId};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

use super::edition::{Edition, OnProgress, Settled, asks, more};
use super::fleet::{Below, Fleet, Plugged, check_strangers, kept_build, station, watching};
use super::refused::SwapRefused;
use super::release::Verdict;
use super::status::Who;
use crate::config::{Config, Reload};
use crate::error::Error;

/// What a change is made with.
pub(super) struct Work<'a> {
    pub(super) below: &'a Below,
    pub(super) tell: &'a UnboundedSender<Verdict>,
    pub(super) config: &'a Config,
    pub(super) who: &'a Who,
    pub(super) progress: OnProgress<'a>,
    /// Once it runs: whom to tell what is loaded.
    pub(super) fleet: Option<&'a Fleet>,
}

/// A build under the settings that hold now.
pub(super) struct Proposal {
    pub(super) id: PluginId,
    pub(super) build: Build,
    pub(super) settled: Settled,
    pub(super) digest: Digest,
}

impl Proposal {
    pub(super) fn new(id: &PluginId, build: Build, settled: Settled) -> Self {
        let digest = settled.digest(build.digest());
        Self { id: id.clone(), build, settled, digest }
    }
}

/// What is to be made of a build in a folder.
pub(super) enum Finding {
    /// It may serve.
    Serve,
    /// It may not by itself; why, and how it is kept.
    Stay(VersionState, String),
    /// It was seen before, and stays what it is.
    Known(VersionState, String),
}

impl<'a> Work<'a> {
    /// Of a fleet that runs.
    pub(super) fn of(fleet: &'a Fleet, config: &'a Config, who: &'a Who) -> Self {
        Self {
            below: &fleet.below,
            tell: fleet.tell(),
            config,
            who,
            progress: &|_, _| {},
            fleet: Some(fleet),
        }
    }
}

impl Work<'_> {
    pub(super) fn settled(&self, id: &PluginId) -> Result<Settled, Error> {
        Settled::of(self.config, id)?.ok_or_else(|| SwapRefused::NoPlugin(id.to_string()).into())
    }

    pub(super) fn source(&self, id: &PluginId) -> Result<chela_sandbox::Source, Error> {
        let plugin = self.config.plugins.get(id);
        Ok(plugin.ok_or_else(|| Error::from(SwapRefused::NoPlugin(id.to_string())))?.source.clone())
    }

    pub(super) async fn load(&self, proposal: &Proposal) -> Result<Arc<Edition>, Error> {
        let Proposal { id, build, settled, .. } = proposal;
        let loading = (id, build, settled.clone());
        let tell = |what: Option<String>| {
            if let Some(fleet) = self.fleet {
                fleet.tell_loading(id, what);
            }
        };
        let progress = |serves: &str, progress: Progress| {
            (self.progress)(serves, progress);
            tell(Some(format!("version {} for {serves}: {progress:?}", build.manifest.version)));
        };
        let loaded = Edition::load(&self.below.sandbox, loading, &progress).await;
        tell(None);
        let edition = loaded?;
        for channel in settled.channels.keys() {
            let station = station(self.below, self.config, channel, (&edition, None))?;
            check_strangers(self.config, channel, &station)?;
        }
        Ok(Arc::new(edition))
    }

    /// Keeps a version with its component, so that it can be loaded again whatever becomes of its folder.
    pub(super) async fn keep(
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

    /// What happened to a version; `detail` is an object, and gets what the manifest calls the version.
    pub(super) fn happened(
        &self,
        id: &PluginId,
        (digest, version): (Digest, &str),
        (what, why): (&str, &str),
        mut detail: Value,
    ) -> Happened {
        if let Value::Object(detail) = &mut detail {
            detail.insert("version".to_owned(), version.into());
        }
        Happened {
            plugin: Some(id.clone()),
            digest: Some(digest),
            what: what.to_owned(),
            by: self.who.0.clone(),
            why: why.to_owned(),
            detail,
        }
    }

    /// Another active version, from now on and by whoever does this.
    pub(super) fn now(
        &self,
        deployment: Deployment,
        states: Vec<(Digest, VersionState, String)>,
        happened: Vec<Happened>,
    ) -> Deploy {
        let deployment = Deployment { since: self.below.clock.now(), by: self.who.0.clone(), ..deployment };
        self.beside(deployment, states, happened)
    }

    /// The same active version since when it is, and something else with it.
    pub(super) fn beside(
        &self,
        deployment: Deployment,
        states: Vec<(Digest, VersionState, String)>,
        happened: Vec<Happened>,
    ) -> Deploy {
        Deploy { tenant: self.config.tenant.clone(), deployment, states, happened }
    }

    pub(super) async fn observe(&self, id: &PluginId, digest: Digest) {
        let Below { store, node, .. } = self.below;
        if let Err(error) = store.observe(&self.config.tenant, node, id, digest).await {
            tracing::warn!(%error, "what serves here could not be written down");
        }
    }

    /// Writes down that a version is active from now on.
    pub(super) async fn activate(
        &self,
        from: &Deployment,
        proposal: &Proposal,
        cause: Cause,
    ) -> Result<Deployment, Error> {
        let deploy = self.activation(from, proposal, cause).await?;
        let written = self.below.store.deploy(deploy).await?;
        self.activated(&written, cause).await;
        Ok(written)
    }

    /// Keeps a version, for it to be written down as the active one.
    pub(super) async fn activation(
        &self,
        from: &Deployment,
        proposal: &Proposal,
        (what, why): Cause,
    ) -> Result<Deploy, Error> {
        self.keep(proposal, (VersionState::Ready, ""), Vec::new()).await?;
        let Proposal { id, digest, build, .. } = proposal;
        let mut states = vec![(*digest, VersionState::Ready, String::new())];
        let earlier = from.active.filter(|earlier| earlier != digest);
        // The settings of a plugin are no version to go back to: they are what the configuration says.
        let is_configured = what == CONFIGURED;
        if let Some(earlier) = earlier {
            states.push((earlier, VersionState::Retired, format!("{} took its place", digest.short())));
        }
        let version = (*digest, &*build.manifest.version);
        let mut happened = vec![self.happened(id, version, (what, why), json!({ "before": earlier }))];
        // The host's own terminals are no news.
        happened.retain(|_| !id.as_str().starts_with(OWN));
        let next = Deployment {
            active: Some(*digest),
            before: if is_configured { from.before } else { earlier },
            canary: None,
            shadow: None,
            // An order may take what is in no folder: what was seen in the plugin's own stays seen.
            noticed: if is_configured || (what, why) == ORDERED { from.noticed } else { Some(*digest) },
            why: why.to_owned(),
            ..from.clone()
        };
        Ok(self.now(next, states, happened))
    }

    /// What was written down holds.
    pub(super) async fn activated(&self, written: &Deployment, (what, _): Cause) {
        let Deployment { plugin, active, .. } = written;
        if let Some(digest) = active {
            self.observe(plugin, *digest).await;
        }
        metrics::counter!("swaps_total", "plugin" => plugin.to_string(), "what" => what).increment(1);
    }

    pub(super) async fn kept_build(&self, id: &PluginId, version: &Version) -> Result<Build, Error> {
        kept_build(&self.below.store, &self.below.sandbox, id, version).await
    }

    /// From now on the active version is held against the one before, which takes over where it fails.
    pub(super) fn watch(&self, plugged: &mut Plugged, before: Arc<Edition>, on_trial: bool) {
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
    pub(super) async fn consider(
        &self,
        deployment: &Deployment,
        (serves, approved): (&str, Vec<String>),
        fresh: &Proposal,
    ) -> Result<Finding, Error> {
        let Proposal { id, build, digest, .. } = fresh;
        let versions = self.below.store.versions(&self.config.tenant, Some(id), VERSIONS_MAX).await?;
        let is_same_build =
            |version: &Version| version.component == build.component_digest && version.manifest == build.text;
        // What was sent back, or seen and not taken, stays so, whatever its settings are now; what was refused may have
        // been refused for its settings.
        let known = versions.into_iter().filter(is_same_build).find(|version| {
            version.reason.starts_with(ROLLED_BACK)
                || match version.state {
                    VersionState::Refused => version.digest == *digest,
                    _ => deployment.noticed == Some(version.digest),
                }
        });
        if let Some(version) = known {
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
            Reload::Manual => Finding::Stay(
                VersionState::Ready,
                "it waits for an order, as `reload` is \"manual\"".to_owned(),
            ),
        })
    }

    /// Loads what was found. What may not serve is kept, with why; what may is written down by who lets it serve.
    pub(super) async fn found(
        &self,
        deployment: &Deployment,
        fresh: Proposal,
        finding: Finding,
    ) -> Result<Found, Error> {
        let id = fresh.id.clone();
        let (state, why) = match finding {
            Finding::Known(state, why) => {
                let deployment = Box::new(deployment.clone());
                return Ok(Found::Staying { deployment, state, why, is_news: false });
            }
            Finding::Stay(state, why) => (state, why),
            Finding::Serve => (VersionState::Ready, String::new()),
        };
        let loaded = self.load(&fresh).await;
        let (state, why) = match (&loaded, why) {
            (Err(error), _) => (VersionState::Refused, error.to_string()),
            (Ok(edition), why) if why.is_empty() => {
                return Ok(Found::Serving(Arc::clone(edition), Box::new(fresh)));
            }
            (Ok(_), why) => (state, why),
        };
        let what = if state == VersionState::Ready { "noticed" } else { state.as_str() };
        let version = (fresh.digest, &*fresh.build.manifest.version);
        let happened = self.happened(&id, version, (what, &why), json!({}));
        self.keep(&fresh, (state, &why), vec![happened]).await?;
        let deployment = self.noticed(deployment, fresh.digest).await?;
        tracing::warn!(plugin = %id, version = %fresh.digest.short(), why, "a version was found and does not serve");
        Ok(Found::Staying { deployment: Box::new(deployment), state, why, is_news: true })
    }

    /// Writes down what lies in the folder.
    pub(super) async fn noticed(&self, deployment: &Deployment, digest: Digest) -> Result<Deployment, Error> {
        let next = Deployment { noticed: Some(digest), ..deployment.clone() };
        Ok(self.below.store.deploy(self.beside(next, Vec::new(), Vec::new())).await?)
    }

    /// A version in the active one's place.
    pub(super) fn replace(
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
        // Who is watched is the new one; what it was held against itself may go.
        standing.active.release.watch(None);
        self.watch(&mut next, Arc::clone(&standing.active), on_trial);
        next
    }
}

/// What the event is called that makes a version the active one, and why.
pub(super) type Cause = (&'static str, &'static str);

/// Of an order.
pub(super) const ORDERED: Cause = ("promoted", "ordered");

/// How names of the host's own plugins begin.
pub(super) const OWN: &str = "chela-";

/// How the reason of a version begins that was sent back.
pub(super) const ROLLED_BACK: &str = "rolled back: ";
/// Versions of a plugin that are looked through.
pub(super) const VERSIONS_MAX: usize = 1_000;

/// What an event is called whose cause is the configuration.
pub(super) const CONFIGURED: &str = "configured";

/// Of what was found and may serve.
pub(super) const FOUND: Cause = ("promoted", "found in its folder");
/// Of what is loaded again under other settings.
pub(super) const RECONFIGURED: Cause = (CONFIGURED, "its settings were changed");
/// Of what takes the place of a version that is lost.
pub(super) const RESTORED: Cause = ("restored", "what was active cannot be read any more");
/// Of the first version of a plugin.
pub(super) const FIRST: Cause = ("first", "the first version");

/// What became of what was found.
pub(super) enum Found {
    Serving(Arc<Edition>, Box<Proposal>),
    Staying {
        deployment: Box<Deployment>,
        state: VersionState,
        why: String,
        /// False if it was known already.
        is_news: bool,
    },
}

/// Whether a manifest's version is lower than another's. Both were read as semantic when the manifests were.
pub(super) fn is_lower(version: &str, than: &str) -> bool {
    let parse = |text: &str| semver::Version::parse(text).ok();
    parse(version).zip(parse(than)).is_some_and(|(version, than)| version.cmp_precedence(&than).is_lt())
}
