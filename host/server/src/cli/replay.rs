//! `chela replay`: recorded turns under another version, in this process and beside a host that may be running. Runs
//! that go on alone cost money, so that they are the running host's, which keeps the ledger.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use chela_engine::{Difference, ReplayProgress, ReplayReport, ReplayRequest, Under, replay};
use chela_types::{AgentId, Clock, PluginId, SystemClock};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Replay;
use super::operator::Operator;
use super::{Failure, Outcome, load, say, say_json, table};
use crate::compose::{Surroundings, replaying};
use crate::doors::ReplayJob;
use crate::turn::in_one_line;

/// Differences that a page shows; `--json` has more.
const SHOWN_MAX: usize = 20;
/// How long the host may hold one question for news.
const POLL_MS: u64 = 1_000;

pub(super) async fn run(asked: &Replay) -> Outcome {
    let request = request(asked)?;
    let bar = bar();
    let tell = |progress: ReplayProgress| {
        bar.set_length(progress.of);
        bar.set_position(progress.turns);
    };
    let report = match asked.live {
        true => by_the_host(asked, &request, tell).await,
        false => here(asked, &request, tell).await,
    };
    bar.finish_and_clear();
    let report = report?;
    let report = if asked.content { report } else { report.without_words() };
    if asked.shown.json {
        return say_json(&report);
    }
    say(&page(&report));
    Ok(ExitCode::SUCCESS)
}

fn request(asked: &Replay) -> Result<ReplayRequest, Failure> {
    let under = match (&asked.plugin, &asked.version) {
        (Some(folder), _) => Under::Folder(absolute(folder)?),
        (None, Some(version)) => {
            let (name, digest) = version.split_once('@').ok_or_else(|| {
                Failure::new(format!("`{version}` names no version"))
                    .help("write NAME@DIGEST, as `router@3f2a91c0`")
            })?;
            Under::Version(PluginId::new(name)?, digest.to_ascii_lowercase())
        }
        (None, None) => Under::Recorded,
    };
    Ok(ReplayRequest {
        under,
        plugin: asked.place.as_deref().map(PluginId::new).transpose()?,
        since_ms: SystemClock.now().minus(asked.since).0,
        agent: asked.agent.as_deref().map(AgentId::new).transpose()?,
        limit: asked.limit,
        live: asked.live,
    })
}

fn absolute(folder: &Path) -> Result<std::path::PathBuf, Failure> {
    std::fs::canonicalize(folder)
        .map_err(|error| Failure::from(error).help(format!("is {} a plugin's folder?", folder.display())))
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("replay {bar:40.cyan/dim} {pos}/{len} turns, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// In this process: the store is only read.
async fn here(
    asked: &Replay,
    request: &ReplayRequest,
    tell: impl FnMut(ReplayProgress),
) -> Result<ReplayReport, Failure> {
    let config = load(&asked.shown.config)?;
    let (engine, rooms) = replaying(&config, &Surroundings::of_this_program()?).await?;
    let engine = Arc::new(engine);
    Ok(replay(&engine, &rooms, request, tell).await?)
}

/// By the host that runs.
async fn by_the_host(
    asked: &Replay,
    request: &ReplayRequest,
    mut tell: impl FnMut(ReplayProgress),
) -> Result<ReplayReport, Failure> {
    let host = Operator::running(&asked.shown.config).await?;
    let mut job: ReplayJob = host.post("/replay", request).await?;
    loop {
        tell(job.progress);
        match (job.report, job.error) {
            (Some(report), _) => return Ok(report),
            (None, Some(error)) => return Err(Failure::new(error)),
            (None, None) => {}
        }
        let content = if asked.content { "&content=true" } else { "" };
        job = host.get(&format!("/replay/{}?wait_ms={POLL_MS}{content}", job.id)).await?;
    }
}

fn page(report: &ReplayReport) -> String {
    let mut counts = table(&["parts", "", "what it means"]);
    for (count, name, meaning) in [
        (report.same, "same", "byte for byte"),
        (report.changed, "changed", "something else would have been said"),
        (report.diverged, "diverged", "it asked for what the recording does not hold"),
        (report.failed, "failed", "it failed where the recorded version did not"),
        (report.purged, "purged", "not run: their words are gone"),
        (report.incomplete, "incomplete", "not run: cut off, or kept by an older host"),
        (report.broken.0, "broken", "not run: this host could not"),
    ] {
        if count > 0 || matches!(name, "same" | "changed" | "diverged" | "failed") {
            counts.add_row([name.to_owned(), count.to_string(), meaning.to_owned()]);
        }
    }
    let seconds = report.millis as f64 / 1_000.0;
    let mut text = format!("{} turns in {seconds:.1} s\n\n{counts}\n", report.turns);
    if let Some(why) = &report.broken.1 {
        text.push_str(&format!("\nbroken: {}\n", in_one_line(why)));
    }
    text.push_str(&list("the worst first", &report.differences));
    text.push_str(&list("where they left the recording", &report.divergences));
    text
}

fn list(title: &str, differences: &[Difference]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut rows = table(&["turn", "part", "what", "before", "after"]);
    for it in differences.iter().take(SHOWN_MAX) {
        let row = [&it.turn, &it.part, &it.what, &it.before, &it.after].map(|cell| in_one_line(cell));
        rows.add_row(row);
    }
    let more = differences.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!("and {more} more: --json\n") } else { String::new() };
    format!("\n{title}\n{rows}\n{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_changed_and_steers_no_terminal() {
        let difference = |what: &str, before: &str, after: &str| Difference {
            turn: "0198f3c1".to_owned(),
            part: "router".to_owned(),
            what: what.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            private: false,
            weight: 0.9,
        };
        let report = ReplayReport {
            turns: 3,
            parts: 3,
            same: 1,
            changed: 1,
            diverged: 1,
            differences: vec![difference("changed", "sales", "support\u{1b}[2J")],
            divergences: vec![difference("diverged", "sales", "asked for `models.complete` as call 2")],
            millis: 1_500,
            ..ReplayReport::default()
        };
        let page = page(&report);
        assert!(!page.contains('\u{1b}'), "{page:?}");
        assert!(page.contains("3 turns in 1.5 s") && page.contains("support"), "{page}");
        assert!(page.contains("asked for `models.complete` as call 2"), "{page}");
    }
}
