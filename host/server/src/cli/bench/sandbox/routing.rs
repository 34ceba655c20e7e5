//! One routing call: as the product makes it, bare, warm, in a worker, with a prepared state, in other languages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chela_engine::measure::Routed;
use chela_sandbox::{Level, Sandbox, Source};
use serde_json::{Map, Value};

use super::super::super::Failure;
use super::{Bar, Side, in_turns, router, turns, us};
use crate::compose::plugin_source;
use crate::config;

/// Calls of one side in a row.
const ROUND: usize = 200;
/// The same where each call takes long.
const ROUND_SLOW: usize = 20;
/// Between two calls where they do not come one upon the other, as they do in no host: a thousand a second are as many as
/// two cores make messages.
const GAP: Duration = Duration::from_millis(1);
/// The product's call against the bare loop.
const RATIO_MAX: f64 = 1.3;
/// What a process of its own may add to a call.
const WORKER_US_MAX: f64 = 30.0;
/// Where the measured message belongs, as the demo's rules say.
const AGENT: &str = "support";

/// The keyword router with the demo's rules.
pub(super) async fn keyword(sandbox: &Sandbox, time: Duration) -> Result<Vec<Bar>, Failure> {
    let (here, away) = tokio::try_join!(demo(sandbox, Level::InProcess), demo(sandbox, Level::Worker))?;
    let floor = here.floor(sandbox)?;
    for one in [&here, &away] {
        let (agent, _) = one.call().await?;
        if agent != AGENT {
            return Err(Failure::new(format!("the measured router chose {agent}, not {AGENT}")));
        }
    }
    let bare = || async {
        let mut times = Vec::with_capacity(ROUND);
        for _ in 0..ROUND {
            times.push(floor.fresh().await?);
        }
        Ok(times)
    };
    let warm = || async { Ok(floor.warm(ROUND).await?) };
    let [fresh, bare, warm, there] = in_turns(
        "routing calls",
        time,
        [
            calls(&here, ROUND),
            Box::new(|| Box::pin(bare())),
            Box::new(|| Box::pin(warm())),
            calls(&away, ROUND),
        ],
    )
    .await?;
    let sides = [spread(&here), spread(&away)];
    let [fresh_spread, there_spread] = in_turns("a thousand a second", time, sides).await?;
    let ratio = us(&fresh, 0.5) / us(&bare, 0.5);
    let more = |there, here| us(there, 0.5) - us(here, 0.5);
    Ok(vec![
        Bar::told("fresh sandbox and routing call against a bare wasmtime loop", ratio, "×")
            .at_most(RATIO_MAX),
        Bar::told("fresh sandbox and routing call, p50", us(&fresh, 0.5), "µs"),
        Bar::told("fresh sandbox and routing call, p99", us(&fresh, 0.99), "µs"),
        Bar::told("bare wasmtime loop, p50", us(&bare, 0.5), "µs"),
        Bar::told("bare wasmtime loop, p99", us(&bare, 0.99), "µs"),
        Bar::told("the same call on one warm instance, p50", us(&warm, 0.5), "µs"),
        Bar::told("the same call in a worker, more, p50", more(&there, &fresh), "µs").at_most(WORKER_US_MAX),
        Bar::told("the same call in a worker, p50", us(&there, 0.5), "µs"),
        Bar::told("the same call in a worker, p99", us(&there, 0.99), "µs"),
        Bar::told("a thousand calls a second, p50", us(&fresh_spread, 0.5), "µs"),
        Bar::told("a thousand calls a second, p99", us(&fresh_spread, 0.99), "µs"),
        Bar::told("the same in a worker, more, p50", more(&there_spread, &fresh_spread), "µs"),
        Bar::told("the same in a worker, p99", us(&there_spread, 0.99), "µs"),
        Bar::told("calls of each kind", fresh.0.len() as f64, ""),
    ])
}

async fn demo(sandbox: &Sandbox, level: Level) -> Result<Routed, Failure> {
    let name = "keyword";
    let source =
        plugin_source(&chela_types::PluginId::new(name)?, &config::Source::Builtin(name.to_owned()))?;
    let rules: Value = toml::from_str(chela_bundle::document("rules.toml").unwrap_or_default())?;
    router(sandbox, (name, source), rules, level).await
}

/// A router that writes 4 MiB in `init`, and does nothing else: with the snapshot, and running `init` for each call.
pub(super) async fn prepared(sandbox: &Sandbox, time: Duration) -> Result<Vec<Bar>, Failure> {
    let load = async |name: &str, snapshot: bool| {
        let source = chela_drill::router(name, snapshot);
        let source = source.ok_or_else(|| Failure::new(format!("this program does not carry `{name}`")))?;
        router(sandbox, (name, source), nothing(), Level::InProcess).await
    };
    let (empty, with, without) =
        (load("honest", true).await?, load("prepared", true).await?, load("prepared", false).await?);
    let sides = [calls(&empty, ROUND), calls(&with, ROUND), calls(&without, ROUND_SLOW)];
    let [empty, with, without] = in_turns("4 MiB of state", time, sides).await?;
    Ok(vec![
        Bar::told("a router of nothing, without state, p50", us(&empty, 0.5), "µs"),
        Bar::told("the same with 4 MiB of prepared state in the snapshot, p50", us(&with, 0.5), "µs"),
        Bar::told("the same with `init` for each call, p50", us(&without, 0.5), "µs"),
    ])
}

/// Routers in these folders, whatever they are written in.
pub(super) async fn others(
    sandbox: &Sandbox,
    folders: &[PathBuf],
    time: Duration,
) -> Result<Vec<Bar>, Failure> {
    let mut loaded = Vec::new();
    for folder in folders {
        let source = Source::Folder(folder.clone());
        loaded.push(router(sandbox, ("measured", source), nothing(), Level::InProcess).await?);
    }
    if loaded.is_empty() {
        return Ok(Vec::new());
    }
    let mut sides = Vec::new();
    for one in &loaded {
        sides.extend([calls(one, ROUND_SLOW), warm(one, sandbox)?]);
    }
    let times = turns("routers of these folders", time, &sides).await?;
    let mut bars = Vec::new();
    for (router, times) in loaded.iter().zip(times.chunks(2)) {
        for (how, times) in ["fresh", "warm"].iter().zip(times) {
            bars.push(Bar::told(&format!("{}, {how}, p50", router.name()), us(times, 0.5), "µs"));
        }
    }
    Ok(bars)
}

/// So many calls in a row. After each, what it held is given back, as it is with every caller once he waits.
fn calls(router: &Routed, count: usize) -> Side<'_> {
    let round = move || async move {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(router.call().await?.1);
            tokio::task::yield_now().await;
        }
        Ok(times)
    };
    Box::new(move || Box::pin(round()))
}

/// Calls with a gap before each.
fn spread(router: &Routed) -> Side<'_> {
    let round = move || async move {
        let mut times = Vec::with_capacity(ROUND);
        for _ in 0..ROUND {
            tokio::time::sleep(GAP).await;
            times.push(router.call().await?.1);
        }
        Ok(times)
    };
    Box::new(move || Box::pin(round()))
}

fn warm<'a>(router: &'a Routed, sandbox: &Sandbox) -> Result<Side<'a>, Failure> {
    let floor = Arc::new(router.floor(sandbox)?);
    let round = move || {
        let floor = Arc::clone(&floor);
        async move { Ok(floor.warm(ROUND_SLOW).await?) }
    };
    Ok(Box::new(move || Box::pin(round())))
}

fn nothing() -> Value {
    Value::Object(Map::new())
}
