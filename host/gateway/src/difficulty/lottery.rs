//! How far a number may be off: drawn again from what was seen, in an order that is the same each time.

use serde::Serialize;

/// Draws for an interval.
const DRAWS: usize = 1_000;

/// A number that was measured, and where it is with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// As measured.
    pub value: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// SplitMix64: small, and the same everywhere.
pub(super) struct Lottery(u64);

impl Lottery {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many.
    pub(super) fn one_of(&mut self, count: usize) -> usize {
        let wide = u128::from(self.draw()) * count as u128;
        usize::try_from(wide >> 64).unwrap_or_default()
    }

    /// From 0 to below 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The intervals of several numbers that are measured on the same rows. `measure` gets how often each row was drawn.
pub(super) fn intervals<const N: usize>(
    (count, seed): (usize, u64),
    measure: impl Fn(&[u32]) -> [f64; N],
) -> [Interval; N] {
    let measured = measure(&vec![1; count]);
    let mut lottery = Lottery::new(seed);
    let mut drawn: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let mut times = vec![0; count];
        for _ in 0..count {
            if let Some(times) = times.get_mut(lottery.one_of(count)) {
                *times += 1;
            }
        }
        for (all, one) in drawn.iter_mut().zip(measure(&times)) {
            all.push(one);
        }
    }
    let mut drawn = drawn.into_iter();
    measured.map(|value| {
        let mut all = drawn.next().unwrap_or_default();
        all.sort_by(f64::total_cmp);
        let at = |nth: usize| all.get(nth).copied().unwrap_or(value);
        Interval { value, low: at(DRAWS / 40), high: at(DRAWS - 1 - DRAWS / 40) }
    })
}

/// How often one that is good is above one that is not, ties by half; one half if there is nothing to compare. `order` has
/// rows by ascending score, and rows of one score side by side.
pub(super) struct Ranking {
    /// Rows, each with whether it is good and whether its score is that of the row before.
    order: Vec<(usize, bool, bool)>,
}

impl Ranking {
    pub(super) fn new(scores: &[f64], good: &[bool]) -> Self {
        let mut rows: Vec<(usize, f64, bool)> =
            scores.iter().zip(good).enumerate().map(|(row, (score, good))| (row, *score, *good)).collect();
        rows.sort_by(|one, other| one.1.total_cmp(&other.1));
        let mut before = None;
        let order = rows.into_iter().map(|(row, score, good)| {
            let is_tied = before.replace(score) == Some(score);
            (row, good, is_tied)
        });
        Self { order: order.collect() }
    }

    /// The area under the curve, each row counted so often.
    pub(super) fn area(&self, times: &[u32]) -> f64 {
        let (mut below, mut level, mut won) = (0.0, (0.0, 0.0), 0.0);
        let mut good_all = 0.0;
        for (row, good, is_tied) in &self.order {
            if !is_tied {
                won += level.1 * (below + level.0 / 2.0);
                below += level.0;
                level = (0.0, 0.0);
            }
            let weight = f64::from(times.get(*row).copied().unwrap_or_default());
            if *good {
                level.1 += weight;
                good_all += weight;
            } else {
                level.0 += weight;
            }
        }
        won += level.1 * (below + level.0 / 2.0);
        below += level.0;
        if good_all * below > 0.0 { won / (good_all * below) } else { 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_how_often_the_good_is_above() {
        for (scores, good, area) in [
            (vec![0.1, 0.2, 0.3], vec![false, true, true], 1.0),
            (vec![0.3, 0.2, 0.1], vec![false, true, true], 0.0),
            (vec![0.5, 0.5], vec![false, true], 0.5),
            (vec![0.1, 0.2, 0.3, 0.4], vec![false, true, false, true], 0.75),
            (vec![0.1, 0.2], vec![true, true], 0.5),
            (vec![], vec![], 0.5),
        ] {
            let times = vec![1; scores.len()];
            assert!((Ranking::new(&scores, &good).area(&times) - area).abs() < 1e-12, "{scores:?}");
        }
        let twice = Ranking::new(&[0.1, 0.2, 0.3], &[true, false, true]).area(&[0, 1, 2]);
        assert!((twice - 1.0).abs() < 1e-12, "a row that was not drawn is not there");
    }

    #[test]
    fn an_interval_holds_the_mean_and_is_narrower_with_more() {
        let mean = |count: usize| {
            let [found] = intervals((count, 1), |times| {
                let sum: u32 = times.iter().enumerate().map(|(row, n)| n * u32::from(row % 2 == 0)).sum();
                [f64::from(sum) / count as f64]
            });
            found
        };
        let (few, many) = (mean(50), mean(2_000));
        assert!(few.low < 0.5 && few.high > 0.5 && many.low < 0.5 && many.high > 0.5, "{few:?} {many:?}");
        assert!(many.high - many.low < (few.high - few.low) / 3.0);
        assert_eq!(few, mean(50), "the same each time");
    }

    #[test]
    fn draws_are_within_bounds_and_even() {
        let mut lottery = Lottery::new(7);
        let mut seen = [0; 5];
        for _ in 0..5_000 {
            seen[lottery.one_of(5)] += 1;
            assert!((0.0..1.0).contains(&lottery.share()));
        }
        assert!(seen.iter().all(|times| (900..1_100).contains(times)), "{seen:?}");
        assert_eq!(lottery.one_of(0), 0);
    }
}
