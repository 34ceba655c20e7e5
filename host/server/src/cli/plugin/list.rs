//! `chela plugin list`: what serves, how it does, and what waits.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chela_engine::{Pending, PluginStatus, VersionStatus};
use chela_types::{Clock, Millis, PluginId, SystemClock};

use super::super::args::Shown;
use super::super::operator::Operator;
use super::super::{Outcome, load, say, say_json, table};
use super::kept;
use crate::compose::{Use, uses};
use crate::turn::{in_one_line, short, span};

pub(super) async fn run(shown: &Shown, all: bool) -> Outcome {
    let plugins: Vec<PluginStatus> = match Operator::at(&shown.config).await {
        Ok(Operator::Running(host)) => host.get("/plugins").await?,
        Ok(Operator::Stopped(store)) => kept::plugins(&store).await?,
        Err(failure) if failure.is_of_no_store() => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let is_kept = !plugins.is_empty();
    // Where nothing is kept yet, what the file says.
    let uses = if is_kept { Vec::new() } else { uses(&load(&shown.config)?)? };
    if shown.json {
        return say_json(&if is_kept { plugins } else { unserved(&uses) });
    }
    say(&if is_kept { page(&plugins, all, SystemClock.now()) } else { written(uses) });
    Ok(ExitCode::SUCCESS)
}

/// The table, and under it what waits and why. What neither serves nor lies in a folder is in it if `all` is.
pub(super) fn page(plugins: &[PluginStatus], all: bool, now: Millis) -> String {
    let mut rows = table(&["plugin", "version", "state", "calls", "p95", "since"]);
    let mut notes = String::new();
    for plugin in plugins {
        let mut versions: Vec<_> = plugin.versions.iter().filter(|it| all || is_of_now(plugin, it)).collect();
        versions.sort_by_key(|version| ORDER.iter().position(|state| *state == version.state));
        // What cannot be read has a note alone.
        for version in versions.into_iter().filter(|it| it.state != "refused" || !it.digest.is_empty()) {
            rows.add_row(row(plugin, version, now));
            notes.extend(shadow(plugin, version).map(|note| format!("{note}\n")));
        }
        notes.extend(plugin.pending().map(|pending| format!("{}\n", note(&pending))));
    }
    if notes.is_empty() { format!("{rows}\n") } else { format!("{rows}\n\n{notes}") }
}

/// What serves first.
const ORDER: [&str; 10] =
    ["active", "closed", "canary", "shadow", "loading", "ready", "waiting", "refused", "draining", "retired"];

/// Whether it serves, is about to, or lies in the plugin's folder.
fn is_of_now(plugin: &PluginStatus, version: &VersionStatus) -> bool {
    let stands = matches!(version.state.as_str(), "ready" | "waiting" | "refused" | "retired");
    !stands || plugin.is_pending(version)
}

/// Two lines: what it is called and what it is.
fn row(plugin: &PluginStatus, version: &VersionStatus, now: Millis) -> [String; 6] {
    let serves = if matches!(version.state.as_str(), "active" | "closed") {
        plugin.serves.join(", ")
    } else {
        String::new()
    };
    let two = |above: String, below: String| format!("{}\n{}", in_one_line(&above), in_one_line(&below));
    let failed = if version.failures == 0 { String::new() } else { format!("{} failed", version.failures) };
    let since = (version.since_ms != 0).then(|| format!("{} ago", span(now.since(Millis(version.since_ms)))));
    let by = if version.by.is_empty() { String::new() } else { format!("by {}", version.by) };
    [
        two(plugin.plugin.clone(), serves),
        two(version.version.clone(), short(&version.digest)),
        state(version),
        two(version.calls.to_string(), failed),
        version.p95_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default(),
        two(since.unwrap_or_default(), by),
    ]
}

fn state(version: &VersionStatus) -> String {
    let share = version.share.map(|percent| format!(" {percent} %")).unwrap_or_default();
    let serves = matches!(version.state.as_str(), "active" | "canary");
    let trial = if version.on_trial && serves { ", on trial" } else { "" };
    format!("{}{share}{trial}", in_one_line(&version.state))
}

/// What there is to say of what a folder holds and does not serve, and what can be done.
pub(in crate::cli) fn note(pending: &Pending) -> String {
    let Pending { plugin, version, digest, state, reason } = pending;
    let digits = short(digest);
    let because = if reason.is_empty() { String::new() } else { format!(": {}", in_one_line(reason)) };
    let then = match state.as_str() {
        // What somebody has to allow, the host's reason says.
        "waiting" => format!("\n  in what it differs: chela plugin diff {plugin}"),
        "ready" => format!("\n  to make it active: chela plugin promote {plugin} --version {digits}"),
        _ => String::new(),
    };
    let is = match state.as_str() {
        "waiting" => "waits".to_owned(),
        other => format!("is {other}"),
    };
    let which = if digits.is_empty() { plugin.clone() } else { format!("{plugin} {version} ({digits})") };
    let then: Vec<_> = then.split('\n').map(in_one_line).collect();
    format!("{}{because}{}", in_one_line(&format!("{which} {is}")), then.join("\n"))
}

fn shadow(plugin: &PluginStatus, version: &VersionStatus) -> Option<String> {
    let seen = version.shadow.as_ref()?;
    let stopped = if seen.stopped { "; it runs into its limits, and is not run any more" } else { "" };
    Some(in_one_line(&format!(
        "{} {} ({}) in the shadow: {} compared, {} the same, {} different, {} asked for something else, {} failed, {} skipped{stopped}",
        plugin.plugin,
        version.version,
        short(&version.digest),
        seen.compared,
        seen.same,
        seen.different,
        seen.diverged,
        seen.failed,
        seen.skipped
    )))
}

/// Plugins that something will use, and that have no version yet.
fn unserved(uses: &[Use]) -> Vec<PluginStatus> {
    let mut plugins = BTreeMap::<&PluginId, PluginStatus>::new();
    for used in uses {
        let unserved = || PluginStatus {
            plugin: used.plugin.to_string(),
            kind: used.kind.as_str().to_owned(),
            serves: Vec::new(),
            revision: 0,
            noticed: None,
            versions: Vec::new(),
        };
        plugins.entry(&used.plugin).or_insert_with(unserved).serves.push(used.by.clone());
    }
    plugins.into_values().collect()
}

fn written(uses: Vec<Use>) -> String {
    let mut rows = table(&["serves", "plugin", "kind", "may use"]);
    for used in uses {
        let grants: Vec<_> = used.config.grants.iter().map(chela_sandbox::Grant::as_str).collect();
        rows.add_row([used.by, used.plugin.to_string(), used.kind.as_str().to_owned(), grants.join(", ")]);
    }
    format!("{rows}\n\nno host has run with this configuration yet\n")
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
        let of = |name: &str, serves: &str, holds: char, versions: Vec<VersionStatus>| PluginStatus {
            plugin: name.to_owned(),
            kind: "agent".to_owned(),
            serves: vec![serves.to_owned()],
            revision: 1,
            noticed: Some(holds.to_string().repeat(64)),
            versions,
        };
        let unreadable = VersionStatus {
            state: "refused".to_owned(),
            reason: "plugin.toml line 3: unclosed array".to_owned(),
            ..VersionStatus::default()
        };
        vec![
            of(
                "helper",
                "agent hr",
                'b',
                vec![waiting, active, version("retired", 'e'), version("refused", '9')],
            ),
            of("keyword", "routing", 'f', vec![canary, shadow, version("ready", 'f'), unreadable]),
        ]
    }

    const NOW: Millis = Millis(1_795_878_245_000 + 200_000);

    #[test]
    fn a_list_shows_what_serves_and_what_waits() {
        insta::assert_snapshot!(page(&plugins(), false, NOW));
        let all = page(&plugins(), true, NOW);
        assert!(all.contains("eeeeeeeeeeee") && all.contains("999999999999"), "{all}");
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
        let text = page(&plugins, true, NOW);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("helper waits")), "{text}");
    }
}
