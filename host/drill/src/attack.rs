//! What an attack is.

use bytes::Bytes;
use chela_sandbox::{PluginKind, Source};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt;

use crate::guests;
use crate::outcome::Outcome;

/// A hostile guest and what must come of it.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// By which it is asked for.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// What it is about.
    pub family: Family,
    pub(crate) guest: Guest,
    pub(crate) act: Act,
    /// One of these is how it ends; anything else is a hole.
    pub ends: &'static [Outcome],
    /// What an answer or an error must say, for it to be harmless.
    pub(crate) says: Option<&'static str>,
}

/// What an attack is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// What is loaded: files that are none, imports that nobody may have, bombs for the compiler.
    Loading,
    /// Time, memory, tables, handles, floods.
    Limits,
    /// What crosses between guest and host.
    Boundary,
    /// What belongs to others: their data, their credentials, other agents.
    Authority,
    /// Who somebody is, and where an answer goes.
    Identity,
    /// Where requests go.
    Egress,
    /// What was once a hole of the engine.
    Engine,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "loading",
            Self::Limits => "limits",
            Self::Boundary => "boundary",
            Self::Authority => "authority",
            Self::Identity => "identity",
            Self::Egress => "egress",
            Self::Engine => "engine",
        })
    }
}

/// How a guest is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guest {
    /// A router in text.
    Written(&'static str),
    /// A guest in Rust, which behaves as it is told in the message.
    Built(PluginKind, &'static str),
    /// The agent in Rust, which may send requests to this shop, and keep files.
    Sender(&'static str),
    /// The one in Rust of this kind, which does this in `init`.
    Init(PluginKind, &'static str),
    /// The adapter in Rust, which behaves as it is told in what it reads, or in the answer that it delivers.
    Adapter,
    /// An honest adapter, whose manifest says that answers go there.
    Sends(&'static str),
    /// Bytes, made when they are needed, under a router's manifest.
    Made(fn() -> Vec<u8>),
    /// The honest router under this manifest.
    Manifest(fn() -> String),
}

/// What is done with it once it is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Nothing: it is not to be loaded.
    Load,
    /// It is asked this, so many times, each time with a word more that is new.
    Ask(&'static str, u32),
    /// Somebody else has kept a secret; it is asked this.
    Guess(&'static str),
    /// Another organisation has kept a file; it reads it by its very handle.
    ReadFile,
    /// An adapter reads a request, and does this.
    Receive(&'static str),
    /// An adapter delivers an answer, and does this.
    Deliver(&'static str),
}

/// Every text that an attack lets the host see holds it: what must not be found in a metric.
pub(crate) const MARK: &str = "mark-4f1d";

/// Where the manifest of the agent in Rust lets requests go.
pub(crate) const SHOP: &str = "https://shop.example";

/// The manifest of a router in text.
pub(crate) fn manifest(snapshot: bool) -> String {
    format!(
        "name = \"drill\"\nversion = \"0.1.0\"\nkind = \"router\"\ncontract = \"0.1.0\"\ngrants = []\n\
         optional = [\"models\", \"memory\"]\nsnapshot = {snapshot}\ndescription = \"{MARK}\"\n"
    )
}

impl Guest {
    pub(crate) fn kind(self) -> PluginKind {
        match self {
            Self::Written(_) | Self::Made(_) | Self::Manifest(_) => PluginKind::Router,
            Self::Built(kind, _) | Self::Init(kind, _) => kind,
            Self::Sender(_) => PluginKind::Agent,
            Self::Adapter | Self::Sends(_) => PluginKind::Channel,
        }
    }

    /// Its component with its manifest; none if this program does not carry it.
    pub(crate) fn source(self) -> Option<Source> {
        let embedded = |manifest: String, component: &'static [u8]| Source::Embedded {
            manifest,
            component: Bytes::from_static(component),
        };
        Some(match self {
            Self::Written(name) => guests::router(name, guests::written(name)?.snapshot)?,
            Self::Built(_, name) => {
                let guest = guests::built(name)?;
                embedded(guest.manifest.to_owned(), guest.component)
            }
            Self::Sender(_) => Self::Built(PluginKind::Agent, "agent").source()?,
            Self::Init(kind, _) => Self::Built(kind, kind.as_str()).source()?,
            Self::Adapter => Self::Built(PluginKind::Channel, "channel").source()?,
            Self::Sends(url) => {
                let guest = guests::built("channel")?;
                embedded(guest.manifest.replacen("{base_url}/post", url, 1), guest.component)
            }
            Self::Made(make) => Source::Embedded { manifest: manifest(true), component: Bytes::from(make()) },
            Self::Manifest(make) => embedded(make(), guests::written("honest")?.component),
        })
    }

    /// What it is told at its start.
    pub(crate) fn config(self) -> Value {
        match self {
            Self::Sender(shop) => json!({ "shop": shop }),
            Self::Init(_, behaviour) => json!({ "init": behaviour }),
            Self::Adapter => json!({ "behaviour": "told" }),
            _ => Value::Object(Map::new()),
        }
    }
}
