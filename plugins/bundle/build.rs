//! Builds our own components and writes the table that `lib.rs` includes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chela_plugin_build::{Built, Plugin, build};

/// Name and folder below `plugins/`.
const PLUGINS: [(&str, &str); 5] = [
    ("keyword", "routers/keyword"),
    ("assistant", "agents/assistant"),
    ("slack", "channels/slack"),
    ("webhook", "channels/webhook"),
    ("web-chat", "channels/web-chat"),
];

// Printing is how a build script speaks to cargo.
#[allow(clippy::print_stdout)]
fn main() -> anyhow::Result<()> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let workspace = here.join("../..").canonicalize()?;
    let plugins: Vec<Plugin> =
        PLUGINS.iter().map(|(name, folder)| plugin(&workspace, name, folder)).collect();
    let watch = ["sdk/rust", "wit"].map(|folder| workspace.join(folder));
    let built = build(&workspace, &plugins, &watch)?;
    let mut table = String::new();
    for ((name, _), built) in PLUGINS.iter().zip(&built) {
        entry(&mut table, name, built)?;
    }
    let demo = here.join("demo");
    println!("cargo::rerun-if-changed={}", demo.display());
    let table = format!(
        "static BUILTINS: &[Builtin] = &[{table}];\nstatic DEMO: &[Document] = &[{}];\n",
        files(&demo)?
    );
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("table.rs"), table)?;
    Ok(())
}

fn plugin(workspace: &Path, name: &str, folder: &str) -> Plugin {
    Plugin { package: format!("chela-plugin-{name}"), folder: workspace.join("plugins").join(folder) }
}

fn entry(table: &mut String, name: &str, built: &Built) -> std::fmt::Result {
    let (manifest, component) = (&built.manifest, &built.component);
    write!(
        table,
        "Builtin {{ name: {name:?}, manifest: include_str!({manifest:?}), component: include_bytes!({component:?}) }},"
    )
}

/// The demo's documents, sorted by path.
fn files(demo: &Path) -> anyhow::Result<String> {
    let mut found = Vec::new();
    let mut folders = vec![demo.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder)? {
            let path = item?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    let mut table = String::new();
    for path in found {
        let name = path.strip_prefix(demo)?.to_string_lossy().replace('\\', "/");
        write!(table, "Document {{ path: {name:?}, text: include_str!({path:?}) }},")?;
    }
    Ok(table)
}
