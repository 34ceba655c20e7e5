//! `chela plugin list`: what serves, how it does, and what waits.

use std::process::ExitCode;

use chela_engine::{PluginStatus, VersionStatus};
use chela_types::Millis;
use serde_json::{Value, json};

use super::super::args::{ConfigPath, Shown};
use super::super::operator::Operator;
use super::super::{Failure, Outcome, load, say, say_json, table};
use super::kept;
use crate::compose::uses;
use crate::turn::{in_one_line, moment};

/// Hex digits of a digest that are shown.
const DIGEST_DIGITS: usize = 12;

pub(super) async fn run(shown: &Shown) -> Outcome {
    let plugins: Vec<PluginStatus> = match Operator::at(&shown.config).await {
        Ok(Operator::Running(host)) => host.get("/plugins").await?,
        Ok(Operator::Stopped(store)) => kept::plugins(&store).await.unwrap_or_default(),
        // No data yet.
        Err(_) => Vec::new(),
    };
    if plugins.is_empty() {
        return written(&shown.config, shown.json);
    }
    if shown.json {
        return say_json(&plugins);
    }
    say(&page(&plugins));
    Ok(ExitCode::SUCCESS)
}

/// The table, and under it what waits and why.
pub(super) fn page(plugins: &[PluginStatus]) -> String {
    let mut rows =
        table(&["plugin", "version", "state", "calls", "failures", "p95", "since (UTC)", "by", "digest"]);
    let mut notes = String::new();
    for plugin in plugins {
        for version in plugin.versions.iter().filter(|version| version.state != "retired") {
            rows.add_row(row(plugin, version));
            notes.extend(note(plugin, version).map(|note| format!("{note}\n")));
        }
    }
    if notes.is_empty() { format!("{rows}\n") } else { format!("{rows}\n\n{notes}") }
}

fn row(plugin: &PluginStatus, version: &VersionStatus) -> [String; 9] {
    let serves = in_one_line(&plugin.serves.join(", "));
    let name = in_one_line(&plugin.plugin);
    [
        if serves.is_empty() || version.state != "active" { name } else { format!("{name}\n{serves}") },
        in_one_line(&version.version),
        state(version),
        version.calls.to_string(),
        version.failures.to_string(),
        version.p95_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default(),
        if version.since_ms == 0 {
            String::new()
        } else {
            moment(Millis(version.since_ms)).trim_end_matches(" UTC").to_owned()
        },
        in_one_line(&version.by),
        digest(version),
    ]
}

fn digest(version: &VersionStatus) -> String {
    in_one_line(&version.digest).chars().take(DIGEST_DIGITS).collect()
}

fn state(version: &VersionStatus) -> String {
    let share = version.share.map(|percent| format!(" {percent} %")).unwrap_or_default();
    let serves = matches!(version.state.as_str(), "active" | "canary");
    let trial = if version.on_trial && serves { ", on trial" } else { "" };
    format!("{}{share}{trial}", in_one_line(&version.state))
}

/// What there is to say of a version besides its numbers.
fn note(plugin: &PluginStatus, version: &VersionStatus) -> Option<String> {
    let name = &plugin.plugin;
    let because = if version.reason.is_empty() { String::new() } else { format!(": {}", version.reason) };
    let said = match version.state.as_str() {
        // What somebody has to allow, the host's reason says.
        "waiting" => format!(
            "waits{because}\n  in what it differs: chela plugin diff {name} {name}@{digits}",
            digits = digest(version)
        ),
        "ready" => format!(
            "is ready{because}\n  to make it active: chela plugin promote {name} --version {digits}",
            digits = digest(version)
        ),
        "refused" => format!("is refused{because}"),
        "shadow" => shadow(version)?,
        _ => return None,
    };
    let head = format!("{name} {} ({}) ", version.version, digest(version));
    let lines: Vec<_> = said.split("\n  ").map(in_one_line).collect();
    Some(format!("{}{}", in_one_line(&head), lines.join("\n  ")))
}

fn shadow(version: &VersionStatus) -> Option<String> {
    let seen = version.shadow.as_ref()?;
    Some(format!(
        "in the shadow: {} compared, {} the same, {} different, {} asked for something else, {} failed, {} skipped",
        seen.compared, seen.same, seen.different, seen.diverged, seen.failed, seen.skipped
    ))
}

/// What the file says, where nothing is kept yet.
fn written(at: &ConfigPath, as_json: bool) -> Result<ExitCode, Failure> {
    let config = load(at)?;
    let uses = uses(&config)?;
    if as_json {
        let shown = uses.iter().map(|used| {
            json!({
                "serves": used.by, "plugin": used.plugin, "kind": used.kind.as_str(),
                "grants": used.config.grants,
            })
        });
        return say_json(&shown.collect::<Vec<Value>>());
    }
    let mut rows = table(&["serves", "plugin", "kind", "may use"]);
    for used in uses {
        let grants: Vec<_> = used.config.grants.iter().map(chela_sandbox::Grant::as_str).collect();
        rows.add_row([used.by, used.plugin.to_string(), used.kind.as_str().to_owned(), grants.join(", ")]);
    }
    say(&format!("{rows}\n\nno host has run with this configuration yet\n"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_engine::ShadowStatus;

    fn version(state: &str, digest: char) -> VersionStatus {
        VersionStatus {
            digest: digest.to_string().repeat(64),
            version: "1.0.0".to_owned(),
            state: state.to_owned(),
            since_ms: 1_795_878_245_000,
            by: "ann".to_owned(),
            ..VersionStatus::default()
        }
    }

    fn plugins() -> Vec<PluginStatus> {
        let active = VersionStatus {
            calls: 1_200,
            failures: 2,
            p95_ms: Some(12.34),
            on_trial: true,
            ..version("active", 'a')
        };
        let waiting = VersionStatus { reason: "it asks for memory".to_owned(), ..version("waiting", 'b') };
        let canary = VersionStatus { share: Some(5), ..version("canary", 'c') };
        let seen =
            ShadowStatus { compared: 120, same: 118, different: 1, diverged: 1, ..ShadowStatus::default() };
        let shadow = VersionStatus { shadow: Some(seen), ..version("shadow", 'd') };
        let of = |name: &str, kind: &str, serves: &str, versions: Vec<VersionStatus>| PluginStatus {
            plugin: name.to_owned(),
            kind: kind.to_owned(),
            serves: vec![serves.to_owned()],
            revision: 1,
            versions,
        };
        vec![
            of("helper", "agent", "agent hr", vec![waiting, active, version("retired", 'e')]),
            of("keyword", "router", "routing", vec![canary, shadow, version("ready", 'f')]),
        ]
    }

    #[test]
    fn a_list_shows_what_serves_and_what_waits() {
        insta::assert_snapshot!(page(&plugins()));
    }

    const EVIL: &str = "\u{1b}[2J\u{7}\nhelper waits";

    #[test]
    fn a_plugins_words_do_not_steer_the_terminal() {
        let mut plugins = plugins();
        for version in plugins.iter_mut().flat_map(|plugin| &mut plugin.versions) {
            for word in [&mut version.reason, &mut version.version, &mut version.by, &mut version.digest] {
                EVIL.clone_into(word);
            }
        }
        plugins[0].serves = vec![EVIL.to_owned()];
        let text = page(&plugins);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("helper waits")), "{text}");
    }
}
