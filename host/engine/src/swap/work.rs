//! What changes are worked out with: builds are read, loaded and held against what serves. Nothing here has an effect
//! but that components are compiled.

use chela_sandbox::{Build, Progress};
use chela_store::{Deployment, Version, VersionState};
use chela_types::{Blame, Digest, Fault, PluginId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

use super::edition::{Edition, OnProgress, Origin, Settled, asks, more};
use super::fleet::{Below, Fleet, kept_build};
use super::refused::SwapRefused;
use super::release::Verdict;
use super::state::{check_strangers, station};
use super::status::Who;
use crate::capability::check_requests;
use crate::config::{Config, Reload};
use crate::error::Error;
use crate::trust::Unsigned;

/// Versions that were loaded for a change that is worked out, in case it must be worked out again.
pub(super) type Ahead = Mutex<BTreeMap<(PluginId, Digest), Arc<Edition>>>;

/// What a change is worked out with.
pub(super) struct Work<'a> {
    pub(super) below: &'a Below,
    pub(super) tell: &'a UnboundedSender<Verdict>,
    pub(super) config: &'a Config,
    pub(super) who: &'a Who,
    pub(super) progress: OnProgress<'a>,
    pub(super) ahead: &'a Ahead,
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
    fn new(id: &PluginId, build: Build, settled: Settled) -> Self {
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
    pub(super) fn of(fleet: &'a Fleet, config: &'a Config, (who, ahead): (&'a Who, &'a Ahead)) -> Self {
        Self {
            below: &fleet.below,
            tell: fleet.tell(),
            config,
            who,
            progress: &|_, _| {},
            ahead,
            fleet: Some(fleet),
        }
    }
}

impl Work<'_> {
    /// How a build of a plugin is to serve, under the configuration that holds now.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn settled(&self, id: &PluginId, build: Origin<'_>) -> Result<Settled, Error> {
        Settled::of(self.config, id, build)?.ok_or_else(|| SwapRefused::NoPlugin(id.to_string()).into())
    }

    /// The one way in: a build is looked at for whether it may serve before anything of it runs.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn proposal(&self, id: &PluginId, build: Build) -> Result<Proposal, Error> {
        let settled = self.settled(id, (&build.provenance, build.component_digest))?;
        Ok(Proposal::new(id, build, settled))
    }

    /// Whether what is loaded is as it would be loaded now.
    pub(super) fn is_current(&self, edition: &Edition) -> bool {
        let now = self.settled(&edition.release.plugin, edition.origin());
        now.is_ok_and(|now| now == edition.settled)
    }

    pub(super) fn source(&self, id: &PluginId) -> Result<chela_sandbox::Source, Error> {
        let plugin = self.config.plugins.get(id);
        Ok(plugin.ok_or_else(|| Error::from(SwapRefused::NoPlugin(id.to_string())))?.source.clone())
    }

    /// Loads a version for each place where it is to serve.
    ///
    /// # Errors
    /// The first place in which it is refused, or the host's own trouble.
    pub(super) async fn load(&self, proposal: &Proposal) -> Result<Arc<Edition>, Error> {
        let Proposal { id, build, settled, digest } = proposal;
        let key = (id.clone(), *digest);
        if let Some(known) = self.ahead.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
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
        let edition = Arc::new(loaded?);
        for agent in settled.agents.keys() {
            let secrets = self.config.plugins.get(id).map(|plugin| &plugin.secrets);
            if let (Some(post), Some(secrets)) = (edition.agent(agent), secrets) {
                check_requests(&post.plugin, secrets)?;
            }
        }
        for channel in settled.channels.keys() {
            let station = station(self.below, self.config, channel, (&edition, None))?;
            check_strangers(self.config, channel, &station)?;
        }
        self.ahead.lock().insert(key, Arc::clone(&edition));
        Ok(edition)
    }

    /// A kept version again, under the settings that hold now.
    pub(super) async fn again(
        &self,
        id: &PluginId,
        digest: Digest,
    ) -> Result<(Proposal, Arc<Edition>), Error> {
        let version = self.below.store.version(&self.config.tenant, id, digest).await?;
        let version = version.ok_or_else(|| {
            Error::Configuration(format!("version {} of plugin `{id}` is not kept", digest.short()))
        })?;
        let proposal = self.proposal(id, self.kept_build(id, &version).await?)?;
        let edition = self.load(&proposal).await?;
        Ok((proposal, edition))
    }

    /// Keeps a version with its component, so that it can be loaded again whatever becomes of its folder.
    pub(super) async fn keep(
        &self,
        proposal: &Proposal,
        (state, reason): (VersionState, &str),
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
            provenance: build.provenance.text(),
            settings: settled.json(),
            asks: asks(build),
            state,
            reason: reason.to_owned(),
            since: now,
            by: self.who.0.clone(),
            noticed: now,
        };
        Ok(self.below.store.keep_version(&self.config.tenant, version).await?)
    }

    pub(super) async fn observe(&self, id: &PluginId, digest: Digest) {
        let Below { store, node, .. } = self.below;
        if let Err(error) = store.observe(&self.config.tenant, node, id, digest).await {
            tracing::warn!(%error, "what serves here could not be written down");
        }
    }

    pub(super) async fn kept_build(&self, id: &PluginId, version: &Version) -> Result<Build, Error> {
        kept_build(&self.below.store, &self.below.sandbox, id, version).await
    }

    /// What is to be made of a build in a folder that is not the active one's.
    pub(super) async fn consider(
        &self,
        deployment: &Deployment,
        (serves, approved): (&str, &[String]),
        fresh: &Proposal,
    ) -> Result<Finding, Error> {
        let Proposal { id, build, digest, .. } = fresh;
        let versions = self.below.store.versions(&self.config.tenant, Some(id), VERSIONS_MAX).await?;
        let provenance = build.provenance.text();
        let is_same_build = |version: &Version| {
            version.component == build.component_digest
                && version.manifest == build.text
                && version.provenance == provenance
        };
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
        if let Some(objection) = objection(self.config, (serves, approved), fresh) {
            return Ok(Finding::Stay(VersionState::Waiting, objection.to_string()));
        }
        Ok(match self.config.swap.reload {
            Reload::Auto => Finding::Serve,
            Reload::Manual => Finding::Stay(
                VersionState::Ready,
                "it waits for an order, as `reload` is \"manual\"".to_owned(),
            ),
        })
    }
}

/// Why a build may not take the place of what serves by itself.
pub(super) fn objection(
    config: &Config,
    (serves, approved): (&str, &[String]),
    fresh: &Proposal,
) -> Option<SwapRefused> {
    let Proposal { id, build, .. } = fresh;
    if is_passed_off(config, &build.manifest.version, serves) {
        return Some(SwapRefused::SameVersion { plugin: id.clone(), version: serves.to_owned() });
    }
    if is_lower(&build.manifest.version, serves) {
        let (from, to) = (serves.to_owned(), build.manifest.version.clone());
        return Some(SwapRefused::Downgrade { plugin: id.clone(), from, to });
    }
    let asked = more(&asks(build), approved);
    (!asked.is_empty()).then(|| SwapRefused::AsksMore { plugin: id.clone(), asked })
}

/// True for what says nothing of the version itself: the same may load the next time.
pub(super) fn may_pass(error: &Error) -> bool {
    use chela_sandbox::{Ending, Reason, Refusal};
    let Error::Sandbox(refused) = error else {
        return error.blame() == Blame::Host || matches!(error, Error::Untrusted(_));
    };
    matches!(&*refused.reason, Reason::Refused(Refusal::Preparation { ending, .. })
        if matches!(ending, Ending::TimedOut(_) | Ending::Crashed { .. }))
}

/// Whether another build calls itself what serves, where builds are signed: which of both its author means cannot be
/// told, and an old one with a hole in it would pass for the new one.
pub(super) fn is_passed_off(config: &Config, version: &str, serves: &str) -> bool {
    config.trust.unsigned == Unsigned::Refused && version == serves
}

/// What the event is called that makes a version the active one, and why.
pub(super) type Cause = (&'static str, &'static str);

/// Of an order.
pub(super) const ORDERED: Cause = ("promoted", "ordered");
/// Of what was found and may serve.
pub(super) const FOUND: Cause = ("promoted", "found in its folder");
/// Of what is loaded again under other settings.
pub(super) const RECONFIGURED: Cause = ("configured", "its settings were changed");
/// Of what takes the place of a version that is lost.
pub(super) const RESTORED: Cause = ("restored", "what was active cannot be loaded any more");
/// Of the first version of a plugin.
pub(super) const FIRST: Cause = ("first", "the first version");

/// How names of the host's own plugins begin.
pub(super) const OWN: &str = "chela-";
/// How the reason of a version begins that was sent back.
pub(super) const ROLLED_BACK: &str = "rolled back: ";
/// Versions of a plugin that are looked through.
pub(super) const VERSIONS_MAX: usize = 1_000;

/// Whether a manifest's version is lower than another's. Both were read as semantic when the manifests were.
pub(super) fn is_lower(version: &str, than: &str) -> bool {
    let parse = |text: &str| semver::Version::parse(text).ok();
    parse(version).zip(parse(than)).is_some_and(|(version, than)| version.cmp_precedence(&than).is_lt())
}
