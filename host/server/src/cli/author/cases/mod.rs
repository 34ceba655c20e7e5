//! `chela plugin test`: each case of a plugin, in the real sandbox and through the station that production has for it;
//! or recorded turns, run again under it.

mod case;
mod difference;
mod stage;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::super::args::{ConfigPath, Replay, Shown, Test};
use super::super::{Failure, Outcome, replay, say, say_json};
use super::build;
use super::project::Project;
use crate::turn::in_one_line;
use case::Case;
use difference::Difference;
use stage::Theatre;

/// Cases of one plugin.
const CASES_MAX: usize = 1_000;
/// So much of what came of a failed case is shown; `--json` has all.
const TOLD_CHARS_MAX: usize = 2_000;

pub(super) async fn run(asked: &Test) -> Outcome {
    let project = Project::open(&asked.folder)?;
    let built = project.built();
    if !asked.no_build && !project.is_built() {
        let made = build::build(&project, &built).await?;
        super::super::say_aside(&made.line());
    }
    match asked.recorded {
        true => recorded(asked, built).await,
        false => cases(asked, &project).await,
    }
}

/// The same as `chela replay --plugin`, with a verdict.
async fn recorded(asked: &Test, built: PathBuf) -> Outcome {
    let config = asked.config.clone().unwrap_or_else(|| PathBuf::from("chela.toml"));
    let replay = Replay {
        plugin: Some(built),
        version: None,
        place: asked.place.clone(),
        since: asked.since,
        agent: None,
        limit: None,
        live: false,
        content: false,
        shown: Shown { json: asked.json, config: ConfigPath { config } },
    };
    let report = replay::run(&replay).await?;
    let differs = report.changed + report.diverged + report.failed;
    Ok(if differs == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of a case.
#[derive(Debug, Serialize)]
struct Played {
    case: String,
    passed: bool,
    differences: Vec<Difference>,
    /// What came of it; absent if it could not be played.
    came: Option<Value>,
    /// Why it could not be played.
    error: Option<String>,
    millis: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    plugin: String,
    version: String,
    passed: usize,
    failed: usize,
    cases: Vec<Played>,
}

async fn cases(asked: &Test, project: &Project) -> Outcome {
    let folder = project.folder.join("cases");
    let files = files(&folder, &asked.cases)?;
    let theatre = Theatre::open(project, asked.config.as_deref(), asked.place.as_deref())?;
    let mut report = Report {
        plugin: project.manifest.name.to_string(),
        version: project.manifest.version.clone(),
        passed: 0,
        failed: 0,
        cases: Vec::new(),
    };
    for file in files {
        let played = play(&theatre, project, &file).await;
        if !asked.json {
            say(&lines(&played, std::io::stdout().is_terminal()));
        }
        if played.passed {
            report.passed += 1
        } else {
            report.failed += 1
        }
        report.cases.push(played);
    }
    if asked.json {
        say_json(&report)?;
    } else {
        say(&format!("\n{} passed, {} failed\n", report.passed, report.failed));
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files of cases, in the order of their names.
fn files(folder: &Path, wanted: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let helpful = |failure: Failure| {
        failure.help("a case is a file `cases/NAME.toml`: docs/guide/plugins.md says what stands in it")
    };
    let none = |error: std::io::Error| Failure::new(format!("{} cannot be read: {error}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(|error| helpful(none(error)))?;
    let mut files: Vec<_> = (entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| wanted.is_empty() || wanted.contains(&name(path)))
        .collect();
    files.sort();
    if let Some(missing) = wanted.iter().find(|wanted| !files.iter().any(|path| name(path) == **wanted)) {
        return Err(helpful(Failure::new(format!("{} holds no case `{missing}`", folder.display()))));
    }
    match files.len() {
        0 => Err(helpful(Failure::new(format!("{} holds no case", folder.display())))),
        1..=CASES_MAX => Ok(files),
        _ => Err(Failure::new(format!("{} holds more than {CASES_MAX} cases", folder.display()))),
    }
}

fn name(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn play(theatre: &Theatre, project: &Project, file: &Path) -> Played {
    let began = Instant::now();
    let (came, differences, error) = match outcome(theatre, project, file).await {
        Ok((came, expected)) => {
            let differences = difference::between(&expected, &came);
            (Some(came), differences, None)
        }
        Err(failure) => (None, Vec::new(), Some(failure.render(false))),
    };
    Played {
        case: name(file),
        passed: error.is_none() && differences.is_empty(),
        differences,
        came,
        error,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// What came of a case, and what was expected.
async fn outcome(theatre: &Theatre, project: &Project, file: &Path) -> Result<(Value, Value), Failure> {
    let case = Case::read(file, project.manifest.kind)?;
    let came = theatre.play(&case).await?;
    Ok((came, case.expected()))
}

/// A line, and for a failed case what differs.
fn lines(played: &Played, coloured: bool) -> String {
    let paint = |code: &str, text: &str| match coloured {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let mark = if played.passed { paint("32", "ok   ") } else { paint("1;31", "FAIL ") };
    let took = paint("2", &format!("{} ms", played.millis));
    let mut text = format!("{mark} {}  {took}\n", in_one_line(&played.case));
    for Difference { at, expected, found } in &played.differences {
        text.push_str(&format!(
            "        {}\n          expected  {}\n          found     {}\n",
            in_one_line(at),
            in_one_line(expected),
            paint("31", &in_one_line(found))
        ));
    }
    for line in played.error.iter().flat_map(|error| error.lines()) {
        text.push_str(&format!("        {}\n", in_one_line(line)));
    }
    if let Some(came) = played.came.as_ref().filter(|_| !played.passed) {
        let came: String = came.to_string().chars().take(TOLD_CHARS_MAX).collect();
        text.push_str(&format!("        {}\n", paint("2", &format!("it came to  {}", in_one_line(&came)))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failed_case_says_what_differs_and_steers_no_terminal() {
        let came = json!({ "agent": "sales", "reason": "\u{1b}[2J" });
        let expected = json!({ "agent": "support", "asked": [] });
        let differences = difference::between(&expected, &came);
        let (passed, error) = (false, None);
        let case = "word".to_owned();
        let played = Played { case, passed, differences, came: Some(came), error, millis: 3 };
        let text = lines(&played, false);
        let expected = [
            "FAIL  word  3 ms",
            "        agent",
            "          expected  \"support\"",
            "          found     \"sales\"",
            "        asked",
            "          expected  []",
            "          found     nothing",
        ];
        assert_eq!(text.lines().take(expected.len()).collect::<Vec<_>>(), expected);
        assert!(text.contains("it came to  {") && !text.contains('\u{1b}'), "{text:?}");
        let (differences, error) =
            (Vec::new(), Some("error: word.toml line 3\n  help: \u{1b}[2J".to_owned()));
        let case = "evil\u{1b}[2J".to_owned();
        let text = lines(&Played { case, passed, differences, came: None, error, millis: 3 }, false);
        assert!(!text.contains('\u{1b}') && text.contains("word.toml line 3"), "{text:?}");
    }

    #[test]
    fn cases_are_found_by_their_names_or_missed() {
        let folder = tempfile::tempdir().unwrap();
        let failed = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
            files(folder.path(), &wanted).map_err(|failure| failure.render(false))
        };
        assert!(failed(&[]).unwrap_err().contains("holds no case"));
        for name in ["b.toml", "a.toml", "notes.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<_> = failed(&[]).unwrap().iter().map(|path| name(path)).collect();
        assert_eq!(found, ["a", "b"]);
        assert_eq!(failed(&["b"]).unwrap().len(), 1);
        assert!(failed(&["c"]).unwrap_err().contains("no case `c`"));
    }
}
