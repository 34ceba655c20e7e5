//! A change of what serves of one plugin, worked out and not yet made: what it makes of the plugin, what of that is
//! written down, and what is done to the versions once it is. Working one out has no effect, so it may be thrown away.

use chela_store::{Deploy, Deployment, Happened, VersionState};
use chela_types::{Digest, PluginId};
use serde_json::Value;
use std::sync::Arc;

use super::edition::Edition;
use super::release::{Release, Watch};
use super::state::Plugged;
use super::work::{OWN, Proposal, Work};
use crate::error::Error;

/// A change of one plugin.
pub(super) struct Change {
    /// The plugin as it will stand. Its deployment is as it will be written, with the revision from which it was made.
    pub(super) plugged: Plugged,
    /// What is written down now.
    from: Option<Deployment>,
    keeps: Vec<Kept>,
    states: Vec<(Digest, VersionState, String)>,
    happened: Vec<Happened>,
    effects: Vec<Effect>,
    /// What `swaps_total` calls it, if another version is active from then on.
    counted: Option<&'static str>,
}

/// A version that is kept with its component before anything names it, and how it stands if it is new.
struct Kept {
    proposal: Proposal,
    state: VersionState,
    reason: String,
}

/// What is done to a version as soon as the change is written down, before it serves.
enum Effect {
    Watch(Arc<Release>, Option<Watch>),
    Withdraw(Arc<Release>),
    Reinstate(Arc<Release>),
}

impl Effect {
    fn take(self) {
        match self {
            Self::Watch(release, watch) => release.watch(watch),
            Self::Withdraw(release) => release.withdraw(),
            Self::Reinstate(release) => release.reinstate(),
        }
    }
}

impl Change {
    /// None yet.
    pub(super) fn of(plugged: Plugged) -> Self {
        let from = Some(plugged.deployment.clone());
        Self { from, ..Self::first(plugged) }
    }

    /// Of a plugin of which nothing is written down.
    pub(super) fn first(plugged: Plugged) -> Self {
        Self {
            plugged,
            from: None,
            keeps: Vec::new(),
            states: Vec::new(),
            happened: Vec::new(),
            effects: Vec::new(),
            counted: None,
        }
    }

    pub(super) fn id(&self) -> &PluginId {
        &self.plugged.deployment.plugin
    }

    pub(super) fn keep(&mut self, proposal: Proposal, state: VersionState, reason: &str) {
        self.keeps.push(Kept { proposal, state, reason: reason.to_owned() });
    }

    /// How a version stands from then on; said again, the last word holds.
    pub(super) fn state(&mut self, digest: Digest, state: VersionState, reason: String) {
        self.states.retain(|(known, ..)| *known != digest);
        self.states.push((digest, state, reason));
    }

    /// The host's own terminals are no news.
    pub(super) fn event(&mut self, happened: Happened) {
        if !self.id().as_str().starts_with(OWN) {
            self.happened.push(happened);
        }
    }

    pub(super) fn counts_as(&mut self, what: &'static str) {
        self.counted = Some(what);
    }

    pub(super) fn watch(&mut self, edition: &Edition, watch: Option<Watch>) {
        self.effects.push(Effect::Watch(Arc::clone(&edition.release), watch));
    }

    pub(super) fn withdraw(&mut self, edition: &Edition) {
        self.effects.push(Effect::Withdraw(Arc::clone(&edition.release)));
    }

    pub(super) fn reinstate(&mut self, edition: &Edition) {
        self.effects.push(Effect::Reinstate(Arc::clone(&edition.release)));
    }

    /// Whether it is to be on trial as soon as this is written down.
    pub(super) fn puts_on_trial(&self, edition: &Edition) -> bool {
        let of =
            |effect: &&Effect| matches!(effect, Effect::Watch(it, _) if Arc::ptr_eq(it, &edition.release));
        let last = self.effects.iter().rev().find(of);
        matches!(last, Some(Effect::Watch(_, Some(watch))) if watch.on_trial)
    }

    /// A version that serves here no more.
    pub(super) fn end(&mut self, edition: &Arc<Edition>) {
        self.watch(edition, None);
        self.plugged.drain(edition);
    }

    fn is_to_be_written(&self) -> bool {
        self.from.as_ref() != Some(&self.plugged.deployment)
            || !self.states.is_empty()
            || !self.happened.is_empty()
    }
}

impl Work<'_> {
    /// Makes changes: all that they keep and name is written down, or nothing of it; then versions are watched as they
    /// say. Returns the plugins as they stand.
    pub(super) async fn make(&self, changes: Vec<Change>) -> Result<Vec<Plugged>, Error> {
        let (mut made, mut deploys) = (Vec::new(), Vec::new());
        for mut change in changes {
            for Kept { proposal, state, reason } in std::mem::take(&mut change.keeps) {
                self.keep(&proposal, (state, &reason)).await?;
            }
            if change.is_to_be_written() {
                deploys.push(Deploy {
                    tenant: self.config.tenant.clone(),
                    deployment: change.plugged.deployment.clone(),
                    by: self.who.0.clone(),
                    states: std::mem::take(&mut change.states),
                    happened: change.happened.clone(),
                });
            }
            made.push(change);
        }
        let written = self.below.store.deploy_all(deploys).await?;
        let mut plugged = Vec::new();
        for mut change in made {
            if let Some(written) = written.iter().find(|written| written.plugin == *change.id()) {
                change.plugged.deployment.clone_from(written);
            }
            self.tell_made(&change).await;
            change.effects.into_iter().for_each(Effect::take);
            plugged.push(change.plugged);
        }
        Ok(plugged)
    }

    async fn tell_made(&self, change: &Change) {
        let id = change.id();
        for Happened { what, why, digest, .. } in &change.happened {
            let version = digest.map(|digest| digest.short()).unwrap_or_default();
            match what.as_str() {
                "refused" => {
                    metrics::counter!("swap_refused_total", "plugin" => id.to_string()).increment(1);
                    tracing::warn!(plugin = %id, version, why, "what is in the folder is refused; the old version serves");
                }
                "waiting" | "noticed" => {
                    tracing::warn!(plugin = %id, version, why, "a version was found and does not serve");
                }
                _ => {}
            }
        }
        if let Some(what) = change.counted {
            self.observe(id, change.plugged.active.digest()).await;
            metrics::counter!("swaps_total", "plugin" => id.to_string(), "what" => what).increment(1);
        }
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
}
