//! `chela status`: how the host is doing, in one look.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use chela_types::{Clock, SystemClock};

use super::args::ConfigPath;
use super::operator::Operator;
use super::{Outcome, load, plugin, say, say_json, table};
use crate::doors::Status;
use crate::turn::{in_one_line, moment, printable, span};

pub(super) async fn run(at: &ConfigPath, json: bool) -> Outcome {
    let (status, written) = match Operator::at(at).await? {
        // Whatever is wrong with the file, the host says it better: it knows since when.
        Operator::Running(host) => {
            let written = crate::config::load(&at.config, &|name| std::env::var(name).ok());
            (host.get::<Status>("/status").await?, written.ok().map(|(config, _)| config.digest.short()))
        }
        Operator::Stopped(store) => {
            let written = Some(load(at)?.digest.short());
            let kept = Status::of_store(&store, SystemClock.now()).await?;
            (Status { configuration: written.clone(), ..kept }, written)
        }
    };
    if json {
        return say_json(&status);
    }
    let up = status.up_s.map(|seconds| format!(", up {}", span(Duration::from_secs(seconds))));
    let up = up.unwrap_or_default();
    say(&format!("chela {} · {}{up}\n", status.version, status.state));
    say(&format!("{}\n", configuration(status.configuration.as_deref(), written.as_deref())));
    say(&format!("{}\n", trouble(&status, std::io::stdout().is_terminal())));
    let mut turns = table(&["turns", "", "what it means"]);
    for (count, name, meaning) in [
        (status.waiting, "waiting", "kept, nobody works on them yet"),
        (status.working, "working", "conversations that are being worked on"),
        (status.answered, "answered", "with an answer on its way"),
        (status.delivered, "delivered", "ended well"),
        (status.undelivered, "undelivered", "answered, and the platform did not take it"),
        (status.dead, "dead", "given up; the person was told"),
        (status.ambiguous, "ambiguous", "sends that may or may not have arrived"),
    ] {
        turns.add_row([name.to_owned(), count.to_string(), meaning.to_owned()]);
    }
    say(&format!("{turns}\n"));
    if let Some(age) = status.oldest_waiting_ms {
        say(&format!("\noldest open turn: {:.1} s\n", age as f64 / 1_000.0));
    }
    if !status.channels.is_empty() {
        let mut channels = table(&["channel", "adapter", "posts as"]);
        for (channel, plugin, own) in &status.channels {
            channels.add_row([channel.clone(), plugin.clone(), in_one_line(&own.join(", "))]);
        }
        say(&format!("\n{channels}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Which configuration runs, and what stands in the file if that is another one.
fn configuration(running: Option<&str>, written: Option<&str>) -> String {
    match (running, written) {
        (Some(running), Some(written)) if running != written => {
            format!("configuration {running}; the file holds another one: {written}")
        }
        (Some(running), _) => format!("configuration {running}"),
        (None, Some(written)) => format!("configuration not told by the host; the file holds {written}"),
        (None, None) => "configuration not told by the host".to_owned(),
    }
}

/// What is wrong with the files, and what of them waits; nothing if nothing is.
fn trouble(status: &Status, coloured: bool) -> String {
    let mut text = String::new();
    if let Some(invalid) = &status.invalid {
        let paint = |line: &str| match coloured {
            true => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
            false => format!("{line}\n"),
        };
        let since = moment(invalid.at);
        text.push_str(&paint(&format!("\nsince {since} {}; what ran before runs on:", invalid.what())));
        printable(&invalid.text).lines().for_each(|line| text.push_str(&paint(&format!("  {line}"))));
    }
    if status.unapplied.is_some() {
        let contents = in_one_line(&status.unapplied_contents.join(", "));
        text.push_str(&format!("\n{contents} waits: chela reload --apply\n"));
    }
    if !status.restart.is_empty() {
        text.push_str(&format!("\nneeds a restart: {}\n", in_one_line(&status.restart.join(", "))));
    }
    if let Some(lacks) = &status.workers_lack {
        text.push_str(&format!(
            "\nthis kernel lacks {lacks}: plugins in processes of their own are shut in by less\n"
        ));
    }
    for pending in &status.pending {
        text.push_str(&format!("\nplugin {}\n", plugin::note(pending)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::Invalid;
    use chela_engine::Pending;
    use chela_types::Millis;

    #[test]
    fn a_file_that_is_another_one_is_told() {
        let told = "configuration not told by the host; the file holds b";
        assert_eq!(configuration(None, Some("b")), told);
        assert_eq!(configuration(Some("b"), Some("b")), "configuration b");
        assert_eq!(configuration(Some("b"), None), "configuration b");
        let another = "configuration a; the file holds another one: b";
        assert_eq!(configuration(Some("a"), Some("b")), another);
    }

    #[test]
    fn files_that_cannot_run_are_told_with_time_and_place() {
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "configuration": "a", "state": "ready", "up_s": 1, "waiting": 0, "working": 0,
            "answered": 0, "delivered": 0, "dead": 0, "undelivered": 0, "ambiguous": 0, "oldest_waiting_ms": null,
            "channels": [], "agents": [],
        }))
        .unwrap();
        assert_eq!(trouble(&status, true), "");
        let text = "chela.toml:3:1\n\u{1b}[2J unknown key".to_owned();
        status.invalid = Some(Invalid { at: Millis(1_795_878_245_000), text, of_host: false });
        status.unapplied = Some("0123456789ab".to_owned());
        status.unapplied_contents =
            ["configuration 0123456789ab", "secret operator.bea.token"].map(str::to_owned).into();
        status.restart = vec!["server.public".to_owned(), "store.lease_s".to_owned()];
        status.pending = vec![Pending {
            plugin: "router".to_owned(),
            version: "1.2.0".to_owned(),
            digest: "ab".repeat(32),
            state: "waiting".to_owned(),
            reason: "it asks for more: grant memory\n\u{7}".to_owned(),
        }];
        insta::assert_snapshot!(trouble(&status, false), @"

        since 2026-11-28 15:04:05 UTC the files say what cannot run; what ran before runs on:
          chela.toml:3:1
          \u{fffd}[2J unknown key

        configuration 0123456789ab, secret operator.bea.token waits: chela reload --apply

        needs a restart: server.public, store.lease_s

        plugin router 1.2.0 (abababababab) waits: it asks for more: grant memory\u{fffd}\u{fffd}
          in what it differs: chela plugin diff router
        ");
        let red = trouble(&status, true);
        assert!(red.contains("\u{1b}[31m  chela.toml:3:1\u{1b}[0m"), "{red:?}");
    }
}
