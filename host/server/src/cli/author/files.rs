//! Files that this program carries for authors: the templates of plugins, and the sdks, so that a plugin begins with
//! nothing but this program and a toolchain.

use chela_sandbox::PluginKind;

use super::project::Lang;

/// A file: its path below its folder, and its text.
pub(super) type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../../../", $folder, "/", $path)))),*]
    };
}

const RUST: &[File] = files!("sdk/rust":
    "src/agent.rs" "src/bindings.rs" "src/blobs.rs" "src/channel.rs" "src/config.rs" "src/export.rs"
    "src/http.rs" "src/knowledge.rs" "src/lib.rs" "src/log.rs" "src/memory.rs" "src/models.rs"
    "src/reply.rs" "src/router.rs" "src/testing.rs" "src/tools.rs"
);

const PYTHON: &[File] = files!("sdk/python":
    "README.md" "pyproject.toml" "chela_sdk/__init__.py" "chela_sdk/agent.py" "chela_sdk/blobs.py"
    "chela_sdk/build/__init__.py" "chela_sdk/build/__main__.py" "chela_sdk/build/world.py"
    "chela_sdk/channel.py" "chela_sdk/component.py" "chela_sdk/config.py" "chela_sdk/export.py"
    "chela_sdk/host.py" "chela_sdk/http.py" "chela_sdk/knowledge.py" "chela_sdk/log.py"
    "chela_sdk/memory.py" "chela_sdk/models.py" "chela_sdk/py.typed" "chela_sdk/router.py"
    "chela_sdk/testing.py" "chela_sdk/tools.py" "chela_sdk/types.py" "chela_sdk/variant.py"
);

const JS: &[File] = files!("sdk/js":
    "README.md" "package.json" "build/main.js" "build/tools.js" "build/world.js" "src/agent.d.ts"
    "src/agent.js" "src/capabilities.d.ts" "src/capabilities.js" "src/channel.d.ts" "src/channel.js"
    "src/component.js" "src/config.js" "src/console.js" "src/errors.d.ts" "src/errors.js" "src/host.js"
    "src/index.d.ts" "src/index.js" "src/testing.d.ts" "src/testing.js"
);

const CONTRACT: &[File] = files!("wit/0.1.0":
    "answering.wit" "capabilities.wit" "routing.wit" "translating.wit" "types.wit" "worlds.wit"
);

/// The manifest of the sdk for Rust outside its workspace, from which it inherits otherwise.
const RUST_MANIFEST: &str = r#"# The sdk for plugins in Rust, as it came with `chela`.
[package]
name = "chela-sdk"
version = "0.1.0"
edition = "2024"
publish = false

[dependencies]
wit-bindgen = { version = "0.61.1", default-features = false, features = ["macros", "realloc", "std", "bitflags", "macro-string"] }
serde = { version = "1", features = ["derive"] }
serde_json = "1"
"#;

/// The sdk of a language, whole: what a plugin's folder holds under `sdk/`.
pub(super) fn sdk(lang: Lang) -> Vec<(String, String)> {
    let (files, contract) = match lang {
        Lang::Rust => (RUST, "wit"),
        Lang::Python => (PYTHON, "chela_sdk/wit"),
        Lang::Js => (JS, "wit"),
    };
    let mut all: Vec<_> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    all.extend(CONTRACT.iter().map(|(path, text)| (format!("{contract}/{path}"), (*text).to_owned())));
    if lang == Lang::Rust {
        // In the clone the contract lies elsewhere.
        for (path, text) in &mut all {
            if path == "src/bindings.rs" {
                *text = text.replace("\"../../wit/0.1.0\"", "\"wit\"");
            }
        }
        all.push(("Cargo.toml".to_owned(), RUST_MANIFEST.to_owned()));
    }
    all
}

macro_rules! template {
    ($($path:literal)*) => { [$(($path, include_str!(concat!("template/", $path)))),*] };
}

/// Every text of which plugins are made.
static TEMPLATE: [File; 26] = template![
    "agent.toml" "cases/agent-answer.toml" "cases/agent-outage.toml" "cases/channel-answer.toml"
    "cases/channel-page.toml" "cases/router-other.toml" "cases/router-word.toml" "channel.toml"
    "js/agent.js" "js/agent.test.js" "js/channel.js" "js/channel.test.js" "js/package.json" "js/router.js"
    "js/router.test.js" "python/agent.py" "python/channel.py" "python/router.py" "python/test_agent.py"
    "python/test_channel.py" "python/test_router.py" "router.toml" "rust/Cargo.toml" "rust/agent.rs"
    "rust/channel.rs" "rust/router.rs"
];

fn text(path: &str) -> String {
    let found = TEMPLATE.iter().find(|(name, _)| *name == path);
    found.map(|(_, text)| (*text).to_owned()).unwrap_or_default()
}

/// The files of a new plugin, with holes for its name and its sdk.
pub(super) fn template(lang: Lang, kind: PluginKind) -> Vec<(String, String)> {
    let cases = match kind {
        PluginKind::Router => ["word", "other"],
        PluginKind::Agent => ["answer", "outage"],
        PluginKind::Channel => ["page", "answer"],
    };
    let own: Vec<(&str, String)> = match lang {
        Lang::Rust => {
            vec![("Cargo.toml", "rust/Cargo.toml".to_owned()), ("src/lib.rs", format!("rust/{kind}.rs"))]
        }
        Lang::Python => vec![
            ("plugin.py", format!("python/{kind}.py")),
            ("test_plugin.py", format!("python/test_{kind}.py")),
        ],
        Lang::Js => vec![
            ("package.json", "js/package.json".to_owned()),
            ("plugin.js", format!("js/{kind}.js")),
            ("plugin.test.js", format!("js/{kind}.test.js")),
        ],
    };
    let mut files: Vec<_> = own.into_iter().map(|(path, from)| (path.to_owned(), text(&from))).collect();
    files.push(("plugin.toml".to_owned(), text(&format!("{kind}.toml"))));
    files
        .extend(cases.map(|case| (format!("cases/{case}.toml"), text(&format!("cases/{kind}-{case}.toml")))));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// Every file below a folder of the checkout, but for what tools leave there.
    fn below(folder: &str) -> BTreeSet<String> {
        let top = root().join(folder);
        let (mut found, mut waiting) = (BTreeSet::new(), vec![top.clone()]);
        while let Some(next) = waiting.pop() {
            for entry in std::fs::read_dir(next).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                let left = ["__pycache__", "node_modules", "chela_sdk.egg-info", "build/lib"];
                if kind.is_dir() && !left.iter().any(|name| path.ends_with(name)) {
                    waiting.push(path);
                } else if kind.is_file() {
                    found.insert(path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found
    }

    fn carried(files: &[File], below: &str) -> BTreeSet<String> {
        files.iter().filter_map(|(path, _)| path.strip_prefix(below)).map(str::to_owned).collect()
    }

    #[test]
    fn the_sdks_are_carried_whole() {
        assert_eq!(carried(RUST, "src/"), below("sdk/rust/src"));
        assert_eq!(carried(PYTHON, "chela_sdk/"), below("sdk/python/chela_sdk"));
        assert_eq!(carried(JS, "src/"), below("sdk/js/src"));
        assert_eq!(carried(JS, "build/"), below("sdk/js/build"));
        assert_eq!(carried(CONTRACT, ""), below("wit/0.1.0"));
        assert_eq!(carried(&TEMPLATE, ""), below("host/server/src/cli/author/template"));
    }

    #[test]
    fn outside_its_workspace_the_sdk_depends_on_the_same() {
        let parse = |text: &str| text.parse::<toml::Table>().unwrap();
        let workspace = parse(&std::fs::read_to_string(root().join("Cargo.toml")).unwrap());
        let inside = parse(&std::fs::read_to_string(root().join("sdk/rust/Cargo.toml")).unwrap());
        let outside = parse(RUST_MANIFEST);
        let names =
            |of: &toml::Table| of["dependencies"].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&outside), names(&inside));
        let pinned = &workspace["workspace"]["dependencies"]["wit-bindgen"];
        assert_eq!(&outside["dependencies"]["wit-bindgen"], pinned);
        let bindings = sdk(Lang::Rust).into_iter().find(|(path, _)| path == "src/bindings.rs").unwrap().1;
        assert_eq!((bindings.matches("\"wit\"").count(), bindings.contains("../wit")), (3, false));
    }

    #[test]
    fn no_text_of_a_template_is_missing() {
        for lang in [Lang::Rust, Lang::Python, Lang::Js] {
            for kind in [PluginKind::Router, PluginKind::Agent, PluginKind::Channel] {
                let files = template(lang, kind);
                assert!(
                    files.len() >= 5 && files.iter().all(|(_, text)| !text.is_empty()),
                    "{lang:?} {kind}"
                );
            }
        }
    }
}
