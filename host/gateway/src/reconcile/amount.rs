//! Amounts of a bill: decimals of any length, summed without a float.

use chela_types::Money;

/// Digits after the point that are kept. What is behind them is cut off: a million rows lose less than 10⁻¹² dollars.
const DECIMALS: i32 = 18;
/// Longest text of an amount.
const TEXT_BYTES_MAX: usize = 64;

/// An amount in 10⁻¹⁸ dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount(i128);

impl Amount {
    /// From `0.003835980000000000000000000000`, `12` or `1.5E-7`; not negative.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) {
            return None;
        }
        let all = [whole, part].concat();
        let significant = all.trim_start_matches('0');
        // The place of the last digit, counted from the last one that is kept.
        let place = exponent.checked_sub(i32::try_from(part.len()).ok()?)?.checked_add(DECIMALS)?;
        let kept = match usize::try_from(place.checked_neg()?) {
            Ok(cut) => significant.get(..significant.len().saturating_sub(cut))?,
            Err(_) => significant,
        };
        if kept.is_empty() {
            return Some(Self(0));
        }
        let zeros = 10i128.checked_pow(u32::try_from(place.max(0)).ok()?)?;
        kept.parse::<i128>().ok()?.checked_mul(zeros).map(Self)
    }

    /// The sum; nothing if it is more than can be counted.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// To the nearest nano-dollar.
    pub(super) fn money(self) -> Option<Money> {
        const NANO: i128 = 10i128.pow(DECIMALS.unsigned_abs() - 9);
        let nanos = self.0.checked_add(NANO / 2)?.div_euclid(NANO);
        i64::try_from(nanos).ok().map(Money::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("12", 12_000_000_000),
            ("0.003835980000000000000000000000", 3_835_980),
            ("0.8958740000000000", 895_874_000),
            ("0.00000000149", 1),
            ("0.0000000015", 2),
            ("1.5E-7", 150),
            ("15e2", 1_500_000_000_000),
            ("0E-6176", 0),
            ("0e999", 0),
            ("1E-400", 0),
        ] {
            let amount = Amount::parse(text).and_then(Amount::money);
            assert_eq!(amount, Some(Money::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        let long = "0".repeat(65);
        let bad = [
            "",
            "-1",
            "+1",
            ".5",
            "1,5",
            "NaN",
            "inf",
            "1e",
            "1e+",
            "1e99",
            "1e99999999999",
            "0x1",
            "1 ",
            &long,
        ];
        for text in bad {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
        assert_eq!(Amount::parse("99999999999").and_then(Amount::money), None, "more money than there is");
    }

    #[test]
    fn parts_of_nano_dollars_are_not_lost_in_a_sum() {
        let part = Amount::parse("0.0000000004").unwrap();
        let sum = [part; 5].into_iter().try_fold(Amount::default(), Amount::plus).unwrap();
        assert_eq!(sum.money(), Some(Money::from_nanos(2)));
    }
}
