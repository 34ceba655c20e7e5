//! How many kills a test makes, what it tells of them, and how it ends. `CHELA_SWAP_KILLS` (10, for each kind of swap) and
//! `CHELA_SEED` (random, printed) are read from the environment.

use std::io::Write as _;

use super::{Mode, Rig, Stage};

const KILLS: u32 = 10;
/// At most so many times the kills that were asked.
const PATIENCE_IN_KILLS: u32 = 4;

/// A number from the environment.
pub fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Said also when the test passes.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Kills that are asked.
pub fn kills() -> u32 {
    from_environment("CHELA_SWAP_KILLS").unwrap_or(KILLS)
}

/// A host under load.
pub async fn begin(what: &str, mode: Mode) -> Rig {
    let seed = from_environment("CHELA_SEED").unwrap_or_else(rand::random);
    tell(&format!("{what}: {} kills, CHELA_SEED={seed}", kills()));
    Rig::start(mode, seed).await
}

/// Counts the rounds. It goes on until kills were early and late, at most so many times the kills that were asked.
pub fn goes_on(rig: &Rig, round: &mut u32) -> bool {
    *round += 1;
    *round <= kills() || (missed(rig).is_some() && *round <= kills() * PATIENCE_IN_KILLS)
}

/// Whether no kill came before the change was written down, or none after it.
fn missed(rig: &Rig) -> Option<&'static str> {
    let is_hit = |is_late: bool| rig.hits().keys().any(|stage| (*stage >= Stage::Deployed) == is_late);
    if is_hit(false) { (!is_hit(true)).then_some("late") } else { Some("early") }
}

/// Ends the load, tells what was hit, and judges.
pub async fn end(what: &str, rig: Rig) {
    let (hits, missed) = (rig.hits().clone(), missed(&rig));
    let ended = rig.end().await;
    let hit: Vec<String> = Stage::ALL
        .iter()
        .map(|stage| format!("{stage:?} {}", hits.get(stage).copied().unwrap_or_default()))
        .collect();
    tell(&format!("{what}: {}", hit.join(", ")));
    tell(&format!("{what}: {ended}"));
    assert!(ended.wrong.is_empty(), "{what}:\n{}", ended.wrong.join("\n"));
    assert!(ended.acknowledged > 0, "no load to speak of");
    assert_eq!(missed, None, "{what}: no such kill");
}
