//! Whom the operator trusts: which build of a plugin may serve at all, and whether in this process.
//!
//! What the program carries and what a trusted key has signed may run in this process. Anything else is a stranger's: it
//! runs in a jailed process of its own, or not at all, as `[trust] unsigned` says. What is revoked runs nowhere.

use chela_sandbox::{Level, Provenance, PublicKey};
use chela_types::{Blame, DepartmentId, Digest, Fault, PluginId, Retry};
use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;

/// Whom the operator trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustConfig {
    /// Keys whose builds he trusts.
    pub keys: BTreeMap<PublicKey, TrustedKey>,
    /// Keys that he trusts no more, whatever they have signed and whenever.
    pub revoked_keys: BTreeSet<PublicKey>,
    /// Components that must not run, whoever signed them.
    pub revoked_components: BTreeSet<Digest>,
    /// What becomes of builds that no trusted key has signed.
    pub unsigned: Unsigned,
}

impl TrustConfig {
    /// Nobody is trusted, nobody is refused.
    pub const STANDARD: Self = Self {
        keys: BTreeMap::new(),
        revoked_keys: BTreeSet::new(),
        revoked_components: BTreeSet::new(),
        unsigned: Unsigned::Worker,
    };
}

/// A key that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// What the configuration calls it.
    pub name: String,
    /// For whose plugins; absent: for everybody's, and for what serves the whole organisation.
    pub departments: Option<BTreeSet<DepartmentId>>,
}

/// What becomes of builds that no trusted key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// They are refused.
    Refused,
    /// They run in a process of their own.
    Worker,
}

/// Why a build may not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Nobody has signed it.
    #[error(
        "plugin `{0}` is not signed, and [trust] unsigned = \"refuse\"; sign it: chela plugin sign DIR --key FILE"
    )]
    Unsigned(PluginId),
    /// Somebody has whom nobody here knows.
    #[error(
        "plugin `{plugin}` is signed by {key}, which is no key of [trust.signer] in chela.toml, and [trust] unsigned = \"refuse\""
    )]
    Stranger {
        /// The plugin.
        plugin: PluginId,
        /// By whom.
        key: PublicKey,
    },
    /// A trusted key signed it, and not for this.
    #[error(
        "plugin `{plugin}` is signed by `{name}`, who signs for {}, and it serves {place}; see [trust.signer.{name}] departments",
        departments.join(", ")
    )]
    Department {
        /// The plugin.
        plugin: PluginId,
        /// The key's name.
        name: String,
        /// For whom it may sign.
        departments: Vec<String>,
        /// What it would serve.
        place: String,
    },
    /// Its key is revoked.
    #[error("plugin `{plugin}` is signed by {key}, which [trust] revoked names")]
    RevokedKey {
        /// The plugin.
        plugin: PluginId,
        /// The key.
        key: PublicKey,
    },
    /// The component itself is.
    #[error("the component of plugin `{plugin}` is {digest}, which [trust] revoked names")]
    RevokedComponent {
        /// The plugin.
        plugin: PluginId,
        /// Its digest.
        digest: Digest,
    },
}

impl Fault for Untrusted {
    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// Where a build of a plugin may run, for all that the plugin is used for.
///
/// # Errors
/// [`Untrusted`] if it may not serve.
pub(crate) fn level(
    config: &Config,
    id: &PluginId,
    (provenance, component): (&Provenance, Digest),
) -> Result<Level, Untrusted> {
    let trust = &config.trust;
    let plugin = || id.clone();
    if trust.revoked_components.contains(&component) {
        return Err(Untrusted::RevokedComponent { plugin: plugin(), digest: component });
    }
    let key = provenance.signer();
    if let Some(key) = key.filter(|key| trust.revoked_keys.contains(key)) {
        return Err(Untrusted::RevokedKey { plugin: plugin(), key });
    }
    let known = key.and_then(|key| trust.keys.get(&key));
    let beyond = known.and_then(|known| beyond(config, id, known));
    let is_trusted = *provenance == Provenance::Builtin || (known.is_some() && beyond.is_none());
    if !is_trusted && trust.unsigned == Unsigned::Refused {
        return Err(match (beyond, key) {
            (Some(beyond), _) => beyond,
            (None, Some(key)) => Untrusted::Stranger { plugin: plugin(), key },
            (None, None) => Untrusted::Unsigned(plugin()),
        });
    }
    let usual = if is_trusted { Level::InProcess } else { Level::Worker };
    Ok(config.plugins.get(id).and_then(|plugin| plugin.level).unwrap_or(usual))
}

/// Where a build may run that is only looked at: what is not trusted may, away from here; what is revoked may not.
///
/// # Errors
/// [`Untrusted`] if it is revoked.
pub(crate) fn level_for_a_look(
    config: &Config,
    id: &PluginId,
    build: (&Provenance, Digest),
) -> Result<Level, Untrusted> {
    match level(config, id, build) {
        Err(Untrusted::Unsigned(_) | Untrusted::Stranger { .. } | Untrusted::Department { .. }) => {
            Ok(Level::Worker)
        }
        level => level,
    }
}

/// What a plugin is used for that its signer may not sign for.
fn beyond(config: &Config, id: &PluginId, key: &TrustedKey) -> Option<Untrusted> {
    let may = key.departments.as_ref()?;
    let routing = (config.routing.router.as_ref() == Some(id)).then(|| ("routing".to_owned(), None));
    let agents = config.agents.iter().filter(|(_, agent)| agent.plugin == *id);
    let agents = agents.map(|(name, agent)| (format!("agent {name}"), agent.department.as_ref()));
    let channels = config.channels.iter().filter(|(_, channel)| channel.plugin == *id);
    let channels = channels.map(|(name, channel)| (format!("channel {name}"), channel.department.as_ref()));
    let (place, of) = routing
        .into_iter()
        .chain(agents)
        .chain(channels)
        .find(|(_, department)| !department.is_some_and(|department| may.contains(department)))?;
    let of = of.map_or("the whole organisation".to_owned(), |department| format!("department {department}"));
    Some(Untrusted::Department {
        plugin: id.clone(),
        name: key.name.clone(),
        departments: may.iter().map(ToString::to_string).collect(),
        place: format!("{place} of {of}"),
    })
}
