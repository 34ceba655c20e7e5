//! `chela bench sandbox`: what a fresh sandbox for each call costs.
//!
//! What is compared takes turns, close enough in time that all of it meets the same neighbours.

mod asking;
mod routing;
mod waiting;

use std::time::{Duration, Instant};

use chela_engine::measure::Routed;
use chela_sandbox::{Grants, Level, Limits, Sandbox, Settings, Source};
use chela_types::PluginId;
use futures::future::BoxFuture;
use serde_json::Value;

use super::super::Failure;
use super::super::args::SandboxBench;
use super::{Bar, Machine, Report, Times, progress};
use crate::compose::{Error, Surroundings};

pub(super) async fn run(asked: &SandboxBench) -> Result<Report, Failure> {
    let time = Duration::from_secs(asked.seconds);
    let folder = tempfile::tempdir()?;
    let surroundings = Surroundings::of_this_program()?;
    let sandbox = made(surroundings.sandbox(folder.path().join("plugins")))?;
    let mut bars = routing::keyword(&sandbox, time).await?;
    bars.extend(routing::prepared(&sandbox, time).await?);
    bars.extend(routing::others(&sandbox, &asked.router, time).await?);
    drop(sandbox);
    bars.extend(asking::run(&surroundings, folder.path(), time).await?);
    bars.extend(waiting::run(&surroundings, folder.path(), asked.waiting).await?);
    Ok(Report { machine: Machine::look(None)?, bars })
}

fn made(config: chela_sandbox::Config) -> Result<Sandbox, Failure> {
    Sandbox::new(config).map_err(|error| Error::Sandbox(error).into())
}

/// A router of this name that is asked for nothing but where to go.
async fn router(
    sandbox: &Sandbox,
    (name, source): (&str, Source),
    config: Value,
    level: Level,
) -> Result<Routed, Failure> {
    let settings = Settings {
        id: PluginId::new(name)?,
        config,
        grants: Grants::NONE,
        limits: Limits { deadline: waiting::DEADLINE, ..Limits::STANDARD },
        level,
    };
    Ok(Routed::load(sandbox, source, settings).await?)
}

/// One of those that take turns: what it does when it is its turn.
type Side<'a> = Box<dyn Fn() -> BoxFuture<'a, Result<Vec<Duration>, Failure>> + Send + Sync + 'a>;

/// Each side in its turn, again and again until the time is over; once before, for caches and predictors.
async fn in_turns<const N: usize>(
    what: &str,
    time: Duration,
    sides: [Side<'_>; N],
) -> Result<[Times; N], Failure> {
    turns(what, time, &sides).await?.try_into().map_err(|_| Failure::new("a side was not measured"))
}

async fn turns(what: &str, time: Duration, sides: &[Side<'_>]) -> Result<Vec<Times>, Failure> {
    for side in sides {
        side().await?;
    }
    let bar = progress(what, u64::try_from(time.as_millis())?);
    let mut times: Vec<Times> = sides.iter().map(|_| Times::default()).collect();
    let began = Instant::now();
    loop {
        for (side, times) in sides.iter().zip(&mut times) {
            times.0.extend(side().await?);
        }
        bar.set_position(u64::try_from(began.elapsed().min(time).as_millis())?);
        if began.elapsed() >= time {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(times)
}

fn us(times: &Times, share: f64) -> f64 {
    times.quantile(share).as_secs_f64() * 1e6
}
