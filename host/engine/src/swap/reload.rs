//! What a reload makes of a configuration and of the folders that it names. All is loaded and the house is built before
//! anything is written down to serve; then it is written down, and the house is replaced once.

use chela_store::{Happened, VersionState};
use chela_types::PluginId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::fleet::{Fleet, Plugged, State, Update, used};
use super::plugging::plug;
use super::status::{Reloaded, Who};
use super::work::{Cause, FOUND, Found, Proposal, RECONFIGURED, ROLLED_BACK, Work};
use crate::config::Reload;
use crate::error::Error;

/// Looks at everything that a configuration names. Nothing has changed if it fails.
pub(super) async fn reload(fleet: &Fleet, update: Update, who: &Who) -> Result<Reloaded, Error> {
    let (_right, mut state) = fleet.change().await;
    refresh(fleet, &mut state).await?;
    let is_applied = update.apply || state.config.swap.reload == Reload::Auto;
    let config = if is_applied { Arc::new(update.config) } else { Arc::clone(&state.config) };
    let work = Work::of(fleet, &config, who);
    let mut report = Reloaded { applied: is_applied, ..Reloaded::default() };
    let (mut plugins, mut shall_serve) = (BTreeMap::new(), Vec::new());
    for id in used(&config) {
        let plugged = match state.plugins.get(&id) {
            Some(standing) => {
                let (plugged, activation) = work.look(standing, &id, &mut report).await?;
                shall_serve.extend(activation);
                plugged
            }
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
    let gateway = gateway.unwrap_or_else(|| state.gateway.clone());
    let mut next = State::new(Arc::clone(&config), gateway, plugins, &state);
    let house = fleet.built(&mut next)?;
    let (mut deploys, mut causes) = (Vec::new(), Vec::new());
    for Activation { proposal, cause } in shall_serve {
        if let Some(plugged) = next.plugins.get(&proposal.id) {
            deploys.push(work.activation(&plugged.deployment, &proposal, cause).await?);
            causes.push(cause);
        }
    }
    for (written, cause) in fleet.below.store.deploy_all(deploys).await?.into_iter().zip(causes) {
        work.activated(&written, cause).await;
        if let Some(plugged) = next.plugins.get_mut(&written.plugin) {
            plugged.deployment = written;
        }
    }
    fleet.serve(next, house);
    Ok(report)
}

/// A version that shall be written down as the active one, as soon as it is known that all the others can serve as well.
struct Activation {
    proposal: Proposal,
    cause: Cause,
}

/// What is written down may have been changed by another, or by a write whose outcome was not heard.
pub(super) async fn refresh(fleet: &Fleet, state: &mut State) -> Result<(), Error> {
    for deployment in fleet.below.store.deployments(&state.config.tenant).await? {
        if let Some(plugged) = state.plugins.get_mut(&deployment.plugin) {
            plugged.deployment = deployment;
        }
    }
    Ok(())
}

impl Work<'_> {
    /// A plugin as it stands after a look into its folder and at its settings, and what must be written down before.
    async fn look(
        &self,
        standing: &Plugged,
        id: &PluginId,
        report: &mut Reloaded,
    ) -> Result<(Plugged, Option<Activation>), Error> {
        let settled = self.settled(id)?;
        let mut next = standing.clone();
        let active = &standing.active;
        // What is written down serves: another node may have written it, or this one before it could follow.
        if let Some(written) = standing.deployment.active.filter(|written| *written != active.digest())
            && let Some(edition) = self.kept(standing, written, &settled).await
        {
            report.changed.push(format!("plugin {id} follows version {}", written.short()));
            return Ok((self.replace(standing, edition, standing.deployment.clone(), true), None));
        }
        match self.below.sandbox.read(id, self.source(id)?).await {
            Err(error) => {
                let why = error.to_string();
                if next.refused.as_ref() != Some(&why) {
                    let refused = Happened {
                        plugin: Some(id.clone()),
                        digest: None,
                        what: "refused".to_owned(),
                        by: self.who.0.clone(),
                        why: why.clone(),
                        detail: Value::Null,
                    };
                    self.below.store.happened(&self.config.tenant, refused).await?;
                    metrics::counter!("swap_refused_total", "plugin" => id.to_string()).increment(1);
                    tracing::warn!(plugin = %id, %error, "what is in the folder is refused; the old version serves");
                    next.refused = Some(why.clone());
                }
                report.refused.push((id.to_string(), why));
            }
            Ok(build) if build.digest() == active.build => {
                next.refused = None;
                // What lay there before is new again if it comes back.
                if next.deployment.noticed != Some(active.digest()) && settled == active.settled {
                    next.deployment = self.noticed(&next.deployment, active.digest()).await?;
                }
            }
            Ok(build) => {
                next.refused = None;
                let fresh = Proposal::new(id, build, settled.clone());
                let manifest = (&*active.release.version, active.asks.clone());
                let finding = self.consider(&standing.deployment, manifest, &fresh).await?;
                match self.found(&standing.deployment, fresh, finding).await? {
                    Found::Serving(edition, proposal) => {
                        report
                            .changed
                            .push(format!("plugin {id} is version {} now", edition.digest().short()));
                        let plugged = self.replace(standing, edition, standing.deployment.clone(), true);
                        return Ok((plugged, Some(Activation { proposal: *proposal, cause: FOUND })));
                    }
                    Found::Staying { deployment, state, why, is_news } => {
                        next.deployment = *deployment;
                        if is_news && state == VersionState::Refused {
                            metrics::counter!("swap_refused_total", "plugin" => id.to_string()).increment(1);
                        }
                        let stays = match state {
                            _ if why.starts_with(ROLLED_BACK) => &mut report.kept_back,
                            VersionState::Refused => &mut report.refused,
                            VersionState::Waiting | VersionState::Ready => &mut report.waiting,
                            VersionState::Retired => &mut report.kept_back,
                        };
                        stays.push((id.to_string(), why));
                    }
                }
            }
        }
        if settled == active.settled {
            return Ok((next, None));
        }
        let version = self.below.store.version(&self.config.tenant, id, active.digest()).await?;
        let version = version.ok_or_else(|| Error::Configuration(format!("plugin `{id}` is not kept")))?;
        let build = self.kept_build(id, &version).await?;
        let proposal = Proposal::new(id, build, settled);
        let edition = self.load(&proposal).await?;
        report.changed.push(format!("plugin {id} is configured otherwise"));
        let plugged = self.replace(&next, edition, next.deployment.clone(), false);
        Ok((plugged, Some(Activation { proposal, cause: RECONFIGURED })))
    }
}
