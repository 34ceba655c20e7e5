//! `chela plugin …`: what is loaded, and what a plugin may touch.

use std::path::PathBuf;
use std::process::ExitCode;

use chela_engine::{Agent, Channel, Router};
use chela_sandbox::{Grants, Limits, Manifest, PluginKind, Settings};
use chela_types::PluginId;
use serde_json::{Value, json};

use super::args::{ConfigPath, PluginCommand};
use super::operator::Operator;
use super::{Failure, Outcome, load, say, say_json, table};
use crate::compose::{Surroundings, looking_sandbox, plugin_source, uses};
use crate::config::Source;
use crate::turn::in_one_line;

pub(super) async fn run(command: PluginCommand) -> Outcome {
    match command {
        PluginCommand::List { config, json } => list(&config, json).await,
        PluginCommand::Inspect { source, json } => inspect(&source, json).await,
    }
}

/// One row: what the running host has loaded, or what the configuration would load.
fn row(of: &Value) -> [String; 5] {
    let text = |key: &str| match of.get(key) {
        Some(Value::String(text)) => in_one_line(text),
        Some(Value::Array(items)) => {
            in_one_line(&items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    };
    let digest = text("digest").chars().take(12).collect();
    [text("serves"), text("plugin"), format!("{} {}", text("kind"), text("version")), text("grants"), digest]
}

async fn list(at: &ConfigPath, as_json: bool) -> Outcome {
    let config = load(at)?;
    let rows: Vec<Value> = match Operator::of(&config.store.folder).await {
        Ok(Operator::Running(host)) => host.get("/plugins").await?,
        // No host, or no data yet: what the file says.
        _ => uses(&config)?
            .into_iter()
            .map(|used| {
                json!({
                    "serves": used.by, "plugin": used.plugin, "kind": used.kind.as_str(),
                    "grants": used.config.grants,
                })
            })
            .collect(),
    };
    if as_json {
        return say_json(&rows);
    }
    let mut plugins = table(&["serves", "plugin", "kind", "may use", "digest"]);
    rows.iter().for_each(|of| {
        plugins.add_row(row(of));
    });
    say(&format!("{plugins}\n"));
    Ok(ExitCode::SUCCESS)
}

async fn inspect(source: &str, as_json: bool) -> Outcome {
    let given = match source.strip_prefix("builtin:") {
        Some(name) => Source::Builtin(name.to_owned()),
        None => Source::Folder(PathBuf::from(source)),
    };
    let id = PluginId::new("inspected")?;
    let source = plugin_source(&id, &given)?;
    let text = match &source {
        chela_sandbox::Source::Embedded { manifest, .. } => manifest.clone(),
        chela_sandbox::Source::Folder(folder) => std::fs::read_to_string(folder.join("plugin.toml"))
            .map_err(|error| {
                Failure::from(error).help(format!("is {} a plugin's folder?", folder.display()))
            })?,
    };
    let manifest = Manifest::parse(&text)?;
    let sandbox = looking_sandbox(&Surroundings::of_this_program()?)?;
    let settings = Settings { id, config: json!({}), grants: Grants::all(), limits: Limits::STANDARD };
    let (manifest, imports) = match manifest.kind {
        PluginKind::Router => sandbox.inspect::<Router>(source, &settings).await?,
        PluginKind::Agent => sandbox.inspect::<Agent>(source, &settings).await?,
        PluginKind::Channel => sandbox.inspect::<Channel>(source, &settings).await?,
    };
    if as_json {
        return say_json(&json!({ "manifest": manifest, "imports": imports }));
    }
    say(&page(&manifest, &imports));
    Ok(ExitCode::SUCCESS)
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
        let row = row(&json!({ "plugin": EVIL, "version": EVIL, "grants": [EVIL], "digest": EVIL }));
        assert!(row.iter().all(|cell| !cell.contains(char::is_control)), "{row:?}");
    }
}
