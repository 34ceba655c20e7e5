//! The source tree as data, for tests of conventions.

use std::path::{Path, PathBuf};

/// The top of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Names of the libraries that a package depends on, its tests' left out.
pub fn dependencies(package: &str) -> Vec<String> {
    let path = root().join(package).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    dependencies_in(&text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The same of a manifest: for every target, the build's too, and by their own names where they are renamed.
pub fn dependencies_in(manifest: &toml::Table) -> Vec<String> {
    let table = |value: &toml::Value| value.as_table().cloned().unwrap_or_default();
    let targets = manifest.get("target").map(table).unwrap_or_default();
    let sections = targets.values().map(table).chain([manifest.clone()]);
    let lists = sections.flat_map(|section| {
        ["dependencies", "build-dependencies"].map(|key| section.get(key).map(table).unwrap_or_default())
    });
    let own_name = |(name, value): (String, toml::Value)| {
        let renamed = value.get("package").and_then(toml::Value::as_str).map(str::to_owned);
        renamed.unwrap_or(name)
    };
    lists.flat_map(|list| list.into_iter().map(own_name).collect::<Vec<_>>()).collect()
}

/// Folders directly in `folder`.
pub fn folders(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Rust files below `folder`: path relative to it, and text.
pub fn sources(folder: &str) -> Vec<(String, String)> {
    files(folder, "rs")
}

/// All Rust files of the project.
pub fn all_sources() -> Vec<(String, String)> {
    let tops = ["host", "plugins", "sdk", "examples", "tests"];
    tops.iter()
        .flat_map(|top| sources(top).into_iter().map(move |(path, text)| (format!("{top}/{path}"), text)))
        .collect()
}

/// Languages other than Rust, by the ends of their files' names.
const SCRIPTS: [&str; 4] = ["py", "js", "ts", "sh"];

/// What is written in them.
pub fn scripts() -> Vec<(String, String)> {
    let is_script = |path: &str| SCRIPTS.iter().any(|kind| path.ends_with(&format!(".{kind}")));
    other_sources().into_iter().filter(|(path, _)| is_script(path)).collect()
}

/// What else is written by hand: path and text.
pub fn other_sources() -> Vec<(String, String)> {
    let kinds = [("host", "html"), ("host", "sql"), ("host", "toml"), ("wit", "wit"), ("plugins", "toml")];
    let scripts = ["sdk", "examples", "tests"].into_iter().flat_map(|top| SCRIPTS.map(|kind| (top, kind)));
    kinds
        .into_iter()
        .chain(scripts)
        .flat_map(|(top, kind)| {
            files(top, kind).into_iter().map(move |(path, text)| (format!("{top}/{path}"), text))
        })
        .collect()
}

/// All Markdown files of the project.
pub fn documents() -> Vec<(String, String)> {
    let tops = ["docs", "plugins", "sdk", "examples", "tests"];
    let mut found: Vec<(String, String)> = tops
        .iter()
        .flat_map(|top| files(top, "md").into_iter().map(move |(path, text)| (format!("{top}/{path}"), text)))
        .collect();
    for name in ["README.md", "CHANGELOG.md"] {
        if let Ok(text) = std::fs::read_to_string(root().join(name)) {
            found.push((name.to_owned(), text));
        }
    }
    found
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let top = root().join(folder);
    let mut found = Vec::new();
    let mut waiting = vec![top.clone()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules"].contains(&name.as_str()) && !name.starts_with('.') {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let relative = path.strip_prefix(&top).unwrap_or(&path).to_string_lossy().into_owned();
                found.push((relative, text));
            }
        }
    }
    found.sort();
    found
}
