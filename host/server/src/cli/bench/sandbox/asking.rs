//! An agent that asks the host twenty times, in this process and in a worker. Everything is there that such a question
//! passes in a host: grants, journal, store.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chela_engine::probe::{Asking, Probe, Probed};
use chela_sandbox::{Grant, Level, Limits, PluginKind, Settings, Source};
use chela_types::{AgentId, PluginId};
use serde_json::{Map, Value};

use super::super::super::Failure;
use super::{Bar, Side, in_turns, us};
use crate::compose::{Surroundings, drilled};

/// Calls of one side in a row.
const ROUND: usize = 20;
/// Questions of a call.
const ASKED: u32 = 20;

pub(super) async fn run(
    surroundings: &Surroundings,
    folder: &Path,
    time: Duration,
) -> Result<Vec<Bar>, Failure> {
    let probe = drilled(None, surroundings, folder).probe().await?;
    let (here, away) = (agent(&probe, Level::InProcess).await?, agent(&probe, Level::Worker).await?);
    let turns = AtomicU64::new(0);
    let asks = |agent, asked| asks(&probe, agent, &turns, asked);
    let sides = [asks(&here, 0), asks(&here, ASKED), asks(&away, 0), asks(&away, ASKED)];
    let [silent, asking, silent_away, asking_away] = in_turns("an agent that asks", time, sides).await?;
    let each = |asking, silent| (us(asking, 0.5) - us(silent, 0.5)) / f64::from(ASKED);
    Ok(vec![
        Bar::told("an agent that asks for nothing, p50", us(&silent, 0.5), "µs"),
        Bar::told("an agent with 20 host calls, p50", us(&asking, 0.5), "µs"),
        Bar::told("of it, each host call", each(&asking, &silent), "µs"),
        Bar::told("an agent with 20 host calls in a worker, p50", us(&asking_away, 0.5), "µs"),
        Bar::told("of it, each host call", each(&asking_away, &silent_away), "µs"),
    ])
}

/// The guest that does what it is told.
async fn agent(probe: &Probe, level: Level) -> Result<Probed, Failure> {
    let guest = chela_drill::built("agent");
    let guest =
        guest.ok_or_else(|| Failure::new("this program does not carry the agent that is measured"))?;
    let source = Source::Embedded {
        manifest: guest.manifest.to_owned(),
        component: Bytes::from_static(guest.component),
    };
    let settings = Settings {
        id: PluginId::new("drill")?,
        config: Value::Object(Map::new()),
        grants: [Grant::Models, Grant::Memory].into_iter().collect(),
        limits: Limits::STANDARD,
        level,
    };
    Ok(probe.load(PluginKind::Agent, source, settings).await?)
}

/// So many calls in a row, each a turn of its own, with so many questions.
fn asks<'a>(probe: &'a Probe, agent: &'a Probed, turns: &'a AtomicU64, asked: u32) -> Side<'a> {
    let round = move || async move {
        let mut times = Vec::with_capacity(ROUND);
        for _ in 0..ROUND {
            let asking = Asking {
                agent: AgentId::new(chela_drill::AGENT)?,
                sender: "bench".to_owned(),
                conversation: turns.fetch_add(1, Ordering::Relaxed).to_string(),
                text: format!("recall {asked}"),
            };
            times.push(probe.time(agent, asking).await?.1);
        }
        Ok(times)
    };
    Box::new(move || Box::pin(round()))
}
