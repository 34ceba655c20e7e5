//! What must be true of a round, whoever asked and whenever the host was killed.

use std::collections::BTreeMap;

use chela_types::Money;
use tokio::time::Instant;

use super::books::{Killed, Row, Standing};
use super::client::{Heard, Manner};
use super::crowd::Asked;

/// So much of a budget must be used, or held by calls, before anybody is refused.
const USABLE_PERCENT: i64 = 97;

/// Everything that was written down of a round.
#[derive(Debug, Clone)]
pub struct Round {
    /// The budget.
    pub limit: Money,
    /// The most that one call can cost.
    pub worst: Money,
    /// How the budget stood, as often as each of those who look did so.
    pub seen: Vec<Vec<Standing>>,
    /// What callers asked and heard.
    pub asked: Vec<Asked>,
    /// When the host was killed for the first time.
    pub first_kill: Option<Instant>,
    /// What each kill left.
    pub kills: Vec<Killed>,
    /// The ledger's rows of this round.
    pub rows: Vec<Row>,
    /// What turns were charged, by their marker.
    pub turns: BTreeMap<String, Money>,
    /// How the budget stands after some quiet.
    pub end: Standing,
    /// What the providers bill.
    pub bill: Money,
    /// What kills of later rounds found in slices of this budget, and charged: nobody asked for it any more.
    pub later: Money,
}

/// Everything that must not be. Empty: all is well.
pub fn judge(round: &Round) -> Vec<String> {
    let mut wrong = Vec::new();
    limits(round, &mut wrong);
    books(round, &mut wrong);
    kills(round, &mut wrong);
    usable(round, &mut wrong);
    wrong
}

/// Never above its limit, never less used than before, and nothing is held for ever.
fn limits(round: &Round, wrong: &mut Vec<String>) {
    let Round { limit, worst, end, seen, rows, .. } = round;
    for one in seen {
        let mut before = Money::ZERO;
        for Standing { settled, reserved } in one.iter().chain([end]).copied() {
            if settled.plus(reserved) > *limit {
                wrong.push(format!("overspent: {settled} used and {reserved} held of {limit}"));
            }
            if settled < before {
                wrong.push(format!("{settled} is used, and {before} was"));
            }
            before = settled;
        }
    }
    if end.reserved != Money::ZERO {
        wrong.push(format!("leaked: {} is still held", end.reserved));
    }
    let other = |row: &&Row| row.is_turn && row.amount > *worst || !row.is_turn && row.amount != *worst;
    if let Some(row) = rows.iter().filter(|row| !row.is_left).find(other) {
        wrong.push(format!("a call set {} aside, and its worst case is {worst}", row.amount));
    }
}

/// The ledger is the budget, call by call, and the providers' bill or above it by what nobody knows.
fn books(round: &Round, wrong: &mut Vec<String>) {
    let Round { rows, end, bill, kills, .. } = round;
    let sum =
        |which: fn(&Row) -> bool| rows.iter().filter(|row| which(row)).map(|row| row.cost).sum::<Money>();
    let (calls, known) = (sum(|row| !row.is_left), sum(|row| row.is_known));
    let lost = sum_of(kills, Killed::slices);
    if end.settled != calls.plus(lost).plus(round.later) {
        wrong.push(format!(
            "{} is used; calls cost {calls}, and kills left {lost} in slices, and {} later",
            end.settled, round.later
        ));
    }
    if end.settled < *bill {
        wrong.push(format!("the ledger ({}) is below the bill ({bill})", end.settled));
    }
    if known > *bill {
        wrong.push(format!("the ledger's known calls ({known}) are above the bill ({bill})"));
    }
}

/// What a kill left is charged in full: in the budget, and the ledger's slice as a row of the ledger.
fn kills(round: &Round, wrong: &mut Vec<String>) {
    for kill in &round.kills {
        let charged = kill.standing.settled.plus(kill.standing.reserved);
        if round.end.settled < charged {
            wrong.push(format!("a kill left {charged} used or held, and {} is used", round.end.settled));
        }
    }
    let left = sum_of(&round.kills, |kill| kill.ledger);
    let charged: Money = round.rows.iter().filter(|row| row.is_left).map(|row| row.cost).sum();
    if left != charged {
        wrong.push(format!("kills left {left} in the ledger's slice, and {charged} is charged for it"));
    }
}

/// No budget ends with room for a call, and nobody is refused while there is more room than the share allows.
fn usable(round: &Round, wrong: &mut Vec<String>) {
    let (limit, used) = (round.limit, used(round));
    if used.plus(round.worst) <= limit || percent(used, limit) < USABLE_PERCENT {
        wrong.push(format!("only {used} of {limit} could be used"));
    }
    for refused in refusals(round) {
        let most = most_used(round, refused);
        if percent(most, limit) < USABLE_PERCENT {
            let marker = &refused.marker;
            wrong.push(format!("{marker} ({:?}) was refused with {most} of {limit} in use", refused.manner));
        }
    }
}

/// What was used when the last caller was refused.
fn used(round: &Round) -> Money {
    round.end.settled.minus(round.later)
}

/// Those before the first kill. After it, nobody but the host knows what the calls that it cut off hold.
fn refusals(round: &Round) -> impl Iterator<Item = &Asked> {
    let is_before = |asked: &&Asked| round.first_kill.is_none_or(|kill| asked.ended < kill);
    round.asked.iter().filter(|asked| asked.heard == Heard::Refused).filter(is_before)
}

/// The most that can have been used or held while this request was asked, by what the callers saw.
fn most_used(round: &Round, refused: &Asked) -> Money {
    let others =
        round.asked.iter().filter(|other| other.heard != Heard::Refused && other.begun <= refused.ended);
    let of = |other: &Asked| {
        let charged = charged(round, other);
        match other.ended < refused.begun {
            true => charged,
            // A turn may have paid for a failure before, and hold what its next call can cost.
            false if other.manner == Manner::Turn => charged.plus(round.worst),
            false => round.worst,
        }
    };
    others.map(of).sum()
}

/// What a request was charged, at most.
fn charged(round: &Round, asked: &Asked) -> Money {
    match (asked.manner, asked.heard) {
        (Manner::Turn, _) => round.turns.get(&asked.marker).copied().unwrap_or(round.worst),
        (_, Heard::Answered(Some(cost))) => cost,
        _ => round.worst,
    }
}

fn percent(part: Money, whole: Money) -> i64 {
    part.nanos().saturating_mul(100) / whole.nanos().max(1)
}

/// A round in one line.
pub fn told(number: usize, round: &Round) -> String {
    let count = |which: fn(&Heard) -> bool| round.asked.iter().filter(|asked| which(&asked.heard)).count();
    let share = |money: Money| {
        let thousandths = money.nanos().saturating_mul(1_000) / round.limit.nanos().max(1);
        format!("{}.{} %", thousandths / 10, thousandths % 10)
    };
    let sum = |which: fn(&&Row) -> bool| round.rows.iter().filter(which).map(|row| row.cost).sum::<Money>();
    let first = refusals(round).min_by_key(|asked| asked.ended).map(|first| share(most_used(round, first)));
    let (unknown, lost) = (sum(|row| !row.is_known && !row.is_left), sum_of(&round.kills, Killed::slices));
    format!(
        "round {number}: {} kills; {} answers, {} failures, {} cut off; at most {} in use at the first refusal, {} in the end; \
         billed {}, charged {}, of it {} whose outcome nobody knows and {} that kills left in slices",
        round.kills.len(),
        count(|heard| matches!(heard, Heard::Answered(_) | Heard::Left)),
        count(|heard| *heard == Heard::Failed),
        count(|heard| *heard == Heard::Gone),
        first.as_deref().unwrap_or("–"),
        share(used(round)),
        share(round.bill),
        share(round.end.settled),
        share(unknown),
        share(lost),
    )
}

fn sum_of(kills: &[Killed], what: impl Fn(&Killed) -> Money) -> Money {
    kills.iter().map(what).sum()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
