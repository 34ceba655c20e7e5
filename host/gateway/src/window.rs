//! Calendar windows: when the current one began, where the operator lives.
//!
//! A window begins at an instant, and that instant is its name in the ledger. So the hour that a clock shows twice
//! when summer ends is two windows where it begins twice, and a day that has 23 or 25 hours is one.

use chela_types::Millis;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, ToSpan, Unit, Zoned, ZonedRound};

use crate::Window;

impl Window {
    /// The start of the window that `now` lies in.
    pub(crate) fn start(self, now: Millis, zone: &TimeZone) -> Millis {
        let start = || -> Result<Millis, jiff::Error> {
            let now = Timestamp::from_millisecond(now.0)?.to_zoned(zone.clone());
            Ok(Millis(self.began(&now)?.timestamp().as_millisecond()))
        };
        // Only a clock beyond the year 9999 ends here: one endless window is then the safe answer.
        start().unwrap_or_default()
    }

    /// When the next window begins.
    pub(crate) fn end(self, now: Millis, zone: &TimeZone) -> Millis {
        let end = || -> Result<Millis, jiff::Error> {
            let now = Timestamp::from_millisecond(now.0)?.to_zoned(zone.clone());
            Ok(Millis(self.ends(&self.began(&now)?)?.timestamp().as_millisecond()))
        };
        end().unwrap_or(Millis(i64::MAX))
    }

    fn ends(self, began: &Zoned) -> Result<Zoned, jiff::Error> {
        let first = began.date();
        let next = match self {
            Self::Minute => return began.checked_add(1.minute()),
            // One is longer or shorter where clocks move by half an hour.
            Self::Hour => {
                let mut next = began.checked_add(30.minutes())?;
                while self.began(&next)? == *began {
                    next = next.checked_add(30.minutes())?;
                }
                return self.began(&next);
            }
            Self::Day => first.checked_add(1.day())?,
            Self::Week => first.checked_add(7.days())?,
            Self::Month => first.first_of_month().checked_add(1.month())?,
        };
        begins(next, began.time_zone())
    }

    fn began(self, now: &Zoned) -> Result<Zoned, jiff::Error> {
        let today = now.date();
        let since_monday = today.weekday().to_monday_zero_offset();
        let first = match self {
            // No zone that is known is off by a part of a minute today.
            Self::Minute => {
                return now.round(ZonedRound::new().smallest(Unit::Minute).mode(RoundMode::Trunc));
            }
            Self::Hour => {
                return now.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc));
            }
            Self::Day => today,
            Self::Week => today.checked_sub(i32::from(since_monday).days())?,
            Self::Month => today.first_of_month(),
        };
        begins(first, now.time_zone())
    }
}

/// The first instant of a day; where its midnight is left out, what comes in its place.
fn begins(day: Date, zone: &TimeZone) -> Result<Zoned, jiff::Error> {
    day.to_zoned(zone.clone())?.start_of_day()
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
