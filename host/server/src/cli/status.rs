//! `chela status`: how the host is doing, in one look.

use std::process::ExitCode;

use chela_types::{Clock, SystemClock};

use super::args::ConfigPath;
use super::operator::Operator;
use super::{Outcome, load, say, say_json, table};
use crate::doors::Status;
use crate::turn::in_one_line;

pub(super) async fn run(at: &ConfigPath, json: bool) -> Outcome {
    let config = load(at)?;
    let written = config.digest.short();
    let status: Status = match Operator::of(&config.store.folder).await? {
        Operator::Running(host) => host.get("/status").await?,
        Operator::Stopped(store) => Status {
            configuration: Some(written.clone()),
            ..Status::of_store(&store, SystemClock.now()).await?
        },
    };
    if json {
        return say_json(&status);
    }
    let up = status.up_s.map(|seconds| format!(", up {seconds} s")).unwrap_or_default();
    say(&format!("chela {} · {}{up}\n", status.version, status.state));
    say(&format!("{}\n\n", configuration(status.configuration.as_deref(), &written)));
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
fn configuration(running: Option<&str>, written: &str) -> String {
    match running {
        Some(running) if running == written => format!("configuration {running}"),
        Some(running) => {
            format!("configuration {running}; the file has changed since: {written} after the next start")
        }
        None => format!("configuration not told by the host; the file holds {written}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_changed_since_the_start_is_told() {
        assert_eq!(configuration(None, "b"), "configuration not told by the host; the file holds b");
        assert_eq!(configuration(Some("b"), "b"), "configuration b");
        let changed = "configuration a; the file has changed since: b after the next start";
        assert_eq!(configuration(Some("a"), "b"), changed);
    }
}
