//! The docs keep up with the program: every code has its page, the reference is fresh.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{Code, json_schema, reference};

fn docs(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(path)
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let wanted: BTreeSet<String> = Code::ALL.iter().map(|code| code.page()).collect();
    for code in Code::ALL {
        let page = std::fs::read_to_string(docs("errors").join(code.page())).unwrap_or_default();
        assert!(
            page.contains(&format!("`{code}`")),
            "docs/errors/{} is missing or names no `{code}`",
            code.page()
        );
    }
    let there = std::fs::read_dir(docs("errors")).unwrap().flatten();
    let pages: BTreeSet<String> = there
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("config-"))
        .collect();
    assert_eq!(pages, wanted);
}

#[test]
fn the_reference_is_fresh() {
    let path = docs("reference/config.md");
    if std::env::var_os("CHELA_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/reference/config.md is stale; its first lines say how to write it anew"
    );
}

#[test]
fn every_key_says_what_it_means() {
    fn meanings(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().unwrap_or_default().is_empty() {
                missing.push(path.clone());
            }
            meanings(&path, field, missing);
            meanings(&path, &field["additionalProperties"], missing);
        }
    }
    let mut missing = Vec::new();
    meanings("", &json_schema(), &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}
