//! How a plugin comes to serve when the host starts, or begins to use it: what is deployed, from what is kept; and what
//! is new in its folder, if it may.

use chela_sandbox::Build;
use chela_store::{Deployment, Version, VersionState};
use chela_types::{Digest, PluginId};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

use super::edition::{Edition, OnProgress, Settled, asks};
use super::fleet::{Below, Plugged, kept_build, watching};
use super::release::Verdict;
use super::status::Who;
use super::work::{FIRST, FOUND, Finding, Found, Proposal, RECONFIGURED, RESTORED, Work};
use crate::config::Config;
use crate::error::Error;

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
    let work = Work { below, tell, config, who: &who, progress, fleet: None };
    let settled = work.settled(id)?;
    let source = work.source(id)?;
    let folder = below.sandbox.read(id, source).await;
    let Some((deployment, digest)) = deployed.and_then(|it| it.active.map(|digest| (it, digest))) else {
        return work.first(id, Proposal::new(id, folder?, settled)).await;
    };
    let version = below.store.version(&config.tenant, id, digest).await?;
    let kept = match &version {
        Some(version) => kept_build(&below.store, &below.sandbox, id, version).await,
        None => Err(Error::Configuration(format!("the active version of plugin `{id}` is not kept"))),
    };
    match (kept, folder) {
        (Ok(build), folder) => work.resume(deployment, Proposal::new(id, build, settled), folder).await,
        (Err(error), Ok(build)) => {
            let fresh = Proposal::new(id, build, settled);
            if let Some(version) = &version {
                work.may_restore(&deployment, version, &fresh).await?;
            }
            tracing::error!(plugin = %id, %error, "what was active cannot be read; what is in the folder serves");
            work.restored(deployment, fresh).await
        }
        (Err(error), Err(_)) => Err(error),
    }
}

impl Work<'_> {
    /// The first version of a plugin.
    pub(super) async fn first(&self, id: &PluginId, proposal: Proposal) -> Result<Plugged, Error> {
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
        let deployment = self.activate(&none, &proposal, FIRST).await?;
        Ok(Plugged::new(deployment, edition))
    }

    /// Whether what the folder holds may take the place of an active version whose component is lost: the same build
    /// may, another one as far as it might have by itself. A host that reloads by hand must start, too.
    async fn may_restore(
        &self,
        deployment: &Deployment,
        lost: &Version,
        fresh: &Proposal,
    ) -> Result<(), Error> {
        if lost.component == fresh.build.component_digest && lost.manifest == fresh.build.text {
            return Ok(());
        }
        match self.consider(deployment, (&lost.version, lost.asks.clone()), fresh).await? {
            Finding::Serve | Finding::Stay(VersionState::Ready, _) => Ok(()),
            Finding::Stay(_, why) | Finding::Known(_, why) => Err(Error::Configuration(format!(
                "the component of the active version of plugin `{}` is lost, and what its folder holds may not take its place: {why}",
                fresh.id
            ))),
        }
    }

    /// What was active is lost; what the folder holds takes its place.
    pub(super) async fn restored(&self, from: Deployment, proposal: Proposal) -> Result<Plugged, Error> {
        let edition = self.load(&proposal).await?;
        let deployment = self.activate(&from, &proposal, RESTORED).await?;
        Ok(Plugged::new(deployment, edition))
    }

    /// What was active serves again, or what is new in the folder, if it may.
    pub(super) async fn resume(
        &self,
        mut deployment: Deployment,
        active: Proposal,
        folder: Result<Build, chela_sandbox::Error>,
    ) -> Result<Plugged, Error> {
        let id = active.id.clone();
        let edition = self.load(&active).await;
        let fresh = match folder {
            Ok(build) if build.digest() == active.build.digest() => None,
            Ok(build) => Some(Proposal::new(&id, build, active.settled.clone())),
            Err(error) => {
                tracing::warn!(plugin = %id, %error, "what is in the folder is refused; the kept version serves");
                None
            }
        };
        if let Some(fresh) = fresh {
            let manifest = (&*active.build.manifest.version, asks(&active.build));
            let finding = match (self.consider(&deployment, manifest, &fresh).await?, &edition) {
                // Nobody can promote it by hand in a host that does not start.
                (Finding::Stay(VersionState::Ready, _), Err(_)) => Finding::Serve,
                (finding, _) => finding,
            };
            match self.found(&deployment, fresh, finding).await? {
                Found::Serving(new, fresh) => {
                    let written = self.activate(&deployment, &fresh, FOUND).await?;
                    let mut next = Plugged::new(written, new);
                    if let Ok(before) = edition {
                        self.watch(&mut next, before, true);
                    }
                    return Ok(next);
                }
                Found::Staying { deployment: noted, .. } => deployment = *noted,
            }
        }
        let edition = edition?;
        let deployment = match deployment.active {
            Some(digest) if digest == edition.digest() => {
                // The last process may have died between the deployment and its own word on it.
                self.observe(&id, digest).await;
                deployment
            }
            _ => self.activate(&deployment, &active, RECONFIGURED).await?,
        };
        let mut plugged = Plugged::new(deployment, edition);
        self.resume_beside(&mut plugged, &active.settled).await;
        Ok(plugged)
    }

    /// What ran beside the active version when the host stopped.
    pub(super) async fn resume_beside(&self, plugged: &mut Plugged, settled: &Settled) {
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

    pub(super) async fn kept(
        &self,
        plugged: &Plugged,
        digest: Digest,
        settled: &Settled,
    ) -> Option<Arc<Edition>> {
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
}
