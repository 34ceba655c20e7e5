//! `chela replay`: recorded turns under another version, in this process and beside a host that may be running. Runs
//! that go on alone cost money, so that they are the running host's, which keeps the ledger.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Difference, ReplayProgress, ReplayReport, ReplayRequest, Under, replay};
use chela_types::{AgentId, Clock, PluginId, SystemClock};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::args::Replay;
use super::operator::Operator;
use super::socket::Host;
use super::{Failure, load, say, say_json, table};
use crate::compose::{Surroundings, replaying};
use crate::doors::ReplayJob;
use crate::turn::in_one_line;

/// Differences that a page shows; `--json` has more.
const SHOWN_MAX: usize = 20;
/// How long the host may take to end a replay.
const END_WAIT: Duration = Duration::from_secs(5);
/// How long the host may hold one question for news.
const POLL_MS: u64 = 1_000;

/// Runs them, says what came of it, and returns that.
pub(super) async fn run(asked: &Replay) -> Result<ReplayReport, Failure> {
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
    match asked.shown.json {
        true => say_json(&report).map(|_| ())?,
        false => say(&page(&report)),
    }
    Ok(report)
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
    tell: impl FnMut(ReplayProgress),
) -> Result<ReplayReport, Failure> {
    let host = Operator::running(&asked.shown.config).await?;
    let job: ReplayJob = host.post("/replay", request).await?;
    let (id, interrupted) = (job.id, interrupted()?);
    tokio::select! {
        report = followed(&host, job, asked.content, tell) => report,
        () = interrupted => {
            // Whoever pays has gone: it must not go on.
            let ended = timeout(END_WAIT, host.delete::<ReplayJob>(&format!("/replay/{id}"))).await;
            match ended {
                Ok(Ok(_)) => Err(Failure::new("stopped, and the host's replay with it")),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Failure::new(format!("stopped; the host does not say whether its replay {id} is"))),
            }
        }
    }
}

async fn followed(
    host: &Host,
    mut job: ReplayJob,
    content: bool,
    mut tell: impl FnMut(ReplayProgress),
) -> Result<ReplayReport, Failure> {
    let content = if content { "&content=true" } else { "" };
    loop {
        tell(job.progress);
        match (job.report, job.error) {
            (Some(report), _) => return Ok(report),
            (None, Some(error)) => return Err(Failure::new(error)),
            (None, None) => {}
        }
        job = host.get(&format!("/replay/{}?wait_ms={POLL_MS}{content}", job.id)).await?;
    }
}

/// Resolves once somebody or something ends this command.
fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [interrupt, terminate, hangup] = signals.map(signal);
    let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

fn page(report: &ReplayReport) -> String {
    let mut counts = table(&["parts", "", "what it means"]);
    for (count, name, meaning) in [
        (report.same, "same", "byte for byte"),
        (report.changed, "changed", "something else would have been said"),
        (report.diverged, "diverged", "it asked for what the recording does not hold"),
        (report.diverged_same, "  same", "of these: went on alone, and said the same"),
        (report.diverged_changed, "  changed", "of these: went on alone, and said something else"),
        (report.failed, "failed", "it failed where the recorded version did not"),
        (report.purged, "purged", "not run: their words are gone"),
        (report.gone, "gone", "not run: the version that ran them is not kept any more"),
        (report.incomplete, "incomplete", "not run: cut off, or kept by an older host"),
        (report.broken.0, "broken", "not run: this host could not"),
    ] {
        if count > 0 || matches!(name, "same" | "changed" | "diverged" | "failed") {
            counts.add_row([name.to_owned(), count.to_string(), meaning.to_owned()]);
        }
    }
    let seconds = report.millis as f64 / 1_000.0;
    if report.is_empty() {
        return format!(
            "{} turns in {seconds:.1} s: nothing of what was asked for is recorded\n",
            report.turns
        );
    }
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
        // Whoever ended there says so in the last column.
        let went_on = it.diverged_at.as_ref().filter(|at| **at != it.after);
        let what = went_on.map_or_else(|| it.what.clone(), |at| format!("{}: {at}", it.what));
        let row = [&it.turn, &it.part, &what, &it.before, &it.after].map(|cell| in_one_line(cell));
        rows.add_row(row);
    }
    let more = differences.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!("and {more} more: --json\n") } else { String::new() };
    format!("\n{title}\n{rows}\n{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(what: &str, before: &str, after: &str) -> Difference {
        let text = str::to_owned;
        Difference {
            turn: text("0198f3c1"),
            part: text("router"),
            what: text(what),
            before: text(before),
            after: text(after),
            ..Difference::default()
        }
    }

    #[test]
    fn a_page_says_what_changed_and_steers_no_terminal() {
        let at = || "asked for `models.complete` as call 2".to_owned();
        let ended = Difference { diverged_at: Some(at()), ..difference("diverged", "sales", &at()) };
        let went_on = Difference { diverged_at: Some(at()), ..difference("diverged", "sales", "hr") };
        let report = ReplayReport {
            turns: 4,
            parts: 5,
            same: 1,
            changed: 1,
            diverged: 3,
            diverged_same: 1,
            diverged_changed: 1,
            gone: 2,
            differences: vec![difference("changed", "sales", "support\u{1b}[2J")],
            divergences: vec![went_on, ended],
            millis: 1_500,
            ..ReplayReport::default()
        };
        let page = page(&report);
        assert!(!page.contains('\u{1b}'), "{page:?}");
        assert!(page.contains("4 turns in 1.5 s") && page.contains("support"), "{page}");
        for words in [
            ["diverged", " 3 ", "does not hold"],
            ["  same", " 1 ", "of these"],
            ["  changed", " 1 ", "of these"],
            ["gone", " 2 ", "not kept any more"],
            ["diverged: asked for", "sales", "hr"],
        ] {
            let is_there = page.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(is_there, "{words:?} in {page}");
        }
        assert!(page.contains("asked for `models.complete` as call 2"), "{page}");
    }

    #[test]
    fn a_page_without_parts_says_that_nothing_of_the_kind_is_recorded() {
        let page = page(&ReplayReport { turns: 9, ..ReplayReport::default() });
        assert_eq!(page, "9 turns in 0.0 s: nothing of what was asked for is recorded\n");
    }
}
