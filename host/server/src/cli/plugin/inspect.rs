//! `chela plugin inspect`: what one plugin is and what it may touch.

use std::path::PathBuf;
use std::process::ExitCode;

use chela_engine::{Agent, Channel, Router};
use chela_sandbox::{Grants, Level, Limits, Manifest, PluginKind, Settings};
use chela_types::{Digest, PluginId};
use serde_json::json;

use super::super::{Failure, Outcome, say, say_json};
use crate::compose::{Surroundings, looking_sandbox, plugin_source};
use crate::config::Source;
use crate::turn::in_one_line;

/// A plugin as it was found.
pub(super) struct Looked {
    pub(super) manifest: Manifest,
    /// What its component imports.
    pub(super) imports: Vec<String>,
    /// The component's own digest.
    pub(super) component: Digest,
}

pub(super) async fn run(source: &str, as_json: bool) -> Outcome {
    let Looked { manifest, imports, .. } = look(named(source)?).await?;
    if as_json {
        return say_json(&json!({ "manifest": manifest, "imports": imports }));
    }
    say(&page(&manifest, &imports));
    Ok(ExitCode::SUCCESS)
}

/// `builtin:NAME`, or a folder.
pub(super) fn named(source: &str) -> Result<chela_sandbox::Source, Failure> {
    let given = match source.strip_prefix("builtin:") {
        Some(name) => Source::Builtin(name.to_owned()),
        None => Source::Folder(PathBuf::from(source)),
    };
    Ok(plugin_source(&PluginId::new(ID)?, &given)?)
}

/// Under which name a plugin is looked at.
pub(super) const ID: &str = "inspected";

/// Reads and checks, and runs nothing.
pub(super) async fn look(source: chela_sandbox::Source) -> Result<Looked, Failure> {
    let id = PluginId::new(ID)?;
    let folder = match &source {
        chela_sandbox::Source::Folder(folder) => Some(folder.clone()),
        chela_sandbox::Source::Embedded { .. } | chela_sandbox::Source::Kept { .. } => None,
    };
    let sandbox = looking_sandbox(&Surroundings::of_this_program()?)?;
    let build = sandbox.read(&id, source).await.map_err(|error| match folder {
        Some(folder) => Failure::from(error).help(format!("is {} a plugin's folder?", folder.display())),
        None => Failure::from(error),
    })?;
    let (component, kind, source) = (build.component_digest, build.manifest.kind, build.source());
    let (grants, limits, level) = (Grants::all(), Limits::STANDARD, Level::Worker);
    let settings = Settings { id, config: json!({}), grants, limits, level };
    let (manifest, imports) = match kind {
        PluginKind::Router => sandbox.inspect::<Router>(source, &settings).await?,
        PluginKind::Agent => sandbox.inspect::<Agent>(source, &settings).await?,
        PluginKind::Channel => sandbox.inspect::<Channel>(source, &settings).await?,
    };
    Ok(Looked { manifest, imports, component })
}

/// A plugin on one page. Its own words are a stranger's, and whoever looks has a terminal.
fn page(manifest: &Manifest, imports: &[String]) -> String {
    let asked: Vec<_> = manifest.grants.iter().map(chela_sandbox::Grant::as_str).collect();
    let optional: Vec<_> = manifest.optional.iter().map(chela_sandbox::Grant::as_str).collect();
    let or_nothing =
        |names: Vec<&str>| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let mut text = format!(
        "{} {} · {}\n{}\n\n  asks for   {}\n  optional   {}\n  imports\n",
        manifest.name,
        manifest.version,
        manifest.kind.as_str(),
        in_one_line(&manifest.description),
        or_nothing(asked),
        or_nothing(optional),
    );
    for import in imports {
        text.push_str(&format!("    {}\n", in_one_line(import)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "\u{1b}[2J\u{7}\n  asks for   nothing";

    fn steers(text: &str) -> bool {
        text.contains(|c: char| c.is_control() && c != '\n')
    }

    #[test]
    fn a_plugins_words_do_not_steer_the_terminal() {
        let mut manifest = Manifest::parse(chela_bundle::get("assistant").unwrap().manifest).unwrap();
        manifest.description = EVIL.to_owned();
        let page = page(&manifest, &[EVIL.to_owned()]);
        assert!(!steers(&page), "{page:?}");
        assert_eq!(page.lines().filter(|line| line.starts_with("  asks for")).count(), 1, "{page}");
    }
}
