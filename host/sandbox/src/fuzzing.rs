//! The door for fuzzing: what is hostile and comes to this room as bytes, driven without a process and without a guest.
//! Not part of what other rooms use.

use crate::call::{Beginning, Call, Phase};
use crate::error::Refusal;
use crate::grants::{Grant, Grants};
use crate::inspect;
use crate::limits::Limits;
use crate::log::{GuestLog, Stamp};
use crate::manifest::{Manifest, PluginKind};
use crate::plugin::{Home, Kind, Known, Plugin, Shared};
use chela_types::{Digest, Millis};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

pub use crate::compiler::fuzzing as compiler;
pub use crate::worker::fuzzing as worker;

/// What the loader makes of a component before anything is compiled.
#[derive(Debug)]
pub struct Loaded {
    /// The names of its imports.
    pub imports: Vec<String>,
    /// The kinds as which it would be loaded by an operator who grants everything, to a manifest that asks for it.
    pub kinds: Vec<PluginKind>,
    /// Why it would not be, as the others.
    pub refused: Vec<Refusal>,
}

/// Validates a component, and checks its world and its grants.
///
/// # Errors
/// It is no component.
pub fn loader(component: &[u8]) -> Result<Loaded, Refusal> {
    let interfaces = inspect::interfaces(component)?;
    let (mut kinds, mut refused) = (Vec::new(), Vec::new());
    for kind in [PluginKind::Router, PluginKind::Agent, PluginKind::Channel] {
        let grants: Grants = Grant::ALL.into_iter().filter(|grant| kind.may_have(*grant)).collect();
        let manifest = asking(kind, grants)?;
        let checked = interfaces
            .check_world(kind)
            .and_then(|()| interfaces.check_grants(&manifest, "fuzzed", Grants::all()));
        match checked {
            Ok(_) => kinds.push(kind),
            Err(refusal) => refused.push(refusal),
        }
    }
    Ok(Loaded { imports: interfaces.imports, kinds, refused })
}

fn asking(kind: PluginKind, grants: Grants) -> Result<Manifest, Refusal> {
    let contract = crate::CONTRACT;
    let text =
        format!("name = \"fuzzed\"\nversion = \"1.0.0\"\nkind = \"{kind}\"\ncontract = \"{contract}\"\n");
    Ok(Manifest { grants, ..Manifest::parse(&text)? })
}

/// A plugin of which nothing but the manifest is there: it can be looked at, and every call of it fails.
pub fn hollow<K: Kind>(manifest: Manifest, limits: Limits) -> Plugin<K> {
    let workers = worker::nobody(&manifest, &limits);
    let known = Known {
        id: manifest.name.clone(),
        manifest,
        digest: Digest::from_bytes([0; 32]),
        imports: Vec::new(),
        component_bytes: 0,
        code_bytes: 0,
        grants: Grants::NONE,
        limits,
        is_in_a_hurry: false,
        config: "{}".into(),
        load_time: Duration::ZERO,
        from_cache: true,
    };
    let shared = Shared::new(1);
    Plugin::new(known, shared, Home::There(Box::new(workers)))
}

/// A call as it stands beside a worker, to which this is lent and everything is granted.
pub fn call<L>(lent: L, limits: &Limits) -> Call<L> {
    let stamp = Arc::new(Stamp { name: "fuzzed".to_owned(), version: "1.0.0".to_owned() });
    let log = GuestLog::to_host(Arc::clone(&stamp), limits);
    let begin = Beginning {
        lent,
        plugin: stamp,
        config: "{}".into(),
        grants: Grants::all(),
        phase: Phase::Serving,
        started: Millis(0),
        seed: [0; 32],
        end: None,
        log: Arc::new(Mutex::new(log)),
    };
    Call::new(limits, begin)
}
