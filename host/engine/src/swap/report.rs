//! What operators are shown of plugins and their versions.

use chela_sandbox::{Grant, Limits};
use chela_store::Version;
use chela_types::PluginId;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::edition::Edition;
use super::fleet::Fleet;
use super::state::Plugged;
use super::status::{Places, PluginStatus, VersionStatus};
use super::work::OWN;
use crate::error::Error;

/// Versions of each plugin that are shown.
const VERSIONS_MAX: usize = 20;

impl Fleet {
    /// All plugins with their versions. Words of conversations are in it only `with_words`.
    pub(crate) async fn plugins(&self, with_words: bool) -> Result<Vec<PluginStatus>, Error> {
        let state = self.state();
        let mut shown = Vec::new();
        for (id, plugged) in state.plugins.iter().filter(|(id, _)| !id.as_str().starts_with(OWN)) {
            shown.push(self.plugin_status(id, plugged, with_words).await?);
        }
        Ok(shown)
    }

    pub(crate) async fn plugin(&self, id: &PluginId, with_words: bool) -> Result<PluginStatus, Error> {
        let state = self.state();
        let plugged = state.plugins.get(id);
        let plugged = plugged.ok_or_else(|| super::refused::SwapRefused::NoPlugin(id.to_string()))?;
        self.plugin_status(id, plugged, with_words).await
    }

    async fn plugin_status(
        &self,
        id: &PluginId,
        plugged: &Plugged,
        with_words: bool,
    ) -> Result<PluginStatus, Error> {
        let tenant = &self.house().config.tenant;
        let mut versions = self.below.store.versions(tenant, Some(id), VERSIONS_MAX).await?;
        let known: BTreeSet<_> = versions.iter().map(|version| version.digest).collect();
        // What serves is shown, however many came after it.
        for edition in plugged.editions().filter(|edition| !known.contains(&edition.digest())) {
            versions.extend(self.below.store.version(tenant, id, edition.digest()).await?);
        }
        let mut shown: Vec<VersionStatus> =
            versions.iter().map(|version| version_status(plugged, version, with_words)).collect();
        shown.extend(plugged.refused.iter().map(|why| VersionStatus {
            state: "refused".to_owned(),
            reason: why.clone(),
            ..VersionStatus::default()
        }));
        shown.extend(self.loading(id).map(|how_far| VersionStatus {
            state: "loading".to_owned(),
            reason: how_far,
            ..VersionStatus::default()
        }));
        Ok(PluginStatus {
            plugin: id.to_string(),
            kind: plugged.active.kind.to_string(),
            serves: plugged.active.settled.serves(),
            revision: plugged.deployment.revision,
            noticed: plugged.deployment.noticed.map(|digest| digest.to_string()),
            versions: shown,
        })
    }
}

fn version_status(plugged: &Plugged, version: &Version, with_words: bool) -> VersionStatus {
    let Version { digest, .. } = version;
    let edition = plugged.loaded(*digest);
    let is = |other: Option<&Arc<Edition>>| other.is_some_and(|edition| edition.digest() == *digest);
    let canary = plugged.canary.as_ref().filter(|(edition, _)| edition.digest() == *digest);
    let is_draining = plugged.draining.iter().any(|it| it.upgrade().is_some_and(|it| it.digest == *digest));
    let places = Places {
        active: Some(plugged.active.digest()),
        canary: plugged.canary.as_ref().map(|(edition, _)| edition.digest()),
        shadow: plugged.shadow.as_ref().map(|edition| edition.digest()),
        before: plugged.deployment.before,
    };
    let state = places.state(version, is_draining || is(plugged.standby.as_ref()));
    let mut shown = VersionStatus {
        digest: digest.to_string(),
        version: version.version.clone(),
        state: state.to_owned(),
        share: canary.map(|(_, share)| *share),
        reason: version.reason.clone(),
        since_ms: if is(Some(&plugged.active)) { plugged.deployment.since.0 } else { version.since.0 },
        by: version.by.clone(),
        asks: version.asks.clone(),
        config: config(&version.settings),
        component_bytes: version.component_bytes,
        ..VersionStatus::default()
    };
    if is(Some(&plugged.active)) {
        shown.by.clone_from(&plugged.deployment.by);
        if let Some(why) = &plugged.closed {
            "closed".clone_into(&mut shown.state);
            shown.reason.clone_from(why);
        }
    }
    if let Some(edition) = edition {
        let health = edition.release.health();
        (shown.calls, shown.failures) = (health.calls, health.failures);
        shown.p95_ms = health.p95().map(|time| time.as_secs_f64() * 1_000.0);
        shown.on_trial = edition.release.is_on_trial();
        shown.grants = edition.grants.iter().map(|grant: Grant| grant.to_string()).collect();
        shown.imports.clone_from(&edition.imports);
        shown.limits = limits(&edition.limits);
        shown.from_cache = edition.from_cache;
        shown.signer = edition.signer();
        edition.settled.level.as_str().clone_into(&mut shown.isolation);
        shown.shadow = is(plugged.shadow.as_ref()).then(|| edition.release.tally.status(with_words));
    }
    shown
}

/// What the operator configures, without what has a column of its own.
fn config(settings: &str) -> String {
    let parsed: serde_json::Value = serde_json::from_str(settings).unwrap_or_default();
    parsed.get("config").map(ToString::to_string).unwrap_or_default()
}

/// Limits in short words.
pub(crate) fn limits(limits: &Limits) -> Vec<String> {
    vec![
        format!("memory {} MiB", limits.memory_bytes >> 20),
        format!("deadline {} ms", limits.deadline.as_millis()),
        format!("processor {} ms", limits.cpu.as_millis()),
        format!("host calls {}", limits.host_calls),
        format!("input {} KiB", limits.input_bytes >> 10),
        format!("output {} KiB", limits.output_bytes >> 10),
    ]
}
