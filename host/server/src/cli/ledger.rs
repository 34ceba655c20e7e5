//! `chela ledger reconcile`: a provider's bill against the ledger, one row for each day and model.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use chela_gateway::reconcile::{Drift, EXPORT_BYTES_MAX, Export, Form, Off, Report, What};
use chela_types::{Tokens, Usage};

use super::args::{LedgerCommand, Reconcile};
use super::operator::Operator;
use super::{Failure, Outcome, keep_whole, load, say, say_json, table};
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
    let header = ["day", "model", "calls", "input", "output", "charged", "at today's prices", "apart"];
    let mut rows = table(&header);
    for day in &report.days {
        rows.add_row(row(day));
    }
    keep_whole(&mut rows, &[1, header.len() - 1]);
    let drifted = report.drifts().count();
    let verdict = match drifted {
        0 => format!("no day and model is further apart than {}", report.bound),
        1 => format!("1 day and model is further apart than {}", report.bound),
        n => format!("{n} days and models are further apart than {}", report.bound),
    };
    let unknown: u64 = report.days.iter().map(|day| day.unknown).sum();
    let unknown = match unknown {
        0 => String::new(),
        1 => "1 call was charged by its bound, because nobody told what it cost\n".to_owned(),
        n => format!("{n} calls were charged by their bound, because nobody told what they cost\n"),
    };
    format!("{}, provider {}: ledger/bill\n{rows}\n{unknown}{verdict}\n", form.name(), report.provider)
}

fn row(day: &Drift) -> [String; 8] {
    let billed = |read: fn(&Usage) -> Tokens| day.billed_usage.as_ref().map(read);
    [
        day.day.to_string(),
        name(day),
        pair(day.calls, day.requests),
        pair(day.usage.input, billed(|usage| usage.input)),
        pair(day.usage.output, billed(|usage| usage.output)),
        pair(day.cost, day.billed_cost),
        day.now.to_string(),
        day.off.iter().map(apart).collect::<Vec<_>>().join("\n"),
    ]
}

/// The ledger's number, and the bill's if it has one.
fn pair<T: Display>(ledger: T, billed: Option<T>) -> String {
    billed.map_or_else(|| ledger.to_string(), |billed| format!("{ledger}/{billed}"))
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
    use chela_types::Money;

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
            "OpenAI's usage, provider openai: ledger/bill",
            "as gpt-4o-mini-2024-07-18",
            "2/3",
            "$0.009",
            "1000/2000",
            "$0.008",
            "input -50.0%",
            "1 call was charged by its bound",
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
