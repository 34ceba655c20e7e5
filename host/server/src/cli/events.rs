//! `chela events` and `chela plugin history`: what happened to plugins and budgets, one line each.

use std::os::fd::AsFd;
use std::process::ExitCode;

use chela_store::Event;
use chela_types::{PluginId, TenantId};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use super::args::{Events, Shown};
use super::operator::Operator;
use super::socket::{self, Host};
use super::{Failure, Outcome, say, say_aside, say_json};
use crate::turn::{in_one_line, moment};

/// How long the host may hold one question for news.
const POLL_MS: u64 = 20_000;
/// Events in one answer while they are followed.
const PAGE: usize = 1_000;

pub(super) async fn run(asked: &Events) -> Outcome {
    let plugin = asked.plugin.as_deref().map(PluginId::new).transpose()?;
    let of = plugin.as_ref().map(|plugin| format!("&plugin={plugin}")).unwrap_or_default();
    let newest = format!("/events?limit={}{of}", asked.limit);
    let (host, events): (Option<Host>, Vec<Event>) = match Operator::at(&asked.shown.config).await? {
        Operator::Running(host) => {
            let events = host.get(&newest).await?;
            (Some(host), events)
        }
        Operator::Stopped(store) => {
            let tenant = TenantId::default_tenant();
            (None, store.newest_events(&tenant, plugin.as_ref(), asked.limit).await?)
        }
    };
    if !asked.follow {
        return show(&events, asked.shown.json, "nothing has happened to plugins or budgets yet");
    }
    let host = host.ok_or_else(|| {
        Failure::new("no host runs: nothing more will happen").help("`chela up` starts one")
    })?;
    follow(&host, events, (&of, asked.shown.json)).await
}

/// Each event as it comes, until the host stops or nobody reads any more.
async fn follow(host: &Host, mut events: Vec<Event>, (of, as_json): (&str, bool)) -> Outcome {
    let mut last = 0;
    loop {
        for event in &events {
            last = last.max(event.seq);
            match as_json {
                true => say(&format!("{}\n", serde_json::to_string(event)?)),
                false => say(&format!("{}\n", line(event))),
            }
        }
        let path = format!("/events?after={last}&wait_ms={POLL_MS}&limit={PAGE}{of}");
        let answer = tokio::select! {
            answer = host.get(&path) => answer,
            () = reader_is_gone() => return Ok(ExitCode::SUCCESS),
        };
        events = match answer {
            Err(error) if error.ends() => {
                say_aside("the host stops: nothing more will happen\n");
                return Ok(ExitCode::SUCCESS);
            }
            answer => answer?,
        };
    }
}

/// Ends when nobody can read standard output any more (`| head`). It would not be noticed before the next event.
async fn reader_is_gone() {
    let output = std::io::stdout().as_fd().try_clone_to_owned();
    // A file cannot be watched, and has no reader to lose. What is no pipe tells nothing, or tells the same.
    if let Ok(output) = output.and_then(Sender::from_owned_fd_unchecked)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// `chela plugin history NAME`.
pub(super) async fn history(name: &str, limit: usize, shown: &Shown) -> Outcome {
    let plugin = PluginId::new(name)?;
    let unknown =
        || Failure::new(format!("no plugin is called `{plugin}`")).help("`chela plugin list` shows them");
    let events: Vec<Event> = match Operator::at(&shown.config).await? {
        Operator::Running(host) => {
            match host.get(&format!("/plugins/{plugin}/history?limit={limit}")).await {
                Err(socket::Error::Answer { status: 404, .. }) => return Err(unknown()),
                answer => answer?,
            }
        }
        Operator::Stopped(store) => {
            let tenant = TenantId::default_tenant();
            let events = store.newest_events(&tenant, Some(&plugin), limit).await?;
            // A plugin that is gone has its history still.
            if events.is_empty() && store.versions(&tenant, Some(&plugin), 1).await?.is_empty() {
                return Err(unknown());
            }
            events
        }
    };
    show(&events, shown.json, "nothing has happened to it yet")
}

fn show(events: &[Event], as_json: bool, nothing: &str) -> Outcome {
    if as_json {
        return say_json(&events);
    }
    let text: String = events.iter().map(|event| format!("{}\n", line(event))).collect();
    say(&if text.is_empty() { format!("{nothing}\n") } else { text });
    Ok(ExitCode::SUCCESS)
}

/// One line, whatever a plugin or a person has put into the words.
pub(super) fn line(event: &Event) -> String {
    let happened = &event.happened;
    let whom = happened.plugin.as_ref().map(|plugin| format!("  {plugin}")).unwrap_or_default();
    let digest = happened.digest.map(|digest| format!(" {}", digest.short())).unwrap_or_default();
    let version = happened.detail.get("version").and_then(Value::as_str);
    let version = version.map(|version| format!(" {version}")).unwrap_or_default();
    let share = happened.detail.get("percent").map(|percent| format!(" {percent} %")).unwrap_or_default();
    let why = if happened.why.is_empty() { String::new() } else { format!(": {}", happened.why) };
    let (at, what, by) = (moment(event.at), &happened.what, &happened.by);
    in_one_line(&format!("{at}{whom}{version}{digest}  {what}{share} by {by}{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_store::Happened;
    use chela_types::{Digest, Millis};

    #[test]
    fn an_event_is_one_line() {
        let happened = Happened {
            plugin: Some(PluginId::new("keyword").unwrap()),
            digest: Some(Digest::from_bytes([0x3f; 32])),
            what: "rolled back".to_owned(),
            by: "ann".to_owned(),
            why: "sends invoices\nto \u{1b}[2Jsupport".to_owned(),
            detail: serde_json::json!({ "version": "1.2.0" }),
        };
        let event = Event { seq: 1, at: Millis(1_795_878_245_000), happened };
        assert_eq!(
            line(&event),
            "2026-11-28 15:04:05 UTC  keyword 1.2.0 3f3f3f3f3f3f  rolled back by ann: sends invoices\u{fffd}to \u{fffd}[2Jsupport"
        );
        let canary = Happened { what: "canary".to_owned(), why: String::new(), ..event.happened.clone() };
        let canary = Happened { detail: serde_json::json!({ "percent": 5 }), ..canary };
        let canary = Event { happened: canary, ..event.clone() };
        assert_eq!(line(&canary), "2026-11-28 15:04:05 UTC  keyword 3f3f3f3f3f3f  canary 5 % by ann");
        let bare = Happened { plugin: None, digest: None, why: String::new(), ..event.happened.clone() };
        let bare = Event { happened: Happened { detail: Value::Null, ..bare }, ..event };
        assert_eq!(line(&bare), "2026-11-28 15:04:05 UTC  rolled back by ann");
    }
}
