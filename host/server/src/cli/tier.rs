//! `chela tier …`: turns to be labelled, what is fitted on their labels, and what that is worth.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use chela_gateway::difficulty::{
    Area, Curve, DATA_BYTES_MAX, DATA_ROWS_MAX, Data, Exported, FILE_BYTES_MAX, Fitted, Interval, Options,
    Outcome as Came, Point, Scorer, evaluate, fit,
};
use chela_store::{Recorded, Store};
use chela_types::{AgentId, Clock, SystemClock, TenantId};

use super::args::{TierCommand, TierEval, TierExport, TierFit};
use super::{Failure, Outcome, load, say, say_json, table};
use crate::config::Config;

/// Turns that are read at once.
const PAGE: usize = 200;

pub(super) async fn run(command: TierCommand) -> Outcome {
    match command {
        TierCommand::Export(asked) => export(&asked).await,
        TierCommand::Fit(asked) => fitted(&asked),
        TierCommand::Eval(asked) => evaluated(&asked),
    }
}

async fn export(asked: &TierExport) -> Outcome {
    let config = load(&asked.config)?;
    let agent = AgentId::new(asked.agent.as_str())?;
    if !config.agents.contains_key(&agent) {
        return Err(Failure::new(format!("the configuration has no agent `{agent}`")));
    }
    let store = Store::open_beside(&config.store.folder).await?;
    // What people said is for nobody else on this machine.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&asked.out);
    let mut file = file.map_err(|error| unusable(&asked.out, &error))?;
    let (tenant, since) = (TenantId::default_tenant(), SystemClock.now().minus(asked.since));
    let (mut after, mut written) = (0, 0_usize);
    while written < DATA_ROWS_MAX {
        let page = store.recorded(&tenant, since, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for turn in &page {
            if written == DATA_ROWS_MAX {
                break;
            }
            let Some(line) = line(&store, (&config, &agent), turn).await? else { continue };
            file.write_all(line.as_bytes()).map_err(|error| unusable(&asked.out, &error))?;
            written += 1;
        }
    }
    say(&exported(&agent, written, &asked.out));
    Ok(ExitCode::SUCCESS)
}

/// A file that holds as much as may be is no sample of what was said.
fn exported(agent: &AgentId, written: usize, out: &Path) -> String {
    let most = if written == DATA_ROWS_MAX { "the oldest " } else { "" };
    let rest = if most.is_empty() { "" } else { "; there may be more: a shorter `--since` begins later" };
    format!(
        "{most}{written} turns of `{agent}` in {}{rest}: label `cheap` and `dear` in each\n",
        out.display()
    )
}

/// A turn as a line, if it was this agent's and its words are still kept: what was said before, as far as the agent is
/// told, and what was said.
async fn line(
    store: &Store,
    (config, agent): (&Config, &AgentId),
    turn: &Recorded,
) -> Result<Option<String>, Failure> {
    let Some(message) = &turn.message else { return Ok(None) };
    let record = store.turn_record(turn.id).await?;
    let decided = record.as_ref().and_then(|record| record.decisions.last());
    if decided.is_none_or(|(_, decision)| decision.agent != *agent) {
        return Ok(None);
    }
    let history = config.agents.get(agent).map_or(0, |agent| agent.history);
    let before = store.utterances_of(turn.conversation, turn.seq, history).await?;
    let mut prompts: Vec<String> = before.into_iter().map(|said| said.text).collect();
    prompts.push(message.text.clone());
    let exported = Exported { turn: &turn.id.to_string(), prompts: &prompts, system: None };
    Ok(Some(format!("{}\n", serde_json::to_string(&exported)?)))
}

fn fitted(asked: &TierFit) -> Outcome {
    let data = read(&asked.data)?;
    let options = Options { folds: asked.folds, quality_loss: asked.quality_loss, seed: asked.seed };
    let (scorer, fitted) = fit(&data, options, SystemClock.now()).map_err(|unfit| {
        Failure::new(format!("nothing was fitted: {unfit}"))
            .help("more labelled turns, or a larger --quality-loss; or leave the agent at one tier")
    })?;
    std::fs::write(&asked.out, scorer.to_toml()?).map_err(|error| unusable(&asked.out, &error))?;
    if asked.json {
        return say_json(&fitted);
    }
    say(&told(&fitted, &asked.out));
    Ok(ExitCode::SUCCESS)
}

fn told(fitted: &Fitted, out: &Path) -> String {
    let Fitted { turns, enough, auc, length_auc, beyond_length, threshold, sent, loss, loss_at_most } =
        fitted;
    let beyond = if fitted.is_beyond_length() {
        format!("{} beyond the length of the question", between(beyond_length))
    } else {
        format!("no gain beyond the length of the question ({})", between(beyond_length))
    };
    format!(
        "{turns} turns; the cheaper tier is good enough in {enough} of them\n\
         AUC {} by turns that were left out; by the length alone {}; {beyond}\n\
         from {threshold:.3} on the cheaper tier answers: {sent} of {turns} turns ({:.0} %)\n\
         that loses {:.2} % of the quality on these {turns} turns, with 95 % confidence at most {:.2} %\n\
         written to {}; `chela tier eval` holds it against turns that it was not fitted on\n",
        between(auc),
        between(length_auc),
        percent(*sent, *turns),
        loss * 100.0,
        loss_at_most * 100.0,
        out.display(),
    )
}

fn evaluated(asked: &TierEval) -> Outcome {
    let data = read(&asked.data)?;
    let text = String::from_utf8(bytes(&asked.model, FILE_BYTES_MAX)?)?;
    let scorer = Scorer::parse(&text)
        .map_err(|error| Failure::new(format!("{} is not used: {error}", asked.model.display())))?;
    let curve = evaluate(&data, &scorer);
    if asked.json {
        return say_json(&curve);
    }
    say(&format!("{}\n{}", scorer.about(), page(&curve)));
    Ok(ExitCode::SUCCESS)
}

fn page(curve: &Curve) -> String {
    let mut rows = table(&["to the cheaper tier", "this file", "by length", "by lot", "ideal"]);
    for point in &curve.points {
        rows.add_row(row(point, curve.turns));
    }
    let Area { scorer, length, random, ideal, beyond_length, beyond_chance } = &curve.area;
    let area = [scorer, length, random, ideal].map(between);
    rows.add_row(std::iter::once("area under the curve".to_owned()).chain(area));
    let [at, ..] = row(&curve.at_threshold, curve.turns);
    let seen =
        if curve.is_fitted_on { "it was fitted on these turns, so that they flatter it\n" } else { "" };
    let beyond = if beyond_length.low > 0.0 {
        "better than the length alone"
    } else {
        "no better than the length alone"
    };
    let chance = if beyond_chance.low > 0.0 { "better than chance" } else { "no better than chance" };
    format!(
        "quality (and cost) on {} turns\n{rows}\n{seen}AUC {}, by length {}\n\
         area beyond chance {}: {chance}; beyond the length {}: {beyond}\n\
         at its threshold {at} go to the cheaper tier: quality {}, lost at most {:.2} % (95 %)\n",
        curve.turns,
        between(&curve.auc),
        between(&curve.length_auc),
        between(beyond_chance),
        between(beyond_length),
        came(&curve.at_threshold.scorer),
        curve.loss_at_most * 100.0,
    )
}

fn row(point: &Point, turns: usize) -> [String; 5] {
    let share = format!("{} ({:.0} %)", point.sent, percent(point.sent, turns));
    [share, came(&point.scorer), came(&point.length), came(&point.random), came(&point.ideal)]
}

fn came(outcome: &Came) -> String {
    let cost = outcome.cost.map(|cost| format!(" ({cost})")).unwrap_or_default();
    format!("{:.4}{cost}", outcome.quality)
}

fn between(of: &Interval) -> String {
    format!("{:.3} ({:.3} to {:.3})", of.value, of.low, of.high)
}

fn percent(part: usize, of: usize) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

fn read(path: &Path) -> Result<Data, Failure> {
    let bytes = bytes(path, DATA_BYTES_MAX as u64)?;
    Data::read(&bytes).map_err(|error| {
        Failure::new(format!("{} is not used: {error}", path.display()))
            .help("what a line says stands in docs/guide/models.md, under Calibrated tiers")
    })
}

/// One byte more than may be tells that there are too many.
fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| unusable(path, &error))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| unusable(path, &error))?;
    Ok(bytes)
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be used: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(count: usize) -> Data {
        let line = |number: usize| {
            let (text, good) =
                if number.is_multiple_of(2) { ("reset my password", true) } else { ("prove it", false) };
            let cheap = format!(r#"{{"good":{good},"cost":"0.001"}}"#);
            format!(
                r#"{{"text":"{text} w{}","cheap":{cheap},"dear":{{"good":true,"cost":"0.01"}}}}"#,
                number % 50
            )
        };
        Data::read((0..count).map(line).collect::<Vec<_>>().join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_file_that_is_full_is_told_to_be_the_oldest() {
        let agent = AgentId::new("support").unwrap();
        let told = |written| exported(&agent, written, Path::new("turns.jsonl"));
        assert_eq!(told(7), "7 turns of `support` in turns.jsonl: label `cheap` and `dear` in each\n");
        assert!(
            told(DATA_ROWS_MAX).starts_with("the oldest 100000 turns of `support`"),
            "{}",
            told(DATA_ROWS_MAX)
        );
    }

    #[test]
    fn pages_say_on_how_many_turns_each_figure_stands() {
        let data = data(600);
        let (scorer, fitted) = fit(&data, Options::default(), chela_types::Millis(0)).unwrap();
        let text = told(&fitted, Path::new("tiers/support.toml"));
        for part in [
            "600 turns; the cheaper tier is good enough in 300",
            "of 600 turns",
            "on these 600 turns",
            "AUC 1.000",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = page(&evaluate(&data, &scorer));
        for part in
            ["on 600 turns", "it was fitted on these turns", "300 (50 %)", "1.0000 ($3.30)", "area under"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.to_lowercase().contains("save"), "{text}");
    }
}
