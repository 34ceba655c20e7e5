//! `plugin.toml`: what a plugin says of itself, typed and strict.
//!
//! A key that nobody knows is refused, with its line and the nearest name that is known: a limit that was spelled
//! wrong is a limit that is not there. The tables of channels are kept as they stand; the channel station reads
//! them with types of its own, because this room knows nothing of verification or addresses.

use crate::contract::CONTRACT;
use crate::grants::Grants;
use crate::limits::Requested;
use crate::log::cut;
use chela_types::PluginId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest manifest in bytes.
pub(crate) const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Longest message about a manifest in bytes.
const MESSAGE_BYTES_MAX: usize = 500;
/// Longest version text in bytes.
const VERSION_BYTES_MAX: usize = 64;
/// A known name is suggested from this likeness on (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.75;

/// The tables that only channels may have.
const CHANNEL_TABLES: [&str; 7] = ["accept", "verify", "identity", "bind", "endpoint", "progress", "own"];

/// The tables that only agents may have.
const AGENT_TABLES: [&str; 2] = ["http", "credential"];

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Chooses the agent for a message.
    Router,
    /// Answers messages.
    Agent,
    /// Speaks a platform's language.
    Channel,
}

impl PluginKind {
    /// As it is written in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Agent => "agent",
            Self::Channel => "channel",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A checked `plugin.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// The plugin's own name; the configuration may call it otherwise.
    pub name: PluginId,
    /// Semantic version.
    pub version: String,
    /// What it is for.
    pub kind: PluginKind,
    /// For people.
    pub description: String,
    /// Capabilities that it cannot do without.
    pub grants: Grants,
    /// Capabilities that it can do without: denied at run time, with a typed result, if the operator does not give them.
    pub optional: Grants,
    /// Whether `init` is run once and its memory kept. False only for components that cannot be snapshotted
    /// (nested components that hold modules); their `init` is called in each call.
    pub snapshot: bool,
    /// The limits it asks for.
    pub limits: Requested,
    /// Defaults of its configuration.
    pub config: toml::Table,
    /// The tables that only channels have, as written: `accept`, `verify`, `identity`, `bind`, `endpoint`, `progress`,
    /// `own`. Empty for other kinds.
    pub channel: toml::Table,
    /// The tables that only agents have, as written: `http`, `credential`. Empty for other kinds.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub outward: toml::Table,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin.toml{}: {message}{}", line.map(|line| format!(" line {line}")).unwrap_or_default(),
    hint.as_ref().map(|hint| format!("; did you mean `{hint}`?")).unwrap_or_default())]
pub struct ManifestError {
    /// Where, counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// The nearest known name.
    pub hint: Option<String>,
}

/// The file as it may be written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: PluginId,
    version: String,
    kind: PluginKind,
    contract: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    grants: Grants,
    #[serde(default)]
    optional: Grants,
    #[serde(default = "yes")]
    snapshot: bool,
    #[serde(default)]
    limits: Requested,
    #[serde(default)]
    config: toml::Table,
    accept: Option<toml::Value>,
    verify: Option<toml::Value>,
    identity: Option<toml::Value>,
    bind: Option<toml::Value>,
    endpoint: Option<toml::Value>,
    progress: Option<toml::Value>,
    own: Option<toml::Value>,
    http: Option<toml::Value>,
    credential: Option<toml::Value>,
}

fn yes() -> bool {
    true
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] with line and nearest name for a key that is unknown, missing or of another type, a version
    /// that is not semantic, a contract that this host does not serve, or a channel's table in another kind.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(plain(format!("larger than {} KiB", MANIFEST_BYTES_MAX >> 10)));
        }
        let mut written: Written = toml::from_str(text).map_err(|error| from_toml(text, &error))?;
        if !semantic(&written.version) {
            return Err(plain(format!(
                "`version` is `{}`, expected three numbers such as `1.0.0`",
                written.version
            )));
        }
        if written.contract != CONTRACT {
            return Err(plain(format!(
                "`contract` is `{}`, this host serves `{CONTRACT}`",
                written.contract
            )));
        }
        let channel = channel_tables(&mut written);
        if let Some(table) = channel.keys().next()
            && written.kind != PluginKind::Channel
        {
            return Err(plain(format!("`{table}` belongs to channels, and `kind` is `{}`", written.kind)));
        }
        let outward = named(AGENT_TABLES, [written.http.take(), written.credential.take()]);
        if let Some(table) = outward.keys().next()
            && written.kind != PluginKind::Agent
        {
            return Err(plain(format!("`{table}` belongs to agents, and `kind` is `{}`", written.kind)));
        }
        Ok(Self {
            name: written.name,
            version: written.version,
            kind: written.kind,
            description: written.description,
            grants: written.grants.without(written.optional),
            optional: written.optional,
            snapshot: written.snapshot,
            limits: written.limits,
            config: written.config,
            channel,
            outward,
        })
    }
}

fn channel_tables(written: &mut Written) -> toml::Table {
    let values = [
        written.accept.take(),
        written.verify.take(),
        written.identity.take(),
        written.bind.take(),
        written.endpoint.take(),
        written.progress.take(),
        written.own.take(),
    ];
    named(CHANNEL_TABLES, values)
}

fn named<const N: usize>(names: [&str; N], values: [Option<toml::Value>; N]) -> toml::Table {
    let named = names.into_iter().zip(values);
    named.filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))).collect()
}

fn plain(message: String) -> ManifestError {
    ManifestError { line: None, message: fit(&message), hint: None }
}

/// A message may repeat what stands in the file: keys and values as long as anything, written to control a terminal.
fn fit(message: &str) -> String {
    cut(message.trim(), MESSAGE_BYTES_MAX).replace(char::is_control, " ")
}

fn from_toml(text: &str, error: &toml::de::Error) -> ManifestError {
    let before = error.span().and_then(|span| text.get(..span.start));
    ManifestError {
        line: before.map(|before| before.matches('\n').count() + 1),
        hint: nearest(error.message().trim()),
        message: fit(error.message()),
    }
}

/// The name in `expected one of …` that is most like the one in `unknown field …` or `unknown variant …`.
fn nearest(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let written = names.next().filter(|_| message.starts_with("unknown "))?;
    let like = |name: &&str| strsim::jaro_winkler(written, name);
    let is_ours = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    names
        .filter(|name| is_ours(name) && like(name) >= LIKENESS_MIN)
        .max_by(|a, b| like(a).total_cmp(&like(b)))
        .map(str::to_owned)
}

/// `1.2.3`, `1.2.3-rc.1`, `1.2.3+build`: as much of semantic versioning as a name in logs and keys needs.
fn semantic(version: &str) -> bool {
    let end = version.find(['-', '+']).unwrap_or(version.len());
    let (numbers, rest) = version.split_at(end);
    let parts: Vec<&str> = numbers.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
    version.len() <= VERSION_BYTES_MAX
        && parts.len() == 3
        && parts.iter().all(number)
        && rest.len() != 1
        && rest.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::Grant;

    const PLAIN: &str = "name = \"echo\"\nversion = \"1.0.0\"\nkind = \"agent\"\ncontract = \"0.1.0\"\n";

    #[test]
    fn a_short_manifest_is_enough() {
        let manifest = Manifest::parse(PLAIN).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.kind), ("echo", PluginKind::Agent));
        assert!(manifest.snapshot);
        assert_eq!(manifest.grants, Grants::NONE);
    }

    #[test]
    fn an_optional_grant_is_not_a_required_one() {
        let text = format!("{PLAIN}grants = [\"models\", \"memory\"]\noptional = [\"memory\"]\n");
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.grants, [Grant::Models].into_iter().collect());
        assert_eq!(manifest.optional, [Grant::Memory].into_iter().collect());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let error = Manifest::parse(&format!("{PLAIN}[limits]\nmemory_byte = 1\n")).unwrap_err();
        assert_eq!((error.line, error.hint.as_deref()), (Some(6), Some("memory_bytes")));
        let error = Manifest::parse(&format!("{PLAIN}grant = []\n")).unwrap_err();
        assert_eq!((error.line, error.hint.as_deref()), (Some(5), Some("grants")));
        assert!(error.to_string().contains("did you mean `grants`?"), "{error}");
        let error = Manifest::parse(&PLAIN.replace("agent", "agnet")).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("agent"));
    }

    /// A key or a value is repeated in the message, and a stranger wrote it.
    #[test]
    fn an_error_is_short_and_controls_no_terminal() {
        let long = "x".repeat(10_000);
        for text in [
            format!("{PLAIN}\"\\u001b[2J`grants`{long}\" = 1\n"),
            PLAIN.replace("1.0.0", &format!("\\u001b[2J{long}")),
            PLAIN.replace("contract = \"0.1.0\"", &format!("contract = \"\\u001b[2J{long}\"")),
        ] {
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains("[2J"), "{error}");
            assert!(error.len() < 600 && !error.contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for (from, to, part) in [
            ("1.0.0", "1.0", "`version`"),
            ("1.0.0", "1.0.0-", "`version`"),
            ("contract = \"0.1.0\"", "contract = \"9.0.0\"", "serves `0.1.0`"),
            ("\"echo\"", "\"Echo!\"", "not a valid name"),
            ("kind = \"agent\"\n", "", "kind"),
        ] {
            let error = Manifest::parse(&PLAIN.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(Manifest::parse(&"#".repeat(MANIFEST_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn tables_of_channels_are_kept_for_the_station() {
        let tables = "[verify]\nkind = \"hmac\"\n[[bind]]\nname = \"channel\"\n";
        let manifest = Manifest::parse(&format!("{}{tables}", PLAIN.replace("agent", "channel"))).unwrap();
        assert_eq!(manifest.channel.keys().collect::<Vec<_>>(), ["bind", "verify"]);
        let error = Manifest::parse(&format!("{PLAIN}{tables}")).unwrap_err();
        assert!(error.message.contains("belongs to channels"), "{error}");
    }

    #[test]
    fn tables_of_agents_are_kept_for_the_station() {
        let table = "[[http]]\nurl = \"https://api.example.com/*\"\n";
        let manifest = Manifest::parse(&format!("{PLAIN}{table}")).unwrap();
        assert_eq!(manifest.outward.keys().collect::<Vec<_>>(), ["http"]);
        let error = Manifest::parse(&format!("{}{table}", PLAIN.replace("agent", "router"))).unwrap_err();
        assert!(error.message.contains("belongs to agents"), "{error}");
    }
}
