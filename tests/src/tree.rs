//! The source tree as data, for tests of conventions.

use std::path::{Path, PathBuf};

/// The top of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Names of the libraries in the `[dependencies]` of a package, tests' and build's left out.
pub fn dependencies(package: &str) -> Vec<String> {
    let path = root().join(package).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names = table.get("dependencies").and_then(toml::Value::as_table);
    names.map(|names| names.keys().cloned().collect()).unwrap_or_default()
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
                if name != "target" && !name.starts_with('.') {
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
