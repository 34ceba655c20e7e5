//! `chela bench neighbours`: what a department that floods its channel costs another one's people.
//!
//! The same few messages of a calm department are measured alone and beside a flood, in turns, so that both meet the
//! same machine. Sender, host and receiver share its cores, the flood's among them.

use std::time::Duration;

use super::super::Failure;
use super::rig::Rig;
use super::{Bar, Machine, Report, Times};

/// Messages a second of the calm department.
const CALM: f64 = 50.0;
/// How often each side is measured.
const ROUNDS: u32 = 4;
/// The flood is there before it is measured what it does, and after.
const MARGIN: Duration = Duration::from_millis(500);
/// p95 beside the flood against p95 alone.
const RATIO_MAX: f64 = 1.2;

pub(super) async fn run(time: Duration) -> Result<Report, Failure> {
    let folder = tempfile::tempdir()?;
    let machine = Machine::look(Some(folder.path()))?;
    let bench = Rig::start(folder.path(), include_str!("neighbours.toml")).await?;
    bench.measure("warming up", Duration::from_secs(1), None).await?;
    bench.measure_at("calm", "warming up", Duration::from_secs(1), Some(CALM)).await?;
    let (mut alone, mut beside, mut flood, mut flooded) =
        (Times::default(), Times::default(), 0_usize, Duration::ZERO);
    let round = time / ROUNDS;
    for _ in 0..ROUNDS {
        alone.0.extend(bench.measure_at("calm", "alone", round, Some(CALM)).await?.0.0);
        let calm = async {
            tokio::time::sleep(MARGIN).await;
            bench.measure_at("calm", "beside a flood", round, Some(CALM)).await
        };
        let busy = bench.measure("the flood", round + 2 * MARGIN, None);
        let (calm, busy) = tokio::try_join!(calm, busy)?;
        beside.0.extend(calm.0.0);
        flood += busy.0.0.len();
        flooded += busy.1;
    }
    bench.stop().await?;
    let ms = |times: &Times, share| times.quantile(share).as_secs_f64() * 1e3;
    let bars = vec![
        Bar::told(
            "calm department beside a flood, p95 against alone",
            ms(&beside, 0.95) / ms(&alone, 0.95),
            "×",
        )
        .at_most(RATIO_MAX),
        Bar::told("calm department alone, p50", ms(&alone, 0.5), "ms"),
        Bar::told("calm department alone, p95", ms(&alone, 0.95), "ms"),
        Bar::told("calm department beside a flood, p50", ms(&beside, 0.5), "ms"),
        Bar::told("calm department beside a flood, p95", ms(&beside, 0.95), "ms"),
        Bar::told("the flood's messages a second", flood as f64 / flooded.as_secs_f64(), "/s"),
        Bar::told("calm messages of each side", alone.0.len() as f64, ""),
    ];
    Ok(Report { machine, bars })
}
