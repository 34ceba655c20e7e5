//! `chela up`: the host, until somebody stops it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use chela_sandbox::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::ConfigPath;
use super::{Failure, Outcome, load, say};
use crate::compose::Surroundings;
use crate::config::{Config, Log};
use crate::host::{Host, Options};
use crate::telemetry;

pub(super) async fn run(at: &ConfigPath) -> Outcome {
    let config = load(at)?;
    let _log = start_log(&config)?;
    let metrics = telemetry::metrics()?;
    let loading = Loading::new();
    let options = Options {
        surroundings: Surroundings::of_this_program()?,
        chats: BTreeMap::new(),
        metrics: Some(metrics),
        progress: crate::host::Progress(&|serves, progress| loading.tell(serves, progress)),
    };
    let host = Host::start(config, options).await?;
    loading.finish();
    let addresses = host.addresses().clone();
    if std::io::stdout().is_terminal() {
        say(&format!(
            "chela is up\n  public  http://{}\n  admin   http://{}\n",
            addresses.public, addresses.admin
        ));
    }
    host.run(stopped()?).await?;
    Ok(ExitCode::SUCCESS)
}

fn start_log(config: &Config) -> Result<telemetry::Log, Failure> {
    let format = match config.server.log {
        Log::Pretty => telemetry::Format::Pretty,
        Log::Json => telemetry::Format::Json,
    };
    let filter = std::env::var("CHELA_LOG").unwrap_or_else(|_| telemetry::FILTER.to_owned());
    Ok(telemetry::log(format, &filter)?)
}

/// Cancelled by the first SIGTERM or SIGINT; the second one ends the process at once.
pub(super) fn stopped() -> Result<CancellationToken, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round > 0 {
                // Nothing acknowledged is lost: the store is made for worse.
                std::process::exit(EXIT_FORCED);
            }
            stopping.cancel();
            tracing::info!("stopping: turns that run may end; once more to stop at once");
        }
    });
    Ok(stop)
}

/// The exit code of a process that a signal has ended.
const EXIT_FORCED: i32 = 130;

/// Shows what loads. On a terminal only; a log file is told by the log.
pub(super) struct Loading {
    bar: ProgressBar,
    /// Plugins whose machine code had to be made.
    prepared: Mutex<u32>,
}

impl Loading {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, prepared: Mutex::new(0) }
    }

    pub(super) fn tell(&self, serves: &str, progress: Progress) {
        match progress {
            Progress::Checked => self.bar.set_message(format!("{serves}: checked")),
            Progress::Cached => self.bar.set_message(format!("{serves}: compiled before")),
            Progress::Preparing(stage) => self.bar.set_message(format!("{serves}: {stage}")),
            Progress::Ready => {
                if let Ok(mut prepared) = self.prepared.lock() {
                    *prepared += 1;
                    self.bar.set_message(format!("{serves}: ready ({} so far)", *prepared));
                }
            }
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
