//! Bills beside ledgers, and shares beside bounds.

use super::*;
use chela_types::Tokens;

fn day(number: i8) -> Date {
    Date::new(2026, 11, number).unwrap()
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Tokens(input), output: Tokens(output), ..Usage::default() }
}

fn booked(number: i8, model: &str, tokens: u64) -> Booked {
    Booked {
        day: day(number),
        model: model.to_owned(),
        calls: 1,
        unknown: 0,
        usage: usage(tokens, tokens),
        cost: Money::from_nanos(i64::try_from(tokens).unwrap()),
        now: Money::ZERO,
    }
}

fn billed(number: i8, model: Option<&str>, tokens: Option<u64>, cost: Option<i64>) -> Billed {
    Billed {
        day: day(number),
        model: model.map(str::to_owned),
        usage: tokens.map(|tokens| usage(tokens, tokens)),
        cost: cost.map(Money::from_nanos),
        requests: tokens.map(|_| 1),
    }
}

/// Day, model, and what is off.
fn told(booked: &[Booked], billed: &[Billed]) -> Vec<String> {
    let report = compare("openai", (booked, billed), Bound::USUAL);
    let off = |drift: &Drift| -> String {
        drift.off.iter().map(|off| format!(" {:?} {}/{}", off.what, off.ledger, off.billed)).collect()
    };
    let line = |drift: &Drift| {
        let called: String = drift.called.iter().map(|name| format!(" as {name}")).collect();
        let model = drift.model.as_deref().unwrap_or("all");
        format!("{} {model}{called}{}", drift.day.day(), off(drift))
    };
    report.days.iter().map(line).collect()
}

#[test]
fn a_bill_is_held_against_the_ledger() {
    for (own, bill, expected) in [
        (
            vec![booked(1, "openai/m", 1_000)],
            vec![billed(1, Some("m"), Some(990), None)],
            vec!["1 m Input 1000/990 Output 1000/990"],
        ),
        (vec![booked(1, "openai/m", 1_000)], vec![billed(1, Some("m"), Some(1_010), None)], vec!["1 m"]),
        (
            vec![booked(1, "openai/m", 1_000)],
            vec![billed(1, Some("m"), None, Some(2_000))],
            vec!["1 m Cost 1000/2000"],
        ),
        (
            vec![booked(1, "openai/m", 5), booked(1, "anthropic/m", 7), booked(2, "openai/m", 9)],
            vec![billed(1, Some("m"), Some(5), None)],
            vec!["1 m"],
        ),
        (
            vec![booked(2, "openai/lost", 5)],
            vec![billed(1, Some("m"), Some(5), None), billed(3, Some("m"), Some(0), None)],
            vec!["1 m Input 0/5 Output 0/5", "2 lost Input 5/0 Output 5/0", "3 m"],
        ),
        (
            vec![booked(1, "openai/m", 10)],
            vec![billed(1, Some("m"), Some(4), None), billed(1, Some("m-2024-07-18"), Some(6), None)],
            vec!["1 m as m-2024-07-18"],
        ),
        (
            vec![booked(1, "openai/a", 4), booked(1, "openai/b", 6)],
            vec![billed(1, None, None, Some(10)), billed(2, None, None, Some(3))],
            vec!["1 all", "2 all Cost 0/3"],
        ),
        (vec![booked(1, "openai/m", 1)], vec![], vec![]),
    ] {
        assert_eq!(told(&own, &bill), expected);
    }
}

#[test]
fn a_snapshot_belongs_to_its_model() {
    for (name, known, expected) in [
        ("gpt-4o-mini-2024-07-18", &["gpt-4o", "gpt-4o-mini"][..], "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", &["gpt-4o-mini-2024-07-18", "gpt-4o-mini"], "gpt-4o-mini-2024-07-18"),
        ("claude-haiku-4-5-20251001", &["claude-haiku-4-5"], "claude-haiku-4-5"),
        ("claude-haiku-4-5", &["claude-haiku-4-5-20251001"], "claude-haiku-4-5-20251001"),
        ("gpt-4o-2024-07-18", &["gpt-4o-2024-11-20"], "gpt-4o-2024-07-18"),
        ("gpt-4o-mini", &["gpt-4o"], "gpt-4o-mini"),
        ("-2024-07-18", &[""], "-2024-07-18"),
        ("ü-20240718", &["ü"], "ü"),
    ] {
        assert_eq!(named(name, &known.iter().copied().collect()), expected, "{name}");
    }
}

#[test]
fn a_bound_is_a_share() {
    for (text, shown) in
        [("1%", "1%"), ("0.25 %", "0.25%"), ("0%", "0%"), ("100%", "100%"), ("0.0001%", "0.0001%")]
    {
        assert_eq!(text.parse::<Bound>().map(|bound| bound.to_string()), Ok(shown.to_owned()), "{text}");
    }
    for bad in ["", "1", "%", "-1%", "101%", "0.00001%", "1e2%", "1.%.", "99999999999%"] {
        assert!(bad.parse::<Bound>().is_err(), "{bad}");
    }
    let one: Bound = "1%".parse().unwrap();
    for (ledger, billed, allows) in
        [(101, 100, true), (102, 100, false), (98, 100, false), (0, 0, true), (1, 0, false)]
    {
        assert_eq!(one.allows(ledger, billed), allows, "{ledger} of {billed}");
    }
    assert!(one.allows(u64::MAX, u64::MAX) && !one.allows(0, u64::MAX));
}
