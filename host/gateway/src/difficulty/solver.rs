//! Logistic regression with a penalty on large weights, on sparse rows.
//!
//! The sum is convex and smooth, so accelerated gradient descent finds its one minimum, the same on every run; momentum
//! is dropped where it leads uphill.

use super::Features;
use super::features::COUNT;

/// More steps change no weight that an eighth of a bit would tell.
const STEPS_MAX: usize = 400;
/// Ends where no slope is above this.
const SLOPE_MIN: f64 = 1e-5;

/// A linear score; its sigmoid is a probability.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) weights: Vec<f64>,
    pub(super) bias: f64,
}

/// The weights under which `rows` are as likely as can be, their labels being from 0 to 1. The penalty is that of one row.
pub(super) fn solve(rows: &[(&Features, f64)]) -> Line {
    let count = rows.len().max(1) as f64;
    let penalty = 1.0 / count;
    let longest = rows.iter().map(|(row, _)| 1.0 + squared(row)).fold(1.0, f64::max);
    let step = 1.0 / (0.25 * longest + penalty);
    // The last is the bias, which is not penalised.
    let mut at = vec![0.0; COUNT + 1];
    let mut ahead = at.clone();
    let mut slope = vec![0.0; COUNT + 1];
    let mut momentum = 1.0_f64;
    for _ in 0..STEPS_MAX {
        climb(rows, &ahead, penalty, &mut slope);
        if slope.iter().all(|slope| slope.abs() < SLOPE_MIN) {
            break;
        }
        let next: Vec<f64> = ahead.iter().zip(&slope).map(|(from, slope)| from - step * slope).collect();
        let uphill: f64 =
            slope.iter().zip(next.iter().zip(&at)).map(|(slope, (to, from))| slope * (to - from)).sum();
        let grown = if uphill > 0.0 { 1.0 } else { (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0 };
        let carried = if uphill > 0.0 { 0.0 } else { (momentum - 1.0) / grown };
        ahead = next.iter().zip(&at).map(|(to, from)| to + carried * (to - from)).collect();
        (at, momentum) = (next, grown);
    }
    let bias = at.pop().unwrap_or_default();
    Line { weights: at, bias }
}

/// The slope of the penalised loss at a place.
fn climb(rows: &[(&Features, f64)], at: &[f64], penalty: f64, slope: &mut [f64]) {
    let (Some((bias, weights)), Some((over, slopes))) = (at.split_last(), slope.split_last_mut()) else {
        return;
    };
    let count = rows.len().max(1) as f64;
    slopes.iter_mut().zip(weights).for_each(|(slope, weight)| *slope = penalty * weight);
    *over = 0.0;
    for (row, label) in rows {
        let off = (sigmoid(bias + product(row, |number| weights.get(number).copied())) - label) / count;
        *over += off;
        for (number, value) in &row.entries {
            if let Some(slope) = slopes.get_mut(usize::from(*number)) {
                *slope += off * f64::from(*value);
            }
        }
    }
}

/// The sum of a row's values, each by its weight.
pub(super) fn product(row: &Features, weight: impl Fn(usize) -> Option<f64>) -> f64 {
    let part =
        |(number, value): &(u16, f32)| f64::from(*value) * weight(usize::from(*number)).unwrap_or_default();
    row.entries.iter().map(part).sum()
}

pub(super) fn sigmoid(at: f64) -> f64 {
    1.0 / (1.0 + (-at).exp())
}

fn squared(row: &Features) -> f64 {
    row.entries.iter().map(|(_, value)| f64::from(*value).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(entries: &[(u16, f32)]) -> Features {
        Features { entries: entries.to_vec(), length: 0 }
    }

    #[test]
    fn the_minimum_is_where_no_slope_is_left() {
        let rows: Vec<Features> = (0..40).map(|n| row(&[(0, (n % 7) as f32 / 7.0), (5, 1.0)])).collect();
        let labelled: Vec<(&Features, f64)> =
            rows.iter().enumerate().map(|(n, row)| (row, f64::from(n % 7 > 3 || n == 0))).collect();
        let line = solve(&labelled);
        let at: Vec<f64> = line.weights.iter().copied().chain([line.bias]).collect();
        let mut slope = vec![0.0; COUNT + 1];
        climb(&labelled, &at, 1.0 / 40.0, &mut slope);
        assert!(slope.iter().all(|slope| slope.abs() < 1e-3), "{slope:?}");
        assert!(line.weights[0] > 1.0, "{}", line.weights[0]);
        assert_eq!(solve(&labelled), line, "the same each time");
    }

    #[test]
    fn without_features_the_share_of_good_ones_is_learned() {
        let rows = [row(&[]), row(&[]), row(&[]), row(&[])];
        let labelled: Vec<(&Features, f64)> = rows.iter().zip([1.0, 1.0, 0.5, 0.5]).collect();
        assert!((sigmoid(solve(&labelled).bias) - 0.75).abs() < 1e-3);
        assert_eq!(solve(&[]).bias, 0.0);
    }
}
