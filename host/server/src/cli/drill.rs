//! `chela drill`: hostile guests against this program, on this machine, under the operator's own limits.
//!
//! Nothing of the operator's is touched: store, model and channel are the drill's own, in a temporary folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chela_drill::{Attack, Ground, KindLimits, Labels, Mark, Score, Soak, Verdict};
use chela_sandbox::Level;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::args::{self, Where};
use super::{Failure, Outcome, load, say, say_json, table};
use crate::compose::{Surroundings, drilled};
use crate::config::Config;

/// What a guest that never ends loading is given, unless all of it is asked for: how it ends is the same.
const LOAD_WALL: Duration = Duration::from_secs(15);
/// The configuration that is read if none is named, and it is there.
const USUAL: &str = "chela.toml";

/// What is told at the end.
#[derive(Debug, Serialize)]
struct Report {
    configuration: String,
    #[serde(flatten)]
    score: Score,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    soaks: Vec<Soak>,
}

pub(super) async fn run(asked: args::Drill) -> Outcome {
    let attacks = chosen(&asked.only)?;
    if asked.list {
        return list(&attacks, asked.json);
    }
    let labels = Labels::install();
    let folder = tempfile::tempdir()?;
    let (configuration, config) = configuration(asked.config.as_ref())?;
    let mut ground = drilled(config.as_ref(), &Surroundings::of_this_program()?, folder.path());
    if !asked.full {
        ground.sandbox.compiler.wall = ground.sandbox.compiler.wall.min(LOAD_WALL);
    }
    let levels = levels(asked.isolation);
    if !asked.json {
        say(&preface(&configuration, &ground));
    }
    let drill = chela_drill::Drill::begin(ground, levels, labels).await?;
    let mut verdicts = Vec::new();
    let bar = bar(attacks.len() * levels.len());
    for level in levels {
        for attack in attacks.iter().copied() {
            bar.set_message(attack.name);
            let verdict = drill.try_one(attack, *level).await;
            if !asked.json {
                bar.suspend(|| say(&line(&verdict)));
            }
            verdicts.push(verdict);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mut soaks = Vec::new();
    for level in levels.iter().filter(|_| asked.soak.is_some()) {
        let tell = |mark: &Mark| {
            if !asked.json {
                say(&figures(mark));
            }
        };
        soaks.push(drill.soak(asked.soak.unwrap_or_default(), *level, tell).await?);
    }
    let report = Report { configuration, score: Score::of(verdicts), soaks };
    told(&report, asked.json)
}

fn told(report: &Report, json: bool) -> Outcome {
    let Score { contained, tried, .. } = report.score;
    let wrong: u64 = report.soaks.iter().map(|soak| soak.wrong).sum();
    let is_whole = !report.score.has_a_hole() && wrong == 0;
    if json {
        say_json(report)?;
        return Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    say(&format!("\n{contained} of {tried} attacks were contained.\n"));
    if is_whole {
        return Ok(ExitCode::SUCCESS);
    }
    let holes = report.score.attacks.iter().filter(|verdict| !verdict.contained);
    let names: Vec<&str> = holes.map(|verdict| verdict.attack).collect();
    let words = match wrong {
        0 => format!("not contained: {}", names.join(", ")),
        wrong => format!(
            "not contained: {}; {wrong} of many calls ended otherwise than they must",
            names.join(", ")
        ),
    };
    Err(Failure::new(words)
        .help("what speaks against each stands below its line; `--only NAME` tries one again"))
}

/// All, or those that are named.
fn chosen(only: &[String]) -> Result<Vec<&'static Attack>, Failure> {
    if only.is_empty() {
        return Ok(chela_drill::all().collect());
    }
    let find = |name: &String| {
        chela_drill::find(name).ok_or_else(|| Failure::from(chela_drill::Error::Unknown(name.clone())))
    };
    only.iter().map(find).collect()
}

fn levels(asked: Where) -> &'static [Level] {
    match asked {
        Where::InProcess => &[Level::InProcess],
        Where::Worker => &[Level::Worker],
        Where::Both => &[Level::InProcess, Level::Worker],
    }
}

/// The operator's, or the defaults where there is none.
fn configuration(named: Option<&PathBuf>) -> Result<(String, Option<Config>), Failure> {
    let usual = PathBuf::from(USUAL);
    let path = match named {
        Some(path) => path,
        None if usual.is_file() => &usual,
        None => return Ok(("the defaults".to_owned(), None)),
    };
    let config = load(&args::ConfigPath { config: path.clone() })?;
    Ok((path.display().to_string(), Some(config)))
}

fn preface(configuration: &str, ground: &Ground) -> String {
    let KindLimits { router, agent, channel } = &ground.limits;
    let mut text = format!("limits of {configuration}:\n");
    for (kind, limits) in [("router", router), ("agent", agent), ("channel", channel)] {
        text.push_str(&format!(
            "  {kind:8} {:>4} MiB, {:>6} ms, {:>5} ms of processor, {:>4} host calls, {} MiB out\n",
            limits.memory_bytes >> 20,
            limits.deadline.as_millis(),
            limits.cpu.as_millis(),
            limits.host_calls,
            limits.output_bytes >> 20,
        ));
    }
    let wall = ground.sandbox.compiler.wall.as_secs();
    text.push_str(&format!("  loading  {wall} s at most\n\n"));
    text
}

/// One line for an attack, and what speaks against it below.
fn line(verdict: &Verdict) -> String {
    let cost = verdict.call.unwrap_or(verdict.load);
    let mib = |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| (bytes >> 20).to_string());
    let mut text = format!(
        "{}  {:26} {:10} {:28} {:>6} ms  {:>4} MiB host {:>5} MiB child\n",
        if verdict.contained { "ok  " } else { "HOLE" },
        verdict.attack,
        where_it_ran(verdict.isolation),
        verdict.ended,
        cost.ms,
        mib(cost.host_bytes),
        mib(cost.child_bytes),
    );
    if !verdict.contained {
        for against in verdict.against.iter().chain([&verdict.said]) {
            text.push_str(&format!("        {against}\n"));
        }
        text.push_str(&format!("        it must end with: {}\n", verdict.must_end.join(", or ")));
    }
    text
}

fn where_it_ran(level: Level) -> &'static str {
    match level {
        Level::InProcess => "in-process",
        Level::Worker => "worker",
    }
}

fn figures(mark: &Mark) -> String {
    let resident =
        mark.resident_bytes.map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / (1 << 20) as f64));
    let open = mark.descriptors.map_or("?".to_owned(), |open| open.to_string());
    format!(
        "{:>9} calls  {:>6}/s  {resident:>8} MiB resident  {open:>4} descriptors\n",
        mark.calls, mark.per_second
    )
}

fn list(attacks: &[&'static Attack], json: bool) -> Outcome {
    let ends = |attack: &Attack| attack.ends.iter().map(ToString::to_string).collect::<Vec<_>>();
    if json {
        let item = |attack: &&Attack| {
            BTreeMap::from([
                ("attack", serde_json::json!(attack.name)),
                ("tries", serde_json::json!(attack.tries)),
                ("family", serde_json::json!(attack.family)),
                ("must_end", serde_json::json!(ends(attack))),
            ])
        };
        return say_json(&attacks.iter().map(item).collect::<Vec<_>>());
    }
    let mut rows = table(&["attack", "about", "what it tries", "how it must end"]);
    for attack in attacks {
        let family = attack.family.to_string();
        rows.add_row([attack.name, family.as_str(), attack.tries, ends(attack).join(", or ").as_str()]);
    }
    say(&format!("{rows}\n"));
    Ok(ExitCode::SUCCESS)
}

fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(u64::try_from(length).ok(), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40.cyan/dim} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
