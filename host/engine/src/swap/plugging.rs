//! How a plugin comes to serve when the host starts, or begins to use it: what is deployed, from what is kept; and what
//! is new in its folder, if it may.

use chela_sandbox::Build;
use chela_store::{Deployment, Version, VersionState};
use chela_types::{Digest, PluginId};
use std::sync::Arc;
use std::time::Instant;

use super::change::Change;
use super::edition::asks;
use super::state::Plugged;
use super::status::Reloaded;
use super::work::{FOUND, Finding, Proposal, RECONFIGURED, RESTORED, ROLLED_BACK, Work, objection};
use crate::error::Error;

impl Work<'_> {
    /// Plugs a plugin in: what is deployed serves, and what is new in its folder, if it may.
    ///
    /// # Errors
    /// No version of it can serve.
    pub(super) async fn plug(
        &self,
        id: &PluginId,
        deployed: Option<Deployment>,
        report: &mut Reloaded,
    ) -> Result<Change, Error> {
        let folder = self.below.sandbox.read(id, self.source(id)?).await;
        let Some((deployment, digest)) = deployed.and_then(|it| it.active.map(|digest| (it, digest))) else {
            let proposal = self.proposal(id, folder?)?;
            let edition = self.load(&proposal).await?;
            return Ok(self.first(proposal, edition));
        };
        let version = self.below.store.version(&self.config.tenant, id, digest).await?;
        let kept = match &version {
            Some(version) => self.kept_build(id, version).await,
            None => Err(Error::Configuration(format!("the active version of plugin `{id}` is not kept"))),
        };
        match (kept, folder) {
            (Ok(build), folder) => self.resume(deployment, (id, build), folder, report).await,
            (Err(error), Ok(build)) => {
                let fresh = self.proposal(id, build)?;
                if let Some(version) = &version {
                    self.may_restore(&deployment, version, &fresh).await?;
                }
                tracing::error!(plugin = %id, %error, "what was active cannot be read; what is in the folder serves");
                let edition = self.load(&fresh).await?;
                Ok(self.restored(deployment, fresh, edition, RESTORED))
            }
            (Err(error), Err(_)) => Err(error),
        }
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
        let Some(why) = self.forbids(deployment, (&lost.version, &lost.asks), fresh).await? else {
            return Ok(());
        };
        Err(Error::Configuration(format!(
            "the component of the active version of plugin `{}` is lost, and what its folder holds may not take its place: {why}",
            fresh.id
        )))
    }

    /// Why what the folder holds may not serve in the place of a version that cannot: nobody can promote it by hand in
    /// a host that does not start.
    async fn forbids(
        &self,
        deployment: &Deployment,
        approved: (&str, &[String]),
        fresh: &Proposal,
    ) -> Result<Option<String>, Error> {
        Ok(match self.consider(deployment, approved, fresh).await? {
            Finding::Serve | Finding::Stay(VersionState::Ready, _) => None,
            Finding::Known(VersionState::Ready, why) if !why.starts_with(ROLLED_BACK) => {
                objection(self.config, approved, fresh).map(|objection| objection.to_string())
            }
            Finding::Stay(_, why) | Finding::Known(_, why) => Some(why),
        })
    }

    /// What was active serves again, or what is new in the folder, if it may.
    async fn resume(
        &self,
        deployment: Deployment,
        (id, build): (&PluginId, Build),
        folder: Result<Build, chela_sandbox::Error>,
        report: &mut Reloaded,
    ) -> Result<Change, Error> {
        let active = match self.proposal(id, build.clone()) {
            Ok(active) => active,
            Err(error) => return self.instead(deployment, (id, &build), folder, error).await,
        };
        let edition = match self.load(&active).await {
            Ok(edition) => edition,
            Err(error) => return self.instead(deployment, (id, &build), folder, error).await,
        };
        let written = deployment.active;
        let mut change = Change::of(Plugged::new(deployment, edition));
        if written == Some(active.digest) {
            // The last process may have died between the deployment and its own word on it.
            self.observe(id, active.digest).await;
        } else {
            self.configured_meanwhile(&mut change, active, written);
        }
        self.resume_beside(&mut change).await;
        if let Err(error) = &folder {
            tracing::warn!(plugin = %id, %error, "what is in the folder is refused; the kept version serves");
        }
        self.take(&mut change, folder, report).await?;
        Ok(change)
    }

    /// What was active cannot be loaded any more, under the settings of now: what is in the folder, if it may serve.
    async fn instead(
        &self,
        deployment: Deployment,
        (id, active): (&PluginId, &Build),
        folder: Result<Build, chela_sandbox::Error>,
        error: Error,
    ) -> Result<Change, Error> {
        let Some(build) = folder.ok().filter(|build| build.digest() != active.digest()) else {
            return Err(error);
        };
        let fresh = self.proposal(id, build)?;
        let asked = asks(active);
        let approved = (&*active.manifest.version, &*asked);
        if self.forbids(&deployment, approved, &fresh).await?.is_some() {
            return Err(error);
        }
        tracing::error!(plugin = %id, %error, "what was active cannot be loaded; what is in the folder serves");
        let edition = self.load(&fresh).await?;
        Ok(self.restored(deployment, fresh, edition, FOUND))
    }

    /// The active version under settings that were changed while no host ran.
    fn configured_meanwhile(&self, change: &mut Change, active: Proposal, written: Option<Digest>) {
        change.plugged.deployment.active = Some(active.digest);
        change.plugged.deployment.since = self.below.clock.now();
        change.plugged.deployment.by.clone_from(&self.who.0);
        RECONFIGURED.1.clone_into(&mut change.plugged.deployment.why);
        self.activated(change, active, RECONFIGURED, written);
    }

    /// What stood behind and ran beside the active version when the host stopped.
    async fn resume_beside(&self, change: &mut Change) {
        let Deployment { proven, canary, shadow, since, .. } = change.plugged.deployment.clone();
        let watch = self.config.swap.watch;
        let watched = self.below.clock.now().since(since);
        if let Some(digest) = proven.filter(|_| watched < watch)
            && let Some(standby) = self.one_of(change, digest).await
        {
            change.plugged.deployment.proven = Some(standby.digest());
            let until = Instant::now().checked_add(watch.saturating_sub(watched));
            self.stand_behind(change, Some(standby), true, until);
        }
        if let Some((digest, share)) = canary {
            let edition = self.one_of(change, digest).await;
            if let Some(edition) = &edition {
                let active = Arc::clone(&change.plugged.active);
                change.watch(edition, Some(self.watching(&active, true)));
            }
            change.plugged.deployment.canary = edition.as_ref().map(|edition| (edition.digest(), share));
            change.plugged.canary = edition.map(|edition| (edition, share));
        }
        if let Some(digest) = shadow {
            change.plugged.shadow = self.one_of(change, digest).await;
            change.plugged.deployment.shadow = change.plugged.shadow.as_ref().map(|it| it.digest());
        }
    }
}
