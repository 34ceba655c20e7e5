//! What is read before anything runs: components and manifests.

use chela_sandbox::{Manifest, PluginKind, Refusal, fuzzing};

use crate::Reach;
use crate::oracle::tame;

/// Interfaces that no plugin has, whatever it is granted.
const NOBODYS: [&str; 4] = ["wasi:filesystem/", "wasi:sockets/", "wasi:http/", "wasi:cli/run"];

/// A component, as far as it is looked at before a compiler sees it.
pub fn loader(component: &[u8]) -> Reach {
    let loaded = match fuzzing::loader(component) {
        Ok(loaded) => loaded,
        Err(refusal @ (Refusal::NotWasm | Refusal::CoreModule | Refusal::Invalid { .. })) => {
            tame("a refusal", &refusal.to_string());
            return Reach::Unread;
        }
        Err(other) => panic!("a component was refused before its world was looked at: {other}"),
    };
    assert!(loaded.kinds.len() <= 1, "one component is of two kinds: {:?}", loaded.kinds);
    for refusal in &loaded.refused {
        tame("a refusal", &refusal.to_string());
    }
    if loaded.kinds.is_empty() {
        return Reach::Refused;
    }
    for import in &loaded.imports {
        let is_known = import.starts_with("chela:plugin/") || import.starts_with("wasi:");
        assert!(is_known, "`{import}` is granted to nobody, and yet it is loaded");
        assert!(!NOBODYS.iter().any(|name| import.starts_with(name)), "`{import}` is loaded");
    }
    Reach::Taken
}

/// A `plugin.toml`, with the tables of a channel.
pub fn manifest(text: &[u8]) -> Reach {
    let Ok(text) = std::str::from_utf8(text) else { return Reach::Unread };
    match Manifest::parse(text) {
        Ok(manifest) => {
            assert!(manifest.grants.intersection(manifest.optional).iter().next().is_none());
            let lowered = chela_sandbox::Limits::STANDARD.lowered_by(&manifest.limits);
            assert!(lowered.memory_bytes <= chela_sandbox::Limits::STANDARD.memory_bytes);
            assert!(lowered.deadline <= chela_sandbox::Limits::STANDARD.deadline);
            match manifest.kind {
                PluginKind::Channel => match chela_engine::fuzzing::tables(&manifest) {
                    Ok(()) => Reach::Taken,
                    Err(error) => {
                        tame("an error", &error);
                        Reach::Refused
                    }
                },
                PluginKind::Router | PluginKind::Agent => {
                    assert!(manifest.channel.is_empty(), "only channels have tables");
                    Reach::Taken
                }
            }
        }
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}: of {lines} lines");
            tame("an error", &error.to_string());
            Reach::Refused
        }
    }
}
