//! `chela bench …`: measured on this machine, in one run, with the bars that the design sets itself.
//!
//! Absolute times mean little on a shared machine, so each figure stands beside something that was measured
//! in the same run: a bare wasmtime loop, or the time of one commit to this disk.

mod gateway;
mod host;
mod neighbours;
mod rig;
mod sandbox;
mod swap;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::args::BenchCommand;
use super::{Failure, Outcome, say, say_json, table};

/// Commits that are timed for the floor.
const COMMITS: usize = 200;

pub(super) async fn run(command: BenchCommand) -> Outcome {
    let (report, json) = match command {
        BenchCommand::Sandbox(bench) => {
            // On a worker of the runtime, where every call of a host is made.
            let json = bench.json;
            let run = tokio::spawn(async move { sandbox::run(&bench).await });
            (run.await.map_err(|error| Failure::new(error.to_string()))??, json)
        }
        BenchCommand::Gateway(bench) => (gateway::run(&bench).await?, bench.json),
        BenchCommand::Host(bench) => (host::run(Duration::from_secs(bench.seconds)).await?, bench.json),
        BenchCommand::Neighbours(bench) => {
            (neighbours::run(Duration::from_secs(bench.seconds)).await?, bench.json)
        }
        BenchCommand::Swap(bench) => {
            (swap::run(Duration::from_secs(bench.seconds), bench.swaps).await?, bench.json)
        }
    };
    if json {
        return say_json(&report);
    }
    say(&format!("{}\n\n{}\n", report.machine.line(), report.table()));
    match report.bars.iter().any(|bar| bar.holds == Some(false)) {
        true => Err(Failure::new("a bar does not hold on this machine")),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// What was measured, and where.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    bars: Vec<Bar>,
}

impl Report {
    fn table(&self) -> comfy_table::Table {
        let mut rows = table(&["what", "value", "unit", "bar", ""]);
        for bar in &self.bars {
            let holds = match bar.holds {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "",
            };
            rows.add_row([
                &bar.name,
                &figure(bar.value),
                bar.unit,
                bar.bound.as_deref().unwrap_or(""),
                holds,
            ]);
        }
        rows
    }
}

/// One figure.
#[derive(Debug, Serialize)]
struct Bar {
    name: String,
    value: f64,
    unit: &'static str,
    /// What it should be, in words; absent if it only explains another.
    bound: Option<String>,
    holds: Option<bool>,
}

impl Bar {
    /// A figure without a bar.
    fn told(name: &str, value: f64, unit: &'static str) -> Self {
        Self { name: name.to_owned(), value, unit, bound: None, holds: None }
    }

    fn at_most(self, bound: f64) -> Self {
        let holds = Some(self.value <= bound);
        Self { bound: Some(format!("≤ {}", figure(bound))), holds, ..self }
    }

    fn at_least(self, bound: f64) -> Self {
        let holds = Some(self.value >= bound);
        Self { bound: Some(format!("≥ {}", figure(bound))), holds, ..self }
    }
}

/// Three digits that matter.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The machine that the figures belong to.
#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    version: &'static str,
    /// p50 of writing 4 KiB and waiting until the disk has it, in microseconds; absent where nothing durable
    /// was measured.
    commit_floor_us: Option<f64>,
}

impl Machine {
    /// With the commit floor of `folder`'s disk, if one is given.
    fn look(folder: Option<&Path>) -> Result<Self, Failure> {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name);
        Ok(Self {
            cpu: model.unwrap_or("unknown").trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            commit_floor_us: folder.map(commit_floor).transpose()?.map(|floor| floor.as_secs_f64() * 1e6),
        })
    }

    fn line(&self) -> String {
        let floor =
            self.commit_floor_us.map(|us| format!(", commit floor {} µs", figure(us))).unwrap_or_default();
        format!("chela {} on {} × {}, Linux {}{floor}", self.version, self.cores, self.cpu, self.kernel)
    }
}

fn commit_floor(folder: &Path) -> Result<Duration, Failure> {
    let path = folder.join("commit-floor");
    let mut file = File::create(&path)?;
    let mut times = Times::default();
    for _ in 0..COMMITS {
        let began = Instant::now();
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        times.0.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(times.quantile(0.5))
}

/// What this process holds of the machine's memory.
fn resident_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| Failure::new("the system does not tell how much memory is in use"))? * 1_024)
}

/// Measured times.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    /// The time below which this share of all lies.
    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        #[allow(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a share of a length is one"
        )]
        let at = (last as f64 * share).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// A bar that fills while something is measured; on standard error, so that `--json` stays clean.
fn progress(what: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:40.cyan/dim} {percent:>3} %") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let times = Times((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(times.quantile(0.0), Duration::from_millis(1));
        assert_eq!(times.quantile(0.5), Duration::from_millis(51));
        assert_eq!(times.quantile(0.99), Duration::from_millis(99));
        assert_eq!(Times::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn a_bar_holds_or_not() {
        assert_eq!(Bar::told("x", 1.2, "×").at_most(1.3).holds, Some(true));
        assert_eq!(Bar::told("x", 1.4, "×").at_most(1.3).holds, Some(false));
        assert_eq!(Bar::told("x", 400.0, "/s").at_least(500.0).holds, Some(false));
    }
}
