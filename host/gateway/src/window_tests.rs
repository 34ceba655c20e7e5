//! Windows of a whole year, in places where clocks are changed in unlike ways.

use super::*;
use proptest::prelude::*;

const ALL: [Window; 4] = [Window::Hour, Window::Day, Window::Week, Window::Month];
const MINUTE: Window = Window::Minute;

/// Clocks change at night; by half an hour; at midnight itself, which is then left out or comes twice; never, by
/// quarters of an hour apart; and a day was left out.
const PLACES: [(&str, i16); 8] = [
    ("Europe/Berlin", 2026),
    ("America/New_York", 2026),
    ("Australia/Lord_Howe", 2026),
    ("America/Sao_Paulo", 2018),
    ("America/Havana", 2026),
    ("Asia/Kathmandu", 2026),
    ("Pacific/Apia", 2011),
    ("UTC", 2028),
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Millis {
    Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn civil(at: Millis, zone: &TimeZone) -> jiff::civil::DateTime {
    Timestamp::from_millisecond(at.0).unwrap().to_zoned(zone.clone()).datetime()
}

/// From the last day of the year before to the second of the year after.
fn year(zone: &TimeZone, year: i16) -> std::ops::Range<i64> {
    let midnight = |year| Date::constant(year, 1, 1).to_zoned(zone.clone()).unwrap().timestamp();
    let day = 24 * 3_600_000;
    midnight(year).as_millisecond() - day..midnight(year + 1).as_millisecond() + day
}

#[test]
fn each_begins_where_people_say_it_does() {
    let berlin = zone("Europe/Berlin");
    let starts = |now: &str| ALL.map(|window| window.start(at(now), &berlin));
    let wanted = |all: [&str; 4]| all.map(at);
    // A Sunday in summer; and the first moment of a year, which is a Thursday.
    assert_eq!(
        starts("2026-07-12T21:59:59.999Z"),
        wanted([
            "2026-07-12T21:00:00Z",
            "2026-07-11T22:00:00Z",
            "2026-07-05T22:00:00Z",
            "2026-06-30T22:00:00Z"
        ])
    );
    assert_eq!(
        starts("2025-12-31T23:00:00Z"),
        wanted([
            "2025-12-31T23:00:00Z",
            "2025-12-31T23:00:00Z",
            "2025-12-28T23:00:00Z",
            "2025-12-31T23:00:00Z"
        ])
    );
    let utc = TimeZone::UTC;
    let leap = at("2028-02-29T23:59:59.999Z");
    assert_eq!(Window::Day.start(leap, &utc), at("2028-02-29T00:00:00Z"));
    assert_eq!(Window::Month.start(leap, &utc), at("2028-02-01T00:00:00Z"));
}

/// Three o'clock comes at once after two in spring; in autumn two o'clock comes twice.
#[test]
fn the_hours_that_are_left_out_or_come_twice() {
    let berlin = zone("Europe/Berlin");
    let hour = |now: &str| Window::Hour.start(at(now), &berlin);
    assert_eq!(hour("2026-03-29T00:59:00Z"), at("2026-03-29T00:00:00Z"));
    assert_eq!(hour("2026-03-29T01:30:00Z"), at("2026-03-29T01:00:00Z"));
    assert_eq!(hour("2026-10-25T00:30:00Z"), at("2026-10-25T00:00:00Z"), "half past two, the first time");
    assert_eq!(hour("2026-10-25T01:30:00Z"), at("2026-10-25T01:00:00Z"), "and the second");
    let hours = |from: &str, to: &str| {
        let day = |now: &str| Window::Day.start(at(now), &berlin);
        (day(to).0 - day(from).0) / 3_600_000
    };
    assert_eq!(hours("2026-03-29T10:00:00Z", "2026-03-30T10:00:00Z"), 23);
    assert_eq!(hours("2026-10-25T10:00:00Z", "2026-10-26T10:00:00Z"), 25);
}

#[test]
fn a_minute_is_a_minute_wherever_it_is() {
    for name in ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"] {
        let zone = zone(name);
        let now = at("2026-10-25T00:59:59.999Z");
        assert_eq!(MINUTE.start(now, &zone), at("2026-10-25T00:59:00Z"), "{name}");
        assert_eq!(MINUTE.end(now, &zone), at("2026-10-25T01:00:00Z"), "{name}");
    }
}

/// In São Paulo the fourth of November 2018 began at one o'clock; Samoa had no 30 December 2011.
#[test]
fn days_without_a_midnight_and_months_with_a_day_less() {
    let sao_paulo = zone("America/Sao_Paulo");
    let began = Window::Day.start(at("2018-11-04T15:00:00Z"), &sao_paulo);
    assert_eq!(civil(began, &sao_paulo).to_string(), "2018-11-04T01:00:00");
    let month = Window::Month.start(at("2018-11-04T15:00:00Z"), &sao_paulo);
    assert_eq!(civil(month, &sao_paulo).to_string(), "2018-11-01T00:00:00");
    let apia = zone("Pacific/Apia");
    let week = Window::Week.start(at("2011-12-30T12:00:00Z"), &apia);
    assert_eq!(civil(week, &apia).to_string(), "2011-12-26T00:00:00");
}

/// Windows follow each other without a gap, and none is counted under two names: that would be money twice.
#[test]
fn a_year_is_made_of_whole_windows_that_follow_each_other() {
    for (name, of) in PLACES {
        let zone = zone(name);
        for window in ALL {
            let mut last = window.start(Millis(year(&zone, of).start), &zone);
            for now in year(&zone, of).step_by(15 * 60_000) {
                let start = window.start(Millis(now), &zone);
                assert!(start.0 <= now && start >= last, "{name} {window:?} at {now}");
                if start != last {
                    assert_eq!(start.0, now, "{name} {window:?} begins on a quarter of an hour");
                }
                last = start;
            }
        }
    }
}

proptest! {
    #[test]
    fn every_instant_is_in_one_window(place in 0..PLACES.len(), part in 0.0..1.0_f64, later in 0..40_i64 * 86_400_000) {
        let (name, of) = PLACES[place];
        let zone = zone(name);
        let all = year(&zone, of);
        let now = all.start + ((all.end - all.start) as f64 * part) as i64;
        for window in ALL {
            let start = window.start(Millis(now), &zone);
            prop_assert!(start.0 <= now);
            prop_assert_eq!(window.start(start, &zone), start, "a window's start is in it");
            prop_assert!(window.start(Millis(start.0 - 1), &zone) < start, "and nothing before is");
            let end = window.end(Millis(now), &zone);
            prop_assert_eq!(window.start(end, &zone), end, "its end is another's start");
            prop_assert_eq!(window.start(Millis(end.0 - 1), &zone), start, "and nothing lies between");
            let next = window.start(Millis(now + later), &zone);
            prop_assert!(next == start || next.0 > now, "who is not in it comes after it");
        }
        let [hour, day, week, month] = ALL.map(|window| window.start(Millis(now), &zone));
        prop_assert!(week <= day && month <= day);
        let (here, date) = (civil(Millis(now), &zone), civil(day, &zone));
        prop_assert_eq!(here.date(), date.date());
        prop_assert_eq!(civil(hour, &zone).date(), here.date());
        prop_assert_eq!(civil(month, &zone).date(), here.date().first_of_month());
        prop_assert!(civil(week, &zone).date() <= here.date());
    }
}
