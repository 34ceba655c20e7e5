//! What the host says of itself: log lines and metrics.
//!
//! The host's own lines never hold what people say; rooms log ids, names and error classes. What a plugin logs is
//! its author's, and has the target `plugin`. Metrics are read by whoever asks the admin listener; nothing is pushed.

mod lines;
mod series;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use lines::Lines;
pub use series::Metrics;
use series::{IDLE, Series};

/// What is logged unless said otherwise: our own rooms from `info`, libraries from `warn`.
pub const FILTER: &str = "warn,chela=info,chela_server=info,chela_engine=info,chela_store=info,\
                          chela_gateway=info,chela_sandbox=info,chela_egress=info,plugin=info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person at a terminal.
    Pretty,
    /// One JSON object for each line.
    Json,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter has a spelling that the parser refuses.
    #[error("could not read the log filter `{filter}`")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another part of this process has a log already.
    #[error("could not start the log")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another part of this process has metrics already.
    #[error("could not start the metrics")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The log, to be held until the process ends: dropping it gives the last lines a moment.
#[derive(Debug)]
#[must_use = "dropped at once, it loses the last lines"]
pub struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Starts the log on standard error; `filter` in the syntax of tracing's `EnvFilter`. Nobody who logs waits for
/// standard error or hears of its trouble.
///
/// # Errors
/// [`Error::Filter`], or [`Error::Log`] if it runs already.
pub fn log(format: Format, filter: &str) -> Result<Log, Error> {
    let filter =
        EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let lines = Lines::to(std::io::stderr()).map_err(|error| Error::Log(error.into()))?;
    let log = Log(lines.clone());
    // Errors of the log itself would be written to standard error by whoever logs.
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(move || lines.clone());
    match format {
        Format::Json => {
            events.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
        Format::Pretty => {
            events.compact().with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
        }
    }
    .map_err(Error::Log)?;
    Ok(log)
}

/// Starts the metrics, to be read by what is returned.
///
/// # Errors
/// [`Error::Metrics`] if they run already.
pub fn metrics() -> Result<Metrics, Error> {
    let series = Series::new(IDLE).map_err(|error| Error::Metrics(error.into()))?;
    let metrics = series.metrics();
    metrics::set_global_recorder(series).map_err(|error| Error::Metrics(error.to_string().into()))?;
    Ok(metrics)
}
