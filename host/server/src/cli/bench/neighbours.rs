//! `chela bench neighbours`: what a department that floods its channel, or whose agents compute without end, costs another
//! one's people.
//!
//! The same few messages of a calm department are measured alone and then beside the other one, each time in a host of its
//! own: what a flood leaves behind is worked off for long. The people of each write and are answered on a thread of their
//! own; the machine's cores are shared. The busy one's has them when nobody else wants them: its people would be elsewhere.

use std::path::Path;
use std::time::Duration;

use super::super::Failure;
use super::rig::{QUESTION, Rig};
use super::{Bar, Machine, Report, Times};

/// Messages a second of the calm department.
const CALM: f64 = 50.0;
/// How often each neighbour is measured.
const ROUNDS: u32 = 3;
/// The neighbour is there before it is measured what he does, and after.
const MARGIN: Duration = Duration::from_millis(500);
/// Until a flood has used up what its limits let pass at once.
const USED_UP: Duration = Duration::from_secs(4);
/// p95 beside a neighbour against p95 alone.
const RATIO_MAX: f64 = 1.2;

/// A department, and its way to be a nuisance.
struct Neighbour {
    name: &'static str,
    channel: &'static str,
    words: &'static str,
    how: How,
    /// How long he is there before it is measured.
    lead: Duration,
    bar: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// So many messages a second, whatever comes back.
    Deaf(f64),
    /// In all conversations at once, each as fast as it is answered.
    Answered,
}

const NEIGHBOURS: [Neighbour; 5] = [
    // Under the limits that stand where nobody wrote others.
    Neighbour {
        name: "a flood",
        channel: "flooded",
        words: QUESTION,
        how: How::Deaf(10.0 * CALM),
        lead: USED_UP,
        bar: Some(RATIO_MAX),
    },
    // While they let everything pass.
    Neighbour {
        name: "a flood's first seconds",
        channel: "flooded",
        words: QUESTION,
        how: How::Deaf(10.0 * CALM),
        lead: MARGIN,
        bar: Some(RATIO_MAX),
    },
    Neighbour {
        name: "agents that compute",
        channel: "computing",
        words: "work 200",
        how: How::Answered,
        lead: MARGIN,
        bar: Some(RATIO_MAX),
    },
    Neighbour {
        name: "the same in a worker",
        channel: "computing-away",
        words: "work 200",
        how: How::Answered,
        lead: MARGIN,
        bar: Some(RATIO_MAX),
    },
    // The whole machine's worth of messages: nobody set a limit.
    Neighbour {
        name: "a flood without limits",
        channel: "partner",
        words: QUESTION,
        how: How::Answered,
        lead: MARGIN,
        bar: None,
    },
];

/// What was measured of one neighbour.
#[derive(Default)]
struct Beside {
    alone: Times,
    beside: Times,
    /// His messages that were taken, in which time.
    messages: usize,
    took: Duration,
}

pub(super) async fn run(time: Duration) -> Result<Report, Failure> {
    let floor = tempfile::tempdir()?;
    let machine = Machine::look(Some(floor.path()))?;
    let mut measured = NEIGHBOURS.map(|_| Beside::default());
    for _ in 0..ROUNDS {
        for (neighbour, beside) in NEIGHBOURS.iter().zip(&mut measured) {
            round(neighbour, time / ROUNDS, beside).await?;
        }
    }
    let bars = NEIGHBOURS.iter().zip(&measured).flat_map(|(neighbour, beside)| bars(neighbour, beside));
    Ok(Report { machine, bars: bars.collect() })
}

async fn round(neighbour: &Neighbour, time: Duration, measured: &mut Beside) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    lay_out(&folder.path().join("computing"))?;
    let bench = Rig::start(folder.path(), include_str!("neighbours.toml")).await?;
    let calm = async |what: &str, time| bench.measure_at(("calm", QUESTION), what, time, Some(CALM)).await;
    calm("warming up", Duration::from_secs(1)).await?;
    measured.alone.0.extend(calm("alone", time).await?.0.0);
    let Neighbour { name, channel, words, how, lead, .. } = *neighbour;
    let beside = async {
        tokio::time::sleep(lead).await;
        calm(&format!("beside {name}"), time).await
    };
    let busy = async {
        let time = lead + time + MARGIN;
        match how {
            How::Deaf(pace) => bench.flood((channel, words), time, pace).await,
            How::Answered => {
                let (answered, took) = bench.measure_at((channel, words), name, time, None).await?;
                Ok((answered.0.len(), took))
            }
        }
    };
    let (beside, (messages, took)) = tokio::try_join!(beside, busy)?;
    measured.beside.0.extend(beside.0.0);
    measured.messages += messages;
    measured.took += took;
    bench.stop().await
}

fn bars(neighbour: &Neighbour, measured: &Beside) -> Vec<Bar> {
    let Neighbour { name, bar, .. } = neighbour;
    let Beside { alone, beside, messages, took } = measured;
    let ms = |times: &Times, share| times.quantile(share).as_secs_f64() * 1e3;
    let ratio =
        Bar::told(&format!("beside {name}, p95 against alone"), ms(beside, 0.95) / ms(alone, 0.95), "×");
    vec![
        match bar {
            Some(bar) => ratio.at_most(*bar),
            None => ratio,
        },
        Bar::told(&format!("beside {name}, p50 alone"), ms(alone, 0.5), "ms"),
        Bar::told(&format!("beside {name}, p50"), ms(beside, 0.5), "ms"),
        Bar::told(&format!("beside {name}, p95 alone"), ms(alone, 0.95), "ms"),
        Bar::told(&format!("beside {name}, p95"), ms(beside, 0.95), "ms"),
        Bar::told(
            &format!("messages of {name} that were taken"),
            *messages as f64 / took.as_secs_f64(),
            "/s",
        ),
    ]
}

/// The agent that computes, as an author ships it.
fn lay_out(folder: &Path) -> Result<(), Failure> {
    let guest = chela_drill::built("agent");
    let guest = guest.ok_or_else(|| Failure::new("this program does not carry the agent that computes"))?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("plugin.toml"), guest.manifest)?;
    std::fs::write(folder.join("agent.wasm"), guest.component)?;
    Ok(())
}
