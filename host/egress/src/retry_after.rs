//! `Retry-After`, in both spellings of RFC 9110: seconds and a date.

use chela_types::Millis;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use std::time::{Duration, UNIX_EPOCH};

/// Longer waits are cut to this: a peer's mistake must not park a turn for a year.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the peer asks to wait; absent if it does not say or says nonsense. A past date is zero.
pub fn retry_after(headers: &HeaderMap, now: Millis) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Millis::default().plus(at).since(now)
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let read = |text: &str, now| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, Millis(now))
        };
        assert_eq!(read("120", 0), Some(Duration::from_secs(120)));
        assert_eq!(read("0", 0), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999999", 0), Some(RETRY_AFTER_MAX));
        let date = "Wed, 21 Oct 2015 07:28:00 GMT"; // the example of RFC 9110's readers: 1445412480 s
        assert_eq!(read(date, 1_445_412_470_000), Some(Duration::from_secs(10)));
        assert_eq!(read(date, 1_445_412_490_000), Some(Duration::ZERO));
        for nonsense in ["-1", "1.5", "soon", ""] {
            assert_eq!(read(nonsense, 0), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Millis(0)), None);
    }
}
