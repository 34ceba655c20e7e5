//! Each verdict goes red.

use super::*;
use std::time::Duration;

use chela_types::Millis;

const fn nanos(nanos: i64) -> Money {
    Money::from_nanos(nanos)
}

const fn standing(settled: i64, reserved: i64) -> Standing {
    Standing { settled: nanos(settled), reserved: nanos(reserved) }
}

fn row(cost: i64) -> Row {
    let (is_turn, is_known, is_left) = (false, true, false);
    Row { at: Millis(0), amount: nanos(100), cost: nanos(cost), is_turn, is_known, is_left }
}

/// Begun and ended so many milliseconds after the first.
fn asked(start: Instant, marker: &str, (begun, ended): (u64, u64), heard: Heard) -> Asked {
    let at = |millis| start + Duration::from_millis(millis);
    Asked { marker: marker.to_owned(), manner: Manner::Whole, begun: at(begun), ended: at(ended), heard }
}

/// A budget of 306 for calls of 100: one is refused while three hold theirs, another in the end; a kill left 50 in slices
/// and 20 by a row. All is well.
fn good() -> Round {
    let start = Instant::now();
    let mut asked: Vec<Asked> = ["#a", "#b", "#c"]
        .iter()
        .map(|name| asked(start, name, (0, 50), Heard::Answered(Some(nanos(60)))))
        .collect();
    asked.push(self::asked(start, "#d", (1, 10), Heard::Refused));
    asked.push(self::asked(start, "#e", (60, 80), Heard::Answered(Some(nanos(50)))));
    asked.push(self::asked(start, "#f", (90, 95), Heard::Refused));
    let unknown = Row { is_known: false, is_turn: true, amount: nanos(20), ..row(20) };
    let left = Row { is_left: true, is_known: false, ..row(64) };
    Round {
        limit: nanos(306),
        worst: nanos(100),
        seen: vec![vec![standing(0, 300), standing(230, 70)]],
        asked,
        first_kill: Some(start + Duration::from_millis(85)),
        kills: vec![Killed { standing: standing(230, 70), rows: nanos(20), ledger: nanos(64) }],
        rows: vec![row(60), row(60), row(60), row(50), unknown, left],
        turns: BTreeMap::new(),
        end: standing(300, 0),
        bill: nanos(250),
        later: nanos(0),
    }
}

fn wrong(change: impl FnOnce(&mut Round)) -> String {
    let mut round = good();
    change(&mut round);
    judge(&round).join("; ")
}

#[test]
fn what_is_well_is_well() {
    assert_eq!(wrong(|_| {}), "");
}

#[test]
fn more_than_the_limit_is_seen_also_for_a_moment() {
    let all = wrong(|round| round.seen[0].insert(1, standing(200, 107)));
    assert!(all.contains("overspent: $0.0000002 used and $0.000000107 held"), "{all}");
    let all = wrong(|round| round.seen[0].push(standing(301, 0)));
    assert!(all.contains("is used, and"), "{all}");
}

#[test]
fn what_is_held_for_ever_is_seen() {
    assert!(wrong(|round| round.end.reserved = nanos(1)).contains("leaked"));
}

#[test]
fn a_ledger_below_the_bill_or_above_it_for_nothing_is_seen() {
    let all = wrong(|round| round.bill = nanos(301));
    assert!(all.contains("below the bill"), "{all}");
    let all = wrong(|round| round.bill = nanos(229));
    assert!(all.contains("known calls ($0.00000023) are above the bill"), "{all}");
    let all = wrong(|round| round.rows[0].cost = nanos(61));
    assert!(all.contains("$0.0000003 is used; calls cost $0.000000251, and kills left $0.00000005"), "{all}");
}

#[test]
fn what_a_kill_left_and_nobody_paid_is_seen() {
    let all = wrong(|round| round.kills[0].standing = standing(240, 70));
    assert!(all.contains("a kill left $0.00000031 used or held"), "{all}");
    let all = wrong(|round| round.rows.truncate(5));
    assert!(all.contains("is charged for it"), "{all}");
}

#[test]
fn room_that_nobody_could_use_is_seen() {
    let all = wrong(|round| round.end = standing(200, 0));
    assert!(all.contains("only $0.0000002 of $0.000000306 could be used"), "{all}");
    // What a later kill charged was not used.
    let all = wrong(|round| (round.later, round.rows[0].cost) = (nanos(99), nanos(0)));
    assert!(all.contains("only $0.000000201"), "{all}");
    // In whole calls it is enough, and less than the share.
    let all = wrong(|round| (round.worst, round.end) = (nanos(300), standing(290, 0)));
    assert!(all.contains("only"), "{all}");
}

#[test]
fn who_is_refused_while_there_is_room_is_seen() {
    let all = wrong(|round| round.limit = nanos(320));
    assert!(all.contains("#d (Whole) was refused with $0.0000003 of $0.00000032"), "{all}");
    // After a kill nobody knows what was held.
    assert!(!all.contains("#f"), "{all}");
    assert!(wrong(|round| (round.first_kill, round.limit) = (None, nanos(320))).contains("#f"));
}
