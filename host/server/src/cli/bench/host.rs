//! `chela bench host`: whole messages, from a signed webhook to the delivered answer, every step durable.
//!
//! Sender, host and receiver share this process and this machine's cores; what is told is what is left for
//! messages. Model time is excluded: the script answers at once.

use std::time::Duration;

use super::super::Failure;
use super::rig::{CONVERSATIONS, Rig};
use super::{Bar, Machine, Report, Times};

/// Messages a second, sustained.
const RATE_MIN: f64 = 500.0;
/// p99 at half of that, in milliseconds, or this many commit floors, whichever is longer.
const P99_MAX_MS: f64 = 50.0;
const P99_MAX_FLOORS: f64 = 10.0;

pub(super) async fn run(time: Duration) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let machine = Machine::look(Some(folder.path()))?;
    let bench = Rig::start(folder.path(), include_str!("host.toml")).await?;
    // Connections, caches, first pages of the store.
    bench.measure("warming up", Duration::from_secs(1), None).await?;
    let (flood, took) = bench.measure("as fast as it goes", time, None).await?;
    let rate = flood.0.len() as f64 / took.as_secs_f64();
    let pace = RATE_MIN.min(rate) / 2.0;
    let (paced, _) = bench.measure("at half the bar's rate", time, Some(pace)).await?;
    bench.stop().await?;

    let ms = |times: &Times, share| times.quantile(share).as_secs_f64() * 1e3;
    let floor_ms = machine.commit_floor_us.unwrap_or_default() / 1e3;
    let bars = vec![
        Bar::told("whole messages a second", rate, "/s").at_least(RATE_MIN),
        Bar::told(&format!("webhook in to delivered at {pace:.0}/s, p99"), ms(&paced, 0.99), "ms")
            .at_most(P99_MAX_MS.max(P99_MAX_FLOORS * floor_ms)),
        Bar::told(&format!("webhook in to delivered at {pace:.0}/s, p50"), ms(&paced, 0.5), "ms"),
        Bar::told("webhook in to delivered, as fast as it goes, p50", ms(&flood, 0.5), "ms"),
        Bar::told("webhook in to delivered, as fast as it goes, p99", ms(&flood, 0.99), "ms"),
        Bar::told("conversations at once", CONVERSATIONS as f64, ""),
        Bar::told("messages", (flood.0.len() + paced.0.len()) as f64, ""),
    ];
    Ok(Report { machine, bars })
}
