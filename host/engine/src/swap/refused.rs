//! Why an order about versions is not carried out: typed, and said before anything has changed.

use chela_store::{Named, Version};
use chela_types::{Blame, Fault, PluginId, Retry};

/// Why an order is not carried out. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapRefused {
    /// No plugin of this name is in use.
    #[error("no plugin in use is called `{0}`")]
    NoPlugin(String),
    /// There is nothing else to serve.
    #[error(
        "plugin `{plugin}` has no other version: its folder holds what serves already; name one with --version or --from"
    )]
    NothingNew {
        /// The plugin.
        plugin: PluginId,
    },
    /// No version has a digest that begins so.
    #[error(
        "no version of plugin `{plugin}` has a digest that begins with `{digest}`; see `chela plugin list`"
    )]
    NoVersion {
        /// The plugin.
        plugin: PluginId,
        /// What was given.
        digest: String,
    },
    /// Several do.
    #[error(
        "several versions of plugin `{plugin}` have a digest that begins with `{digest}`; give more of it"
    )]
    Ambiguous {
        /// The plugin.
        plugin: PluginId,
        /// What was given.
        digest: String,
    },
    /// Too few digits name nothing.
    #[error(
        "`{digest}` is too little of a digest to name a version of plugin `{plugin}`: at least {} digits",
        Named::DIGITS_MIN
    )]
    TooShort {
        /// The plugin.
        plugin: PluginId,
        /// What was given.
        digest: String,
    },
    /// It is active already.
    #[error("version {digest} of plugin `{plugin}` is active already")]
    Active {
        /// The plugin.
        plugin: PluginId,
        /// Its digest, shortened.
        digest: String,
    },
    /// Older than what serves.
    #[error(
        "plugin `{plugin}` would go from version {from} back to {to}; if that is meant: chela plugin promote {plugin} --downgrade"
    )]
    Downgrade {
        /// The plugin.
        plugin: PluginId,
        /// What serves.
        from: String,
        /// What would.
        to: String,
    },
    /// Of the same version as what serves, and not the same.
    #[error(
        "another build of plugin `{plugin}` calls itself {version}, as what serves does: a new build needs a new version; if that is meant: chela plugin promote {plugin} --downgrade"
    )]
    SameVersion {
        /// The plugin.
        plugin: PluginId,
        /// What both call themselves.
        version: String,
    },
    /// Asks for more than what serves.
    #[error("the new version of plugin `{plugin}` asks for more than the active one: {}; if that is meant: chela plugin promote {plugin} --approve", asked.join(", "))]
    AsksMore {
        /// The plugin.
        plugin: PluginId,
        /// For what.
        asked: Vec<String>,
    },
    /// Its shadow has not shown enough.
    #[error(
        "the new version of plugin `{plugin}` is not proven: {why}; to promote it all the same: --unproven"
    )]
    Unproven {
        /// The plugin.
        plugin: PluginId,
        /// What is missing.
        why: String,
    },
    /// There is nothing to go back to.
    #[error("plugin `{plugin}` has no version before the active one")]
    NoBefore {
        /// The plugin.
        plugin: PluginId,
    },
    /// A channel's calls are not recorded, and cannot be compared.
    #[error("plugin `{plugin}` is a channel's adapter, and a channel has no shadow: try a canary")]
    NoShadow {
        /// The plugin.
        plugin: PluginId,
    },
    /// A share that is none.
    #[error("a canary has 0 to 100 percent, and not {0}")]
    Percent(u8),
}

/// The version that digits of a digest name.
///
/// # Errors
/// They name none, several, or are too few.
pub(super) fn the_one(named: Named, plugin: &PluginId, digits: &str) -> Result<Version, SwapRefused> {
    let (plugin, digest) = (plugin.clone(), digits.to_owned());
    Err(match named {
        Named::One(version) => return Ok(*version),
        Named::None => SwapRefused::NoVersion { plugin, digest },
        Named::Several => SwapRefused::Ambiguous { plugin, digest },
        Named::TooShort => SwapRefused::TooShort { plugin, digest },
    })
}

impl Fault for SwapRefused {
    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}
