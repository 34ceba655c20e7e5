//! What a component imports and exports, read from its bytes without running or compiling anything.
//!
//! Validated first, so that what is read afterwards means what it says. Imports are decoded, never searched for as
//! text: a name in a data segment is not an import, and an import need not look like one.

use crate::contract::{BASE, CONTRACT, PACKAGE, WASI};
use crate::error::Refusal;
use crate::grants::{Grant, Grants};
use crate::log::{cut, escaped};
use crate::manifest::{Manifest, PluginKind};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

/// Bytes of a header: magic and version.
const HEADER: usize = 8;
const MAGIC: &[u8] = b"\0asm";
/// Bytes of a name, or of what the validator says, that are kept: more than any name that this host knows.
const WORDS_BYTES_MAX: usize = 300;

/// Names that the component imports and exports at its root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Interfaces {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Validates `component` and reads its interfaces.
pub(crate) fn interfaces(component: &[u8]) -> Result<Interfaces, Refusal> {
    if !component.starts_with(MAGIC) {
        return Err(Refusal::NotWasm);
    }
    if component.len() >= HEADER && Parser::is_core_wasm(component) {
        return Err(Refusal::CoreModule);
    }
    Validator::new_with_features(features()).validate_all(component).map_err(|error| invalid(&error))?;
    decode(component).map_err(|error| invalid(&error))
}

/// The same proposals as the engine's.
fn features() -> WasmFeatures {
    let off = WasmFeatures::GC
        | WasmFeatures::GC_TYPES
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::THREADS
        | WasmFeatures::CM_ASYNC;
    (WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL).difference(off)
}

fn invalid(error: &wasmparser::BinaryReaderError) -> Refusal {
    Refusal::Invalid { message: fit(error.message()), offset: error.offset() as u64 }
}

/// Words of a component, as they may stand in an error: it may name its parts as it likes, and at any length.
fn fit(words: &str) -> String {
    escaped(cut(words, WORDS_BYTES_MAX))
}

fn decode(component: &[u8]) -> Result<Interfaces, wasmparser::BinaryReaderError> {
    let mut interfaces = Interfaces::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    interfaces.imports.push(fit(import?.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    interfaces.exports.push(fit(export?.name.name));
                }
            }
            _ => {}
        }
    }
    Ok(interfaces)
}

/// `chela:plugin/models@0.1.0` as (`chela:plugin/models`, `0.1.0`).
fn split(interface: &str) -> (&str, &str) {
    interface.split_once('@').unwrap_or((interface, ""))
}

impl Interfaces {
    /// Checks that the component is of the world of `kind`, in the version that is served.
    pub(crate) fn check_world(&self, kind: PluginKind) -> Result<(), Refusal> {
        for export in &self.exports {
            let (name, version) = split(export);
            let Some(found) = name.strip_prefix(PACKAGE).and_then(PluginKind::of_interface) else { continue };
            if version != CONTRACT {
                return Err(Refusal::Contract { found: export.clone(), served: CONTRACT.to_owned() });
            }
            if found != kind {
                return Err(Refusal::Kind { expected: kind, found });
            }
        }
        let interface = format!("{PACKAGE}{}@{CONTRACT}", kind.interface());
        let missing =
            [interface.as_str(), "init"].into_iter().find(|name| !self.exports.iter().any(|e| e == name));
        missing.map_or(Ok(()), |missing| Err(Refusal::World { missing: missing.to_owned() }))
    }

    /// Checks every import against the world, the manifest and the operator's grants. Returns what the plugin may
    /// use: what it asks for and is given.
    pub(crate) fn check_grants(
        &self,
        manifest: &Manifest,
        plugin: &str,
        given: Grants,
    ) -> Result<Grants, Refusal> {
        let asked = manifest.grants.union(manifest.optional);
        if let Some(grant) = asked.iter().find(|grant| !manifest.kind.may_have(*grant)) {
            return Err(Refusal::NotInWorld { interface: grant.to_string(), kind: manifest.kind });
        }
        for import in &self.imports {
            let Some(grant) = capability(import)? else { continue };
            if !manifest.kind.may_import(grant) {
                return Err(Refusal::NotInWorld { interface: import.clone(), kind: manifest.kind });
            }
            if !asked.contains(grant) {
                return Err(Refusal::NotRequested { interface: import.clone(), grant });
            }
        }
        if let Some(grant) = manifest.grants.without(given).iter().next() {
            return Err(Refusal::NotGranted { plugin: plugin.to_owned(), grant });
        }
        Ok(asked.intersection(given))
    }
}

/// The capability behind an import; none if every plugin may import it.
pub(crate) fn capability(import: &str) -> Result<Option<Grant>, Refusal> {
    let (name, version) = split(import);
    if let Some(interface) = name.strip_prefix(PACKAGE) {
        if version != CONTRACT {
            return Err(Refusal::Contract { found: import.to_owned(), served: CONTRACT.to_owned() });
        }
        if BASE.contains(&interface) {
            return Ok(None);
        }
        if let Some(grant) = Grant::of_interface(interface) {
            return Ok(Some(grant));
        }
    } else if WASI.contains(&name) && version.starts_with("0.2.") {
        return Ok(None);
    }
    Err(Refusal::Import { interface: import.to_owned(), advice: advice(name, version) })
}

fn advice(name: &str, version: &str) -> &'static str {
    if name.starts_with("wasi:") && version.starts_with("0.3.") {
        return "WASI 0.3 is not served; build for WASI 0.2 (Rust: `wasm32-wasip2`)";
    }
    match name.split('/').next().unwrap_or_default() {
        "wasi:filesystem" => {
            "plugins have no files. Rust: don't use `std::fs`; Python: `componentize-py --stub-wasi`; \
             JavaScript: disable the feature in `componentize`. Files that must be there can be put into the component"
        }
        "wasi:sockets" => {
            "plugins have no sockets. Rust: don't use `std::net`; Python: `componentize-py --stub-wasi`; ask for the \
             grant `http` instead"
        }
        "wasi:http" => {
            "requests go through the grant `http`, so that the host holds the credentials. JavaScript: disable `http` \
             and `fetch-event` in `componentize`"
        }
        _ => "no host function of that name is served; leave it out, or build against the world in `wit/`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(imports: &str) -> Interfaces {
        let imports: Vec<_> =
            imports.split_whitespace().map(|name| format!("(import \"{name}\" (instance))")).collect();
        interfaces(&wat::parse_str(format!("(component {})", imports.join(" "))).unwrap()).unwrap()
    }

    fn manifest(kind: &str, grants: &str, optional: &str) -> Manifest {
        let text = format!(
            "name=\"t\"\nversion=\"1.0.0\"\nkind=\"{kind}\"\ncontract=\"0.1.0\"\ngrants=[{grants}]\noptional=[{optional}]"
        );
        Manifest::parse(&text).unwrap()
    }

    #[test]
    fn what_is_not_a_component_is_refused_before_anything_runs() {
        assert!(matches!(interfaces(b"#!/bin/sh"), Err(Refusal::NotWasm)));
        assert!(matches!(interfaces(b""), Err(Refusal::NotWasm)));
        assert!(matches!(interfaces(&wat::parse_str("(module)").unwrap()), Err(Refusal::CoreModule)));
    }

    #[test]
    fn what_is_truncated_is_invalid_or_lacks_its_exports() {
        let text = "(component (core module (func (export \"f\"))) (core instance (instantiate 0))
            (func (export \"f\") (canon lift (core func 0 \"f\"))))";
        let whole = wat::parse_str(text).unwrap();
        assert_eq!(interfaces(&whole).unwrap().exports, ["f"]);
        for length in 4..whole.len() {
            match interfaces(whole.get(..length).unwrap()) {
                Err(Refusal::Invalid { .. }) => {}
                Ok(found) if found.exports.is_empty() => {} // cut between two sections: refused by its world
                other => panic!("cut at {length}: {other:?}"),
            }
        }
    }

    /// A module may call its exports what it likes, and the validator repeats it.
    #[test]
    fn what_a_component_calls_its_parts_is_short_and_controls_no_terminal() {
        let name = format!("\\1b[2J{}", "x".repeat(10_000));
        let twice = format!("(func (export \"{name}\")) (func (export \"{name}\"))");
        let module = wat::parse_str(format!("(component (core module {twice}))")).unwrap();
        let error = interfaces(&module).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Refusal::Invalid { .. }) && text.contains("duplicate export"), "{text}");
        assert!(text.len() < 500 && !text.contains(char::is_control), "{text}");
    }

    #[test]
    fn only_the_root_counts() {
        let nested = "(component (component (import \"wasi:filesystem/types@0.2.6\" (instance))))";
        assert_eq!(interfaces(&wat::parse_str(nested).unwrap()).unwrap().imports, Vec::<String>::new());
    }

    #[test]
    fn files_and_sockets_are_refused_with_advice() {
        let manifest = manifest("agent", "", "");
        for (import, part) in [
            ("wasi:filesystem/types@0.2.6", "--stub-wasi"),
            ("wasi:sockets/tcp@0.2.6", "std::net"),
            ("wasi:http/outgoing-handler@0.2.6", "grant `http`"),
            ("wasi:cli/stdout@0.3.0", "WASI 0.3"),
            ("acme:own/thing", "no host function"),
            ("chela:plugin/unknown@0.1.0", "no host function"),
        ] {
            let error = component(import).check_grants(&manifest, "t", Grants::all()).unwrap_err();
            assert!(matches!(error, Refusal::Import { .. }), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn stand_ins_need_no_grant() {
        let plain = component("wasi:cli/stdout@0.2.6 wasi:random/insecure-seed@0.2.6 chela:plugin/log@0.1.0");
        assert_eq!(
            plain.check_grants(&manifest("channel", "", ""), "t", Grants::NONE).unwrap(),
            Grants::NONE
        );
    }

    #[test]
    fn a_grant_is_asked_for_and_given() {
        let models = component("chela:plugin/models@0.1.0");
        let given: Grants = [Grant::Models].into_iter().collect();
        let asks = manifest("agent", "\"models\"", "");
        assert_eq!(models.check_grants(&asks, "t", given).unwrap(), given);

        let error = models.check_grants(&manifest("agent", "", ""), "helper", given).unwrap_err().to_string();
        assert!(error.contains("\"models\" to `grants` in its plugin.toml"), "{error}");
        let error = models.check_grants(&asks, "helper", Grants::NONE).unwrap_err().to_string();
        assert!(error.contains("[plugin.helper] in chela.toml"), "{error}");

        let optional = manifest("agent", "", "\"models\"");
        assert_eq!(models.check_grants(&optional, "t", Grants::NONE).unwrap(), Grants::NONE);
        assert_eq!(models.check_grants(&optional, "t", given).unwrap(), given);
    }

    #[test]
    fn what_is_given_and_not_asked_for_is_not_lent() {
        let plain = component("chela:plugin/log@0.1.0");
        assert_eq!(plain.check_grants(&manifest("agent", "", ""), "t", Grants::all()).unwrap(), Grants::NONE);
    }

    #[test]
    fn a_channel_has_no_capability() {
        let models = component("chela:plugin/models@0.1.0");
        let error =
            models.check_grants(&manifest("channel", "\"models\"", ""), "t", Grants::all()).unwrap_err();
        assert!(matches!(error, Refusal::NotInWorld { .. }), "{error}");
    }

    #[test]
    fn world_and_version_are_checked() {
        let exports = |names: &[&str]| Interfaces {
            imports: Vec::new(),
            exports: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let check = |names: &[&str]| exports(names).check_world(PluginKind::Router);
        assert!(check(&["chela:plugin/routing@0.1.0", "init"]).is_ok());
        assert!(
            matches!(check(&["chela:plugin/routing@0.1.0"]), Err(Refusal::World { missing }) if missing == "init")
        );
        assert!(matches!(check(&["chela:plugin/routing@0.9.0", "init"]), Err(Refusal::Contract { .. })));
        assert!(matches!(check(&["chela:plugin/answering@0.1.0", "init"]), Err(Refusal::Kind { .. })));
        assert!(matches!(check(&["wasi:cli/run@0.2.6"]), Err(Refusal::World { .. })));
        let error = component("chela:plugin/models@0.2.0")
            .check_grants(&manifest("agent", "", ""), "t", Grants::all())
            .unwrap_err();
        assert!(matches!(error, Refusal::Contract { .. }), "{error}");
    }
}
