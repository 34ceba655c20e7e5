//! Versions as the store keeps them: what is shown while no host runs, and what is held against another version.

use std::collections::BTreeMap;

use chela_engine::{Places, PluginStatus, VersionStatus};
use chela_store::{Deployment, Named, Store, Version};
use chela_types::{Digest, PluginId, TenantId};

/// Versions that are listed.
const VERSIONS_MAX: usize = 1_000;

/// Every plugin with its versions, as they stood when the host stopped.
pub(super) async fn plugins(store: &Store) -> Result<Vec<PluginStatus>, chela_store::Error> {
    let tenant = TenantId::default_tenant();
    let mut plugins = BTreeMap::<PluginId, Vec<Version>>::new();
    for version in store.versions(&tenant, None, VERSIONS_MAX).await? {
        plugins.entry(version.plugin.clone()).or_default().push(version);
    }
    let deployments = store.deployments(&tenant).await?;
    let status = |(plugin, versions): (PluginId, Vec<Version>)| {
        let deployment = deployments.iter().find(|deployment| deployment.plugin == plugin);
        PluginStatus {
            kind: versions.first().map(|version| version.kind.clone()).unwrap_or_default(),
            serves: Vec::new(),
            revision: deployment.map_or(0, |deployment| deployment.revision),
            noticed: deployment.and_then(|of| of.noticed).map(|digest| digest.to_string()),
            versions: versions.into_iter().map(|version| shown(version, deployment)).collect(),
            plugin: plugin.to_string(),
        }
    };
    Ok(plugins
        .into_iter()
        .filter(|(plugin, _)| !plugin.as_str().starts_with(crate::config::RESERVED))
        .map(status)
        .collect())
}

fn shown(version: Version, deployment: Option<&Deployment>) -> VersionStatus {
    let digest = version.digest;
    let canary = deployment.and_then(|of| of.canary).filter(|(canary, _)| *canary == digest);
    let is_active = deployment.is_some_and(|of| of.active == Some(digest));
    let places = Places {
        active: deployment.and_then(|of| of.active),
        canary: canary.map(|(canary, _)| canary),
        shadow: deployment.and_then(|of| of.shadow),
        before: deployment.and_then(|of| of.before),
    };
    let state = places.state(&version, false);
    let made = deployment.filter(|_| is_active);
    VersionStatus {
        digest: digest.to_string(),
        version: version.version,
        state: state.to_owned(),
        share: canary.map(|(_, percent)| percent),
        reason: version.reason,
        since_ms: made.map_or(version.since, |of| of.since).0,
        by: made.map_or(version.by, |of| of.by.clone()),
        asks: version.asks,
        component_bytes: version.component_bytes,
        ..VersionStatus::default()
    }
}

/// Why a version is not found.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFound {
    /// No plugin of this name is kept.
    #[error("no version of a plugin `{0}` is kept")]
    Plugin(PluginId),
    /// Nothing serves.
    #[error("no version of the plugin `{0}` is active; name one: `{0}@DIGEST`")]
    Active(PluginId),
    /// Nothing else was found.
    #[error("the folder of the plugin `{0}` was not seen to hold another version than the active one")]
    Other(PluginId),
    /// No digest begins so.
    #[error("no version of the plugin `{0}` has a digest that begins with `{1}`")]
    Digest(PluginId, String),
    /// Several do.
    #[error("several versions of the plugin `{0}` have a digest that begins with `{1}`")]
    Several(PluginId, String),
    /// Too few digits name nothing.
    #[error("`{1}` is too little of a digest to name a version of the plugin `{0}`: at least {min} digits", min = Named::DIGITS_MIN)]
    TooShort(PluginId, String),
    /// The store.
    #[error(transparent)]
    Store(#[from] chela_store::Error),
}

/// What a plugin's folder was last seen to hold, if that is not what serves.
pub(super) async fn in_folder(store: &Store, plugin: &PluginId) -> Result<Digest, NotFound> {
    let deployments = store.deployments(&TenantId::default_tenant()).await?;
    let of = deployments.into_iter().find(|of| of.plugin == *plugin);
    let of = of.ok_or_else(|| NotFound::Plugin(plugin.clone()))?;
    of.noticed.filter(|seen| of.active != Some(*seen)).ok_or_else(|| NotFound::Other(plugin.clone()))
}

/// The active version of a plugin, or the one whose digest begins so.
pub(super) async fn version(
    store: &Store,
    plugin: &PluginId,
    digits: Option<&str>,
) -> Result<Version, NotFound> {
    let tenant = TenantId::default_tenant();
    let Some(digits) = digits else {
        let deployments = store.deployments(&tenant).await?;
        let active = deployments.into_iter().find(|of| of.plugin == *plugin).and_then(|of| of.active);
        let digest = active.ok_or_else(|| NotFound::Active(plugin.clone()))?;
        let version = store.version(&tenant, plugin, digest).await?;
        return version.ok_or_else(|| NotFound::Plugin(plugin.clone()));
    };
    let (of, given) = (plugin.clone(), digits.to_owned());
    match store.named_version(&tenant, plugin, digits).await? {
        Named::One(version) => Ok(*version),
        Named::Several => Err(NotFound::Several(of, given)),
        Named::TooShort => Err(NotFound::TooShort(of, given)),
        Named::None if store.versions(&tenant, Some(plugin), 1).await?.is_empty() => {
            Err(NotFound::Plugin(of))
        }
        Named::None => Err(NotFound::Digest(of, given)),
    }
}
