//! Whether an agent's people wait longer than was promised, and its calls are therefore to be made by a faster model.
//!
//! What counts is what people see: from the message's arrival to its delivered answer, whatever the time went into. When too
//! many of the newest answers came late, the gateway is asked for the cheaper tier as the faster one, for a while; then
//! the usual one is tried again. Kept in memory: after a start nobody has waited yet.

use chela_gateway::Pressure;
use chela_types::{AgentId, Millis};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Answers that are looked at, the newest.
const NEWEST: usize = 20;
/// With more late ones among them the promise is not kept: more than a tenth.
const LATE_MAX: usize = 2;
/// How long the faster tier answers before the usual one is tried again.
const FASTER_FOR: Duration = Duration::from_mins(5);

/// How all agents keep what was promised.
#[derive(Debug, Default)]
pub(crate) struct Promptness(Mutex<BTreeMap<AgentId, Waits>>);

/// How one does.
#[derive(Debug, Default)]
struct Waits {
    /// Whether each of the newest answers came late.
    late: VecDeque<bool>,
    faster_until: Option<Millis>,
}

impl Promptness {
    /// An answer was delivered after so long; says what the gateway is to be asked for.
    pub(crate) fn answered(
        &self,
        agent: &AgentId,
        (took, within): (Duration, Duration),
        now: Millis,
    ) -> Pressure {
        let mut all = self.0.lock();
        let waits = all.entry(agent.clone()).or_default();
        waits.late.push_back(took > within);
        if waits.late.len() > NEWEST {
            waits.late.pop_front();
        }
        let late = waits.late.iter().filter(|late| **late).count();
        if late > LATE_MAX {
            tracing::warn!(%agent, late, of = waits.late.len(), "answers come late; a faster tier is asked");
            metrics::counter!("agent_late_total", "agent" => agent.to_string()).increment(1);
            waits.late.clear();
            waits.faster_until = Some(now.plus(FASTER_FOR));
        }
        match waits.faster_until {
            Some(until) if now < until => Pressure::Lower,
            _ => {
                waits.faster_until = None;
                Pressure::None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    fn answered(promptness: &Promptness, seconds: u64, at: i64) -> Pressure {
        let agent = AgentId::new("hr").unwrap();
        promptness.answered(&agent, (Duration::from_secs(seconds), WITHIN), Millis(at))
    }

    #[test]
    fn more_than_a_tenth_of_late_answers_obeyed_and_violated() {
        let promptness = Promptness::default();
        for number in 0..200 {
            // Two of twenty.
            let seconds = if number % 10 == 0 { 11 } else { 10 };
            assert_eq!(answered(&promptness, seconds, 0), Pressure::None);
        }
        // The first of these comes in the place of a late one.
        let pressures = [0; 2].map(|at| answered(&promptness, 11, at));
        assert_eq!(pressures, [Pressure::None, Pressure::Lower]);
    }

    #[test]
    fn the_usual_tier_is_tried_again_after_a_while() {
        let promptness = Promptness::default();
        let pressures = [0, 1, 2].map(|at| answered(&promptness, 60, at));
        assert_eq!(pressures, [Pressure::None, Pressure::None, Pressure::Lower]);
        let over = 2 + i64::try_from(FASTER_FOR.as_millis()).unwrap();
        assert_eq!(answered(&promptness, 1, over - 1), Pressure::Lower);
        assert_eq!(answered(&promptness, 1, over), Pressure::None);
        // What was late before counts no more.
        assert_eq!(answered(&promptness, 60, over + 1), Pressure::None);
    }
}
