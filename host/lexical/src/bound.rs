//! How much may be wrong, when so much was seen to be wrong: the exact bound of Clopper and Pearson, one-sided.

use std::f64;

/// Halvings of the interval; 2^-60 is less than what a sum of logarithms is off by.
const HALVINGS: u32 = 60;

/// The largest share of wrong ones that `wrong` seen among `of` leaves possible, at `confidence` (0.95: in at most one
/// of twenty such samples is the true share above). 1 if nothing was seen.
///
/// Takes time in proportion to `wrong`.
pub fn wrong_at_most(wrong: u64, of: u64, confidence: f64) -> f64 {
    if wrong >= of {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if at_most(wrong, of, middle) > 1.0 - confidence { low = middle } else { high = middle }
    }
    high
}

/// How likely `wrong` or fewer among `of` are, if each is wrong with probability `share`.
fn at_most(wrong: u64, of: u64, share: f64) -> f64 {
    if share <= 0.0 {
        return 1.0;
    }
    if share >= 1.0 {
        return if wrong >= of { 1.0 } else { 0.0 };
    }
    let odds = share.ln() - (-share).ln_1p();
    let mut term = of as f64 * (-share).ln_1p();
    let mut sum = term.exp();
    for seen in 0..wrong.min(of) {
        term += ((of - seen) as f64).ln() - ((seen + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

/// How likely `wrong` or more among `of` are, if each is wrong with probability `share`.
pub fn at_least(wrong: u64, of: u64, share: f64) -> f64 {
    wrong.checked_sub(1).map_or(1.0, |fewer| (1.0 - at_most(fewer, of, share)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // None wrong: 1 - (1 - confidence)^(1 / of). Others: the beta quantile.
        let table = [
            (0, 1, 0.95, 0.95),
            (0, 10, 0.95, 0.258_866),
            (0, 100, 0.95, 0.029_513),
            (0, 299, 0.95, 0.009_969),
            (1, 10, 0.95, 0.394_163),
            (5, 10, 0.95, 0.777_559),
            (5, 10, 0.975, 0.812_914),
            (9, 10, 0.95, 0.994_884),
            (2, 200, 0.95, 0.031_148),
            (0, 0, 0.95, 1.0),
            (3, 3, 0.95, 1.0),
        ];
        for (wrong, of, confidence, expected) in table {
            let found = wrong_at_most(wrong, of, confidence);
            assert!((found - expected).abs() < 2e-5, "{wrong} of {of} at {confidence}: {found}");
        }
    }

    #[test]
    fn tails_are_those_of_the_distribution() {
        assert!((at_most(1, 3, 0.5) - 0.5).abs() < 1e-12);
        assert!((at_least(2, 3, 0.5) - 0.5).abs() < 1e-12);
        assert!((at_least(0, 3, 0.5) - 1.0).abs() < 1e-12);
        assert!((at_most(0, 4, 0.25) - 0.316_406_25).abs() < 1e-12);
        assert!((at_most(4, 4, 0.25) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn more_evidence_is_a_lower_bound_and_more_wrong_a_higher() {
        assert!(wrong_at_most(0, 1_000, 0.95) < wrong_at_most(0, 100, 0.95));
        assert!(wrong_at_most(1, 100, 0.95) > wrong_at_most(0, 100, 0.95));
        assert!(wrong_at_most(100, 1_000_000, 0.95) < 0.000_2);
    }
}
