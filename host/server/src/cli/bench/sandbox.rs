//! `chela bench sandbox`: what a fresh sandbox for each call costs.

use std::time::{Duration, Instant};

use chela_engine::measure::{Away, Measured};
use chela_sandbox::{Grants, Level, Limits, Sandbox, Settings};
use chela_types::PluginId;
use serde_json::Value;

use super::super::Failure;
use super::{Bar, Machine, Report, Times, progress};
use crate::compose::{Surroundings, plugin_source};
use crate::config::Source;

/// Calls of one kind in a row, before the next kind has its turn: close enough in time that all of them meet
/// the same neighbours.
const ROUND: usize = 200;
/// Calls that warm caches and predictors up first.
const WARM_UP: usize = 2_000;
/// The product's call against the bare loop.
const RATIO_MAX: f64 = 1.3;
/// What a process of its own may add to a call.
const WORKER_US_MAX: f64 = 30.0;

pub(super) async fn run(time: Duration) -> Result<Report, Failure> {
    let cache = tempfile::tempdir()?;
    let (measured, away) = load(cache.path()).await?;
    for _ in 0..WARM_UP {
        measured.fresh().await?;
        measured.bare().await?;
        away.call().await?;
    }
    let [mut fresh, mut bare, mut warm, mut there] = [(); 4].map(|()| Times::default());
    let bar = progress("sandboxed routing calls", u64::try_from(time.as_millis())?);
    let began = Instant::now();
    while began.elapsed() < time {
        for _ in 0..ROUND {
            fresh.0.push(measured.fresh().await?);
            // As every caller does once it has its answer: what the call held is given back meanwhile.
            tokio::task::yield_now().await;
        }
        for _ in 0..ROUND {
            bare.0.push(measured.bare().await?);
        }
        warm.0.extend(measured.warm(ROUND).await?);
        for _ in 0..ROUND {
            there.0.push(away.call().await?);
        }
        bar.set_position(u64::try_from(began.elapsed().as_millis())?);
    }
    bar.finish_and_clear();
    let us = |times: &Times, share| times.quantile(share).as_secs_f64() * 1e6;
    let ratio = us(&fresh, 0.5) / us(&bare, 0.5);
    let more = us(&there, 0.5) - us(&fresh, 0.5);
    let bars = vec![
        Bar::told("fresh sandbox and routing call against a bare wasmtime loop", ratio, "×")
            .at_most(RATIO_MAX),
        Bar::told("fresh sandbox and routing call, p50", us(&fresh, 0.5), "µs"),
        Bar::told("fresh sandbox and routing call, p99", us(&fresh, 0.99), "µs"),
        Bar::told("bare wasmtime loop, p50", us(&bare, 0.5), "µs"),
        Bar::told("bare wasmtime loop, p99", us(&bare, 0.99), "µs"),
        Bar::told("the same call on one warm instance, p50", us(&warm, 0.5), "µs"),
        Bar::told("the same call in a worker, more, p50", more, "µs").at_most(WORKER_US_MAX),
        Bar::told("the same call in a worker, p50", us(&there, 0.5), "µs"),
        Bar::told("the same call in a worker, p99", us(&there, 0.99), "µs"),
        Bar::told("calls of each kind", fresh.0.len() as f64, ""),
    ];
    Ok(Report { machine: Machine::look(None)?, bars })
}

/// The keyword router with the demo's rules.
async fn load(cache: &std::path::Path) -> Result<(Measured, Away), Failure> {
    let sandbox = Sandbox::new(Surroundings::of_this_program()?.sandbox(cache))
        .map_err(|error| Failure::from(crate::compose::Error::Sandbox(error)))?;
    let id = PluginId::new("keyword")?;
    let source = plugin_source(&id, &Source::Builtin("keyword".to_owned()))?;
    let rules: Value = toml::from_str(chela_bundle::document("rules.toml").unwrap_or_default())?;
    let settings = Settings {
        id,
        config: rules,
        grants: Grants::NONE,
        limits: Limits::STANDARD,
        level: Level::InProcess,
    };
    let away = Away::load(&sandbox, source.clone(), settings.clone()).await?;
    Ok((Measured::load(&sandbox, source, settings).await?, away))
}
