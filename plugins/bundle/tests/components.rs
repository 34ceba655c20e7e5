//! The wasm boundary is real: what our own components import is decoded from the built bytes.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use std::collections::BTreeSet;

use wasmparser::{Parser, Payload};

/// Small enough to be compiled in well under a second.
const SIZE_MAX: usize = 512 * 1024;

/// The imports of the component itself, without versions; not those of the modules inside.
fn imports(component: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                let names = section.into_iter().map(|import| import.unwrap().name.name.to_owned());
                found.extend(names.map(|name| name.split('@').next().unwrap().to_owned()));
            }
            _ => {}
        }
    }
    found
}

/// What a component takes from the contract beyond what every plugin has.
fn capabilities(component: &[u8]) -> Vec<String> {
    let shared = ["types", "config", "log"];
    let names = imports(component)
        .into_iter()
        .filter_map(|name| Some(name.strip_prefix("chela:plugin/")?.to_owned()));
    names.filter(|name| !shared.contains(&name.as_str())).collect()
}

#[test]
fn no_component_reaches_for_files_sockets_or_anything_unknown() {
    let known = ["chela:plugin/", "wasi:io/", "wasi:cli/", "wasi:clocks/", "wasi:random/"];
    for builtin in chela_bundle::all() {
        for import in imports(builtin.component) {
            assert!(
                known.iter().any(|prefix| import.starts_with(prefix)),
                "{} imports {import}",
                builtin.name
            );
        }
    }
}

#[test]
fn components_import_the_capabilities_they_use_and_no_other() {
    for builtin in chela_bundle::all() {
        let expected: &[&str] = if builtin.name == "assistant" { &["knowledge", "models"] } else { &[] };
        assert_eq!(capabilities(builtin.component), expected, "{}", builtin.name);
    }
}

#[test]
fn manifests_name_their_component_and_ask_for_what_it_imports() {
    for builtin in chela_bundle::all() {
        let manifest: toml::Table = toml::from_str(builtin.manifest).unwrap();
        assert_eq!(manifest["name"].as_str(), Some(builtin.name));
        let asked =
            manifest["grants"].as_array().unwrap().iter().map(|grant| grant.as_str().unwrap().to_owned());
        let asked: BTreeSet<String> = asked.collect();
        assert_eq!(asked, capabilities(builtin.component).into_iter().collect(), "{}", builtin.name);
    }
}

#[test]
fn components_are_small() {
    for builtin in chela_bundle::all() {
        println!("{:>7} {} {:?}", builtin.component.len(), builtin.name, imports(builtin.component));
        assert!(
            builtin.component.len() <= SIZE_MAX,
            "{} has {} bytes",
            builtin.name,
            builtin.component.len()
        );
    }
}

#[test]
fn builtins_are_found_by_name() {
    assert_eq!(chela_bundle::get("keyword").map(|builtin| builtin.name), Some("keyword"));
    assert_eq!(chela_bundle::get("ghost"), None);
}

#[test]
fn the_demo_has_four_personas_and_their_documents() {
    for agent in ["sales", "support", "technical", "hr"] {
        assert!(chela_bundle::document(&format!("persona/{agent}.md")).is_some());
        let folder = format!("knowledge/{agent}/");
        assert!(
            chela_bundle::demo().filter(|document| document.path.starts_with(&folder)).count() >= 2,
            "{agent}"
        );
    }
    for table in ["rules.toml", "model.toml"] {
        toml::from_str::<toml::Table>(chela_bundle::document(table).unwrap()).unwrap();
    }
}
