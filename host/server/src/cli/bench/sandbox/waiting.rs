//! Many guests that wait in a host call at once: what each holds of this machine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chela_sandbox::{Level, Pool};
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::super::super::Failure;
use super::super::resident_bytes;
use super::{Bar, made, progress, router};
use crate::compose::Surroundings;

/// Longer than all of them take to come to their waiting.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// All have their places; soon after, all wait.
const SETTLED: Duration = Duration::from_secs(1);

/// As many as are asked for, or as this machine has memory mappings for.
pub(super) async fn run(surroundings: &Surroundings, folder: &Path, asked: u32) -> Result<Vec<Bar>, Failure> {
    let pool = Pool { instances: asked, ..Pool::STANDARD }.fitted();
    let instances = pool.instances;
    let sandbox = made(chela_sandbox::Config { pool, ..surroundings.sandbox(folder.join("plugins")) })?;
    let source = chela_drill::router("sleep", true);
    let source = source.ok_or_else(|| Failure::new("this program does not carry the guest that sleeps"))?;
    let nothing = Value::Object(Map::new());
    let sleeper = Arc::new(router(&sandbox, ("sleep", source), nothing, Level::InProcess).await?);
    let (resident, mapped) = (resident_bytes()?, mappings()?);
    let bar = progress("guests that wait", u64::from(instances));
    let mut sleeping = JoinSet::new();
    for _ in 0..instances {
        let sleeper = Arc::clone(&sleeper);
        sleeping.spawn(async move { sleeper.call().await });
    }
    let began = Instant::now();
    while sandbox.free_instances() > 0 {
        bar.set_position(u64::from(instances).saturating_sub(u64::try_from(sandbox.free_instances())?));
        if let Some(ended) = sleeping.try_join_next() {
            ended??; // none ends by itself
        }
        if began.elapsed() > DEADLINE {
            return Err(Failure::new("the guests do not come to their waiting"));
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(SETTLED).await;
    bar.finish_and_clear();
    let waiting = f64::from(instances);
    let (resident, mapped) = (resident_bytes()?.saturating_sub(resident), mappings()?.saturating_sub(mapped));
    sleeping.shutdown().await;
    Ok(vec![
        Bar::told("guest calls that wait at once", waiting, ""),
        Bar::told("resident memory of each", resident as f64 / waiting / 1_024.0, "KiB"),
        Bar::told("memory mappings of all", mapped as f64, ""),
    ])
}

fn mappings() -> Result<usize, Failure> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count())
}
