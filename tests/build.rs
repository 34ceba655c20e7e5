//! Builds the first lesson, and writes the table that `src/guests.rs` includes. The guests that misbehave come with the
//! drill.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chela_plugin_build::{Built, Plugin, build};

/// Name in the tests, package and folder below the workspace.
const GUESTS: [(&str, &str, &str); 1] = [("echo", "echo-agent", "examples/echo-agent")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let plugins: Vec<Plugin> = GUESTS
        .iter()
        .map(|(_, package, folder)| Plugin { package: (*package).to_owned(), folder: workspace.join(folder) })
        .collect();
    let watch = ["sdk/rust", "wit"].map(|folder| workspace.join(folder));
    let mut table = String::new();
    for ((name, ..), built) in GUESTS.iter().zip(build(&workspace, &plugins, &watch)?) {
        let Built { manifest, component, .. } = built;
        write!(
            table,
            "Guest {{ name: {name:?}, manifest: include_str!({manifest:?}), component: include_bytes!({component:?}) }},"
        )?;
    }
    let table = format!("static GUESTS: &[Guest] = &[{table}];\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("guests.rs"), table)?;
    Ok(())
}
