//! What operators are shown of versions, and what they may order. Plain data: the command line, the admin listener
//! and the tests speak it.

use chela_store::{Version, VersionState};
use chela_types::Digest;
use serde::{Deserialize, Serialize};

/// Who gives an order, and by which right he does; kept with what he ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub String);

impl Who {
    /// The host, which found something in a folder.
    pub fn loader() -> Self {
        Self("the loader".to_owned())
    }

    /// The host, which watches how a new version does.
    pub fn watch() -> Self {
        Self("the watch".to_owned())
    }
}

/// What an operator wants of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Run a version beside the active one, without any effect.
    Shadow {
        /// Which.
        #[serde(default)]
        candidate: Candidate,
    },
    /// Give a version a stable share of the conversations.
    Canary {
        /// Which.
        #[serde(default)]
        candidate: Candidate,
        /// Of a hundred; 0 ends it.
        percent: u8,
        /// Also if it asks for more than the active one.
        #[serde(default)]
        approve: bool,
    },
    /// Make a version the active one.
    Promote {
        /// Which.
        #[serde(default)]
        candidate: Candidate,
        /// Also if it asks for more than the active one.
        #[serde(default)]
        approve: bool,
        /// Also if its manifest's version is lower than the active one's.
        #[serde(default)]
        downgrade: bool,
        /// Also if its shadow has not yet shown what the configuration wants to see.
        #[serde(default)]
        unproven: bool,
    },
    /// Go back to the version before, or end a canary.
    Rollback {
        /// Why; for the history.
        #[serde(default)]
        why: String,
    },
    /// End canary and shadow; the active version stays.
    Stop,
}

/// Which version an order means. Nothing given: the canary or shadow that runs, else what the folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The first hex digits of its digest.
    #[serde(default)]
    pub digest: Option<String>,
    /// Another folder that holds it, absolute.
    #[serde(default)]
    pub folder: Option<std::path::PathBuf>,
}

/// A plugin with its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Name in the configuration.
    pub plugin: String,
    /// `router`, `agent` or `channel`.
    pub kind: String,
    /// What it serves: `routing`, `agent hr`, `channel slack`.
    pub serves: Vec<String>,
    /// Grows with each change of what is deployed.
    pub revision: u64,
    /// Digest of what its folder was last seen to hold.
    #[serde(default)]
    pub noticed: Option<String>,
    /// The newest first; the active one is among them.
    pub versions: Vec<VersionStatus>,
}

impl PluginStatus {
    /// What its folder holds and does not serve: refused, waiting for somebody, or ready.
    pub fn pending(&self) -> impl Iterator<Item = Pending> {
        self.versions.iter().filter(|version| self.is_pending(version)).map(|version| Pending {
            plugin: self.plugin.clone(),
            version: version.version.clone(),
            digest: version.digest.clone(),
            state: version.state.clone(),
            reason: version.reason.clone(),
        })
    }

    /// Whether a version lies in its folder and does not serve.
    pub fn is_pending(&self, version: &VersionStatus) -> bool {
        let stays = matches!(version.state.as_str(), "refused" | "waiting" | "ready");
        // What cannot be read has no digest.
        stays && (version.digest.is_empty() || self.noticed.as_ref() == Some(&version.digest))
    }
}

/// A version that a plugin's folder holds, and that does not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// The manifest's version; empty if it cannot be read.
    pub version: String,
    /// Digest in hex; empty if it cannot be read.
    pub digest: String,
    /// `refused`, `waiting` or `ready`.
    pub state: String,
    /// Why.
    pub reason: String,
}

/// Which versions of a plugin have a place.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Serves.
    pub active: Option<Digest>,
    /// Serves some.
    pub canary: Option<Digest>,
    /// Plays along.
    pub shadow: Option<Digest>,
    /// Served before the active one.
    pub before: Option<Digest>,
}

impl Places {
    /// The word for what a version does.
    pub fn state(&self, version: &Version, is_draining: bool) -> &'static str {
        let has = |place: Option<Digest>| place == Some(version.digest);
        match version.state {
            _ if has(self.active) => "active",
            _ if has(self.canary) => "canary",
            _ if has(self.shadow) => "shadow",
            _ if is_draining => "draining",
            // It has served, and can be gone back to.
            VersionState::Ready if has(self.before) => "retired",
            other => other.as_str(),
        }
    }
}

/// A version as it does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Digest in hex.
    pub digest: String,
    /// The manifest's version.
    pub version: String,
    /// `loading`, `refused`, `waiting`, `ready`, `shadow`, `canary`, `active`, `closed` (active, and trusted no more: it
    /// begins no call), `draining` or `retired`.
    pub state: String,
    /// A canary's share of a hundred.
    pub share: Option<u8>,
    /// True while it is new: its first calls are counted one by one, and the rest goes to the version before.
    pub on_trial: bool,
    /// Why it is in this state.
    pub reason: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// By whom.
    pub by: String,
    /// Calls since it was loaded by this process.
    pub calls: u64,
    /// Those that failed by its own fault.
    pub failures: u64,
    /// 95th percentile of a call's time.
    pub p95_ms: Option<f64>,
    /// What it may use.
    pub grants: Vec<String>,
    /// What its component imports.
    pub imports: Vec<String>,
    /// All that it asks for: grants, hosts, secrets.
    pub asks: Vec<String>,
    /// Its limits in short words.
    pub limits: Vec<String>,
    /// Its configuration as JSON.
    pub config: String,
    /// Bytes of the component.
    pub component_bytes: u64,
    /// Whether its machine code was there already.
    pub from_cache: bool,
    /// The key that signed it.
    #[serde(default)]
    pub signer: Option<String>,
    /// Where its calls run: `in-process` or `worker`; empty if it is not loaded.
    #[serde(default)]
    pub isolation: String,
    /// What its shadow run has shown.
    pub shadow: Option<ShadowStatus>,
}

/// What a shadow run has shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// Calls that were compared.
    pub compared: u64,
    /// The same outcome.
    pub same: u64,
    /// Another outcome.
    pub different: u64,
    /// It asked for what the active run had not asked.
    pub diverged: u64,
    /// It failed.
    pub failed: u64,
    /// Not run: too many ran already, another version than the active one served, or no more are run.
    pub skipped: u64,
    /// True if no more are run: too many in a row ran into a limit.
    #[serde(default)]
    pub stopped: bool,
    /// Some of the differences.
    pub examples: Vec<ShadowExample>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowExample {
    /// The turn.
    pub turn: String,
    /// What the active version made of it: an agent's name, or with the right to read conversations, its words.
    pub active: String,
    /// What the candidate made of it.
    pub candidate: String,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether the configuration runs that was read. False in a host that reloads by hand, until it is applied: then
    /// only the folders of plugins were looked into, and what is new there waits.
    #[serde(default)]
    pub applied: bool,
    /// One line for each thing that changed.
    pub changed: Vec<String>,
    /// Plugins whose new version is refused, and why; the old one serves.
    pub refused: Vec<(String, String)>,
    /// Plugins whose new version waits for somebody, and for what.
    pub waiting: Vec<(String, String)>,
    /// Plugins whose folder holds what has served before, or was sent back, and why it does not serve again.
    #[serde(default)]
    pub kept_back: Vec<(String, String)>,
}
