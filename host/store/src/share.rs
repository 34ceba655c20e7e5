//! Who is claimed next. Conversations wait in lanes, one for each department, and a lane that has fewer turns running for
//! its weight comes first: whoever floods his lane waits behind his own messages, and nobody else does.

use std::collections::{BTreeMap, VecDeque};

/// What runs already, and how much each lane is to have.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// Turns that run, by lane.
    pub running: BTreeMap<String, usize>,
    /// Weights of lanes, from 1; 1 for those that are not named.
    pub weights: BTreeMap<String, u32>,
    /// Most turns of one lane: the rest is kept free for the others. Absent: no bound.
    pub lane_max: Option<usize>,
}

impl Shares {
    fn weight(&self, lane: &str) -> u64 {
        u64::from(self.weights.get(lane).copied().unwrap_or(1).max(1))
    }

    /// Chooses among the conversations of each lane, longest due first, at most `limit`; and says whether something
    /// was left that had to wait for its own lane.
    pub(crate) fn choose(&self, lanes: Vec<(String, Vec<i64>)>, limit: usize) -> (Vec<i64>, bool) {
        let mut lanes: Vec<Lane> = lanes
            .into_iter()
            .map(|(name, due)| Lane {
                running: self.running.get(&name).copied().unwrap_or_default() as u64,
                weight: self.weight(&name),
                due: due.into(),
            })
            .collect();
        let lane_max = self.lane_max.map_or(u64::MAX, |most| most as u64);
        let mut chosen = Vec::new();
        while chosen.len() < limit {
            let may = |lane: &&mut Lane| !lane.due.is_empty() && lane.running < lane_max;
            // The share that it would have with one more: a / b before c / d.
            let order = |a: &&mut Lane, b: &&mut Lane| {
                ((a.running + 1) * b.weight).cmp(&((b.running + 1) * a.weight))
            };
            let Some(lane) = lanes.iter_mut().filter(may).min_by(order) else { break };
            lane.running += 1;
            chosen.extend(lane.due.pop_front());
        }
        let held_back = lanes.iter().any(|lane| !lane.due.is_empty() && lane.running >= lane_max);
        (chosen, held_back)
    }
}

struct Lane {
    running: u64,
    weight: u64,
    due: VecDeque<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(due: &[(&str, std::ops::Range<i64>)]) -> Vec<(String, Vec<i64>)> {
        due.iter().map(|(name, ids)| ((*name).to_owned(), ids.clone().collect())).collect()
    }

    fn shares(running: &[(&str, usize)], weights: &[(&str, u32)], lane_max: Option<usize>) -> Shares {
        Shares {
            running: running.iter().map(|(name, turns)| ((*name).to_owned(), *turns)).collect(),
            weights: weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
            lane_max,
        }
    }

    #[test]
    fn a_flood_waits_behind_itself() {
        let due = lanes(&[("flood", 0..1_000), ("quiet", 2_000..2_002)]);
        let (chosen, held_back) = Shares::default().choose(due.clone(), 4);
        assert_eq!((chosen, held_back), (vec![0, 2_000, 1, 2_001], false));
        // Whoever has much running is behind whoever has little.
        let (chosen, _) = shares(&[("flood", 50)], &[], None).choose(due.clone(), 3);
        assert_eq!(chosen, [2_000, 2_001, 0]);
        assert_eq!(
            Shares::default().choose(lanes(&[("flood", 0..1_000)]), 64).0.len(),
            64,
            "nobody else is there"
        );
    }

    #[test]
    fn a_lane_has_as_much_as_its_weight() {
        let due = lanes(&[("a", 0..100), ("b", 100..200)]);
        let (chosen, _) = shares(&[], &[("a", 3)], None).choose(due, 40);
        assert_eq!(chosen.iter().filter(|id| **id < 100).count(), 30);
    }

    #[test]
    fn some_places_stay_free_for_the_others() {
        let due = lanes(&[("flood", 0..100)]);
        let (chosen, held_back) = shares(&[("flood", 5)], &[], Some(7)).choose(due.clone(), 64);
        assert_eq!((chosen, held_back), (vec![0, 1], true));
        assert_eq!(shares(&[("flood", 7)], &[], Some(7)).choose(due, 64), (Vec::new(), true));
    }
}
