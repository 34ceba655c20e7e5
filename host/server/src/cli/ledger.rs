//! `chela ledger reconcile`: a provider's bill against the ledger, one row for each day and model.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use chela_gateway::reconcile::{Drift, EXPORT_BYTES_MAX, Export, Form, Off, Report, What};
use chela_types::Money;

use super::args::{LedgerCommand, Reconcile};
use super::operator::Operator;
use super::{Failure, Outcome, load, say, say_json, table};
use crate::config::Config;
use crate::ledger::{Bill, reconcile};
use crate::turn::in_one_line;

pub(super) async fn run(command: LedgerCommand) -> Outcome {
    let LedgerCommand::Reconcile(asked) = command;
    let config = load(&asked.shown.config)?;
    check(&config, &asked.provider)?;
    let export = read(&asked.file)?;
    let report = compared(&config, &asked, &export).await?;
    let has_drifted = report.drifts().next().is_some();
    if asked.shown.json {
        say_json(&report)?;
    } else {
        say(&page(export.form, &report));
    }
    Ok(if has_drifted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A name that is none would find every call missing.
fn check(config: &Config, provider: &str) -> Result<(), Failure> {
    if config.providers.contains_key(provider) {
        return Ok(());
    }
    let known: Vec<&str> = config.providers.keys().map(String::as_str).collect();
    let failure = Failure::new(format!("the configuration has no provider `{provider}`"));
    Err(failure.help(format!("`--provider` is one of: {}", known.join(", "))))
}

fn read(path: &Path) -> Result<Export, Failure> {
    let shown = path.display();
    let unread = |error: std::io::Error| Failure::new(format!("{shown} cannot be read: {error}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(EXPORT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
    Export::read(&bytes).map_err(|error| {
        Failure::new(format!("{shown} is not held against anything: {error}"))
            .help("the forms that are read stand in docs/guide/models.md, under Reconcile")
    })
}

async fn compared(config: &Config, asked: &Reconcile, export: &Export) -> Result<Report, Failure> {
    let bill = Bill { provider: asked.provider.clone(), billed: export.billed.clone(), bound: asked.bound };
    match Operator::at(&asked.shown.config).await? {
        Operator::Running(host) => Ok(host.post("/ledger/reconcile", &bill).await?),
        Operator::Stopped(store) => {
            let price = |name: &str| {
                let (provider, model) = name.split_once('/')?;
                Some(config.providers.get(provider)?.prices.get(model)?.price)
            };
            Ok(reconcile(&store, &bill, price).await?)
        }
    }
}

/// One row for each day and model, and what it comes to.
fn page(form: Form, report: &Report) -> String {
    let has_usage = report.days.iter().any(|day| day.billed_usage.is_some());
    let has_cost = report.days.iter().any(|day| day.billed_cost.is_some());
    let mut header = vec!["day", "model", "calls"];
    header.extend(
        has_usage.then_some(["input billed", "input", "output billed", "output"]).into_iter().flatten(),
    );
    header.extend(has_cost.then_some("billed"));
    header.extend(["charged", "at prices of today", "apart"]);
    let mut rows = table(&header);
    for day in &report.days {
        rows.add_row(row(day, (has_usage, has_cost)));
    }
    let drifted = report.drifts().count();
    let verdict = match drifted {
        0 => format!("no day and model is further apart than {}", report.bound),
        1 => format!("1 day and model is further apart than {}", report.bound),
        n => format!("{n} days and models are further apart than {}", report.bound),
    };
    let unknown: u64 = report.days.iter().map(|day| day.unknown).sum();
    let unknown = match unknown {
        0 => String::new(),
        n => format!("{n} calls were charged by their bound, because nobody told what they cost\n"),
    };
    format!("{}, provider {}\n{rows}\n{unknown}{verdict}\n", form.name(), report.provider)
}

fn row(day: &Drift, (has_usage, has_cost): (bool, bool)) -> Vec<String> {
    let billed = day.billed_usage.unwrap_or_default();
    let calls = match day.requests {
        Some(requests) => format!("{} of {requests} billed", day.calls),
        None => day.calls.to_string(),
    };
    let mut row = vec![day.day.to_string(), name(day), calls];
    if has_usage {
        let counts = [billed.input, day.usage.input, billed.output, day.usage.output];
        row.extend(counts.map(|tokens| tokens.to_string()));
    }
    if has_cost {
        row.push(day.billed_cost.unwrap_or(Money::ZERO).to_string());
    }
    let apart: Vec<String> = day.off.iter().map(apart).collect();
    row.extend([day.cost.to_string(), day.now.to_string(), apart.join("\n")]);
    row
}

/// The model, and under which names of its own the provider counted it.
fn name(day: &Drift) -> String {
    let name = in_one_line(day.model.as_deref().unwrap_or("all together"));
    match day.called.iter().map(String::as_str).collect::<Vec<_>>().join(", ") {
        called if called.is_empty() => name,
        called => format!("{name}\nas {}", in_one_line(&called)),
    }
}

fn apart(off: &Off) -> String {
    let what = match off.what {
        What::Input => "input",
        What::Cached => "cached input",
        What::Written => "written input",
        What::Output => "output",
        What::Cost => "cost",
    };
    format!("{what} {:+.1}%", off.percent())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_gateway::reconcile::{Billed, Booked, Bound, compare};
    use chela_types::{Tokens, Usage};

    fn report(billed_input: u64) -> Report {
        let day = "2026-11-28".parse().unwrap();
        let usage = |input| Usage { input: Tokens(input), output: Tokens(50), ..Usage::default() };
        let (cost, now) = (Money::from_nanos(9_000_000), Money::from_nanos(8_000_000));
        let model = "openai/gpt-4o-mini".to_owned();
        let booked = Booked { day, model, calls: 2, unknown: 1, usage: usage(1_000), cost, now };
        let model = Some("gpt-4o-mini-2024-07-18".to_owned());
        let billed = Billed { day, model, usage: Some(usage(billed_input)), cost: None, requests: Some(3) };
        compare("openai", (&[booked], &[billed]), Bound::USUAL)
    }

    #[test]
    fn a_page_says_what_is_apart_and_under_which_name() {
        let text = page(Form::OpenAiUsage, &report(2_000));
        for part in [
            "OpenAI's usage, provider openai",
            "as gpt-4o-mini-2024-07-18",
            "2 of 3 billed",
            "$0.009",
            "$0.008",
            "input -50.0%",
            "1 calls were charged by their bound",
            "1 day and model is further apart than 1%",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = page(Form::OpenAiUsage, &report(1_000));
        assert!(
            text.contains("no day and model is further apart")
                && !text.contains('%'.to_string().repeat(2).as_str())
        );
    }
}
