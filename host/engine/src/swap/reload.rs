//! What a configuration and the folders that it names make of the plugins. All is loaded and the house is built before
//! anything is written down to serve.

use chela_sandbox::Build;
use chela_store::{Happened, VersionState};
use chela_types::{Blame, Fault, PluginId};
use serde_json::{Value, json};

use super::change::Change;
use super::status::Reloaded;
use super::work::{FOUND, Finding, Proposal, ROLLED_BACK, Work, may_pass};
use crate::error::Error;

impl Work<'_> {
    /// A plugin after a look into its folder and at its settings.
    pub(super) async fn look(&self, change: &mut Change, report: &mut Reloaded) -> Result<(), Error> {
        let id = change.id().clone();
        let serves = change.plugged.active.digest();
        self.follow(change).await;
        if change.plugged.active.digest() != serves {
            let version = change.plugged.active.digest().short();
            report.changed.push(format!("plugin {id} follows version {version}"));
        }
        let folder = self.below.sandbox.read(&id, self.source(&id)?).await;
        self.take(change, folder, report).await?;
        let active = std::sync::Arc::clone(&change.plugged.active);
        match self.settled(&id, active.origin()) {
            Ok(settled) if settled == active.settled => change.plugged.closed = None,
            Ok(_) => {
                self.reconfigure(change).await?;
                report.changed.push(format!("plugin {id} is configured otherwise"));
            }
            // Nothing takes its place, and nothing else is held up by that.
            Err(error @ Error::Untrusted(_)) => self.closed(change, error.to_string(), report),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What lies in the folder takes over, if it may.
    pub(super) async fn take(
        &self,
        change: &mut Change,
        folder: Result<Build, chela_sandbox::Error>,
        report: &mut Reloaded,
    ) -> Result<(), Error> {
        let id = change.id().clone();
        let build = match folder {
            Ok(build) => build,
            Err(error) if error.blame() == Blame::Host => return Err(error.into()),
            Err(error) => {
                self.unusable(change, error.to_string(), report);
                return Ok(());
            }
        };
        let active = std::sync::Arc::clone(&change.plugged.active);
        if build.digest() == active.build {
            change.plugged.refused = None;
            // What lay there before is new again if it comes back.
            change.plugged.deployment.noticed = change.plugged.deployment.active;
            return Ok(());
        }
        let fresh = match self.proposal(&id, build) {
            Ok(fresh) => fresh,
            Err(error @ Error::Untrusted(_)) => {
                self.unusable(change, error.to_string(), report);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let approved = (&*active.release.version, &*active.asks);
        let stay = match self.consider(&change.plugged.deployment, approved, &fresh).await? {
            Finding::Known(state, why) => {
                change.plugged.refused = None;
                stays(report, &id, state, why);
                return Ok(());
            }
            Finding::Serve => None,
            Finding::Stay(state, why) => Some((state, why)),
        };
        match (self.load(&fresh).await, stay) {
            (Err(error), _) if error.blame() == Blame::Host => return Err(error),
            (Err(error), _) if may_pass(&error) => self.unusable(change, error.to_string(), report),
            (Err(error), _) => {
                self.noticed(change, fresh, (VersionState::Refused, error.to_string()), report);
            }
            (Ok(_), Some(stay)) => self.noticed(change, fresh, stay, report),
            (Ok(edition), None) => {
                report.changed.push(format!("plugin {id} is version {} now", edition.digest().short()));
                self.succeed(change, (fresh, edition), FOUND, false).await?;
            }
        }
        Ok(())
    }

    /// What is in the folder cannot be read, or not be loaded just now; it is looked at again.
    fn unusable(&self, change: &mut Change, why: String, report: &mut Reloaded) {
        if change.plugged.refused.as_ref() != Some(&why) {
            change.event(Happened {
                plugin: Some(change.id().clone()),
                digest: None,
                what: "refused".to_owned(),
                by: self.who.0.clone(),
                why: why.clone(),
                detail: Value::Null,
            });
            change.plugged.refused = Some(why.clone());
        }
        report.refused.push((change.id().to_string(), why));
    }

    /// What is active is trusted no more, and was closed; it stays written down as what serves until something else does.
    fn closed(&self, change: &mut Change, why: String, report: &mut Reloaded) {
        if change.plugged.closed.as_ref() != Some(&why) {
            let active = std::sync::Arc::clone(&change.plugged.active);
            let version = (active.digest(), &*active.release.version);
            change.event(self.happened(change.id(), version, ("closed", &why), json!({})));
            change.plugged.closed = Some(why.clone());
        }
        report.refused.push((change.id().to_string(), why));
    }

    /// What is in the folder is kept, and does not serve.
    fn noticed(
        &self,
        change: &mut Change,
        fresh: Proposal,
        (state, why): (VersionState, String),
        report: &mut Reloaded,
    ) {
        let id = change.id().clone();
        let what = if state == VersionState::Ready { "noticed" } else { state.as_str() };
        let version = (fresh.digest, &*fresh.build.manifest.version);
        change.event(self.happened(&id, version, (what, &why), json!({})));
        change.state(fresh.digest, state, why.clone());
        change.plugged.deployment.noticed = Some(fresh.digest);
        change.plugged.refused = None;
        change.keep(fresh, state, &why);
        stays(report, &id, state, why);
    }
}

/// Tells of a version that lies in a folder and does not serve.
fn stays(report: &mut Reloaded, id: &PluginId, state: VersionState, why: String) {
    let told = match state {
        _ if why.starts_with(ROLLED_BACK) => &mut report.kept_back,
        VersionState::Retired => &mut report.kept_back,
        VersionState::Refused => &mut report.refused,
        VersionState::Waiting | VersionState::Ready => &mut report.waiting,
    };
    told.push((id.to_string(), why));
}
