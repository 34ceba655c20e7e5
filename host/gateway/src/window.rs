//! Calendar windows: when the current one began.

use chela_types::Millis;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::Window;

impl Window {
    /// The start of the window that `now` lies in, in UTC.
    pub(crate) fn start(self, now: Millis) -> Millis {
        let start = || -> Result<Millis, jiff::Error> {
            let day = Timestamp::from_millisecond(now.0)?.to_zoned(TimeZone::UTC).start_of_day()?;
            let first = match self {
                Self::Day => day,
                Self::Month => day.first_of_month()?,
            };
            Ok(Millis(first.timestamp().as_millisecond()))
        };
        // Only a clock beyond the year 9999 ends here: one endless window is then the safe answer.
        start().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_midnight_and_on_the_first() {
        let at = |text: &str| Millis(text.parse::<Timestamp>().unwrap().as_millisecond());
        let now = at("2028-02-29T23:59:59.999Z");
        assert_eq!(Window::Day.start(now), at("2028-02-29T00:00:00Z"));
        assert_eq!(Window::Month.start(now), at("2028-02-01T00:00:00Z"));
        assert_eq!(Window::Day.start(at("2028-03-01T00:00:00Z")), at("2028-03-01T00:00:00Z"));
    }
}
