//! Quality against cost for each share that goes to the cheaper tier: of a scorer, beside chance, the question's length,
//! and whoever knows every label beforehand.

use chela_types::Money;
use serde::Serialize;

use super::fit::{by_length, lost_at_most, ranked};
use super::lottery::{Interval, intervals};
use super::{Data, Scorer, Turn};

/// Steps of the share.
const STEPS: usize = 10;
/// Of what is drawn.
const SEED: u64 = 1;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// The mean quality, from 0 to 1.
    pub quality: f64,
    /// What all turns cost together; absent unless each of them says so.
    pub cost: Option<Money>,
}

/// One share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// So many turns go to the cheaper tier.
    pub sent: usize,
    /// The surest by the scorer.
    pub scorer: Outcome,
    /// The shortest, or the longest, whichever is better on these turns.
    pub length: Outcome,
    /// Any.
    pub random: Outcome,
    /// Those that lose the least.
    pub ideal: Outcome,
}

/// The mean quality over all shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Area {
    /// By the scorer.
    pub scorer: Interval,
    /// By the length.
    pub length: Interval,
    /// By chance.
    pub random: Interval,
    /// By the labels.
    pub ideal: Interval,
    /// The scorer's above the length's.
    pub beyond_length: Interval,
    /// The scorer's above that of chance.
    pub beyond_chance: Interval,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// On so many turns.
    pub turns: usize,
    /// The scorer was fitted on these turns: the numbers are better than they will be.
    pub is_fitted_on: bool,
    /// How often a turn where the cheaper tier is good enough is scored above one where it is not.
    pub auc: Interval,
    /// The same of the length alone.
    pub length_auc: Interval,
    /// The mean quality over all shares.
    pub area: Area,
    /// From none to all.
    pub points: Vec<Point>,
    /// The share that the scorer's threshold takes.
    pub at_threshold: Point,
    /// An upper bound, at 95 %, on what is lost there against the dearer tier alone.
    pub loss_at_most: f64,
}

/// Holds a scorer against labelled turns.
pub fn evaluate(data: &Data, scorer: &Scorer) -> Curve {
    let turns = &data.turns;
    let scores: Vec<f64> = turns.iter().map(|turn| scorer.score(&turn.features).enough).collect();
    let enough: Vec<bool> = turns.iter().map(|turn| turn.enough() >= 0.5).collect();
    let [auc, length_auc, _] = ranked(turns, (&scores, &enough), SEED);
    let ideal: Vec<f64> = turns.iter().map(|turn| -turn.loss()).collect();
    let orders = [order(&scores), order(&by_length(turns, &enough)), order(&ideal)];
    let sent: Vec<f64> =
        turns.iter().filter(|turn| scorer.score(&turn.features).is_enough()).map(Turn::loss).collect();
    Curve {
        turns: turns.len(),
        is_fitted_on: scorer.is_of(&data.digest),
        auc,
        length_auc,
        area: area(turns, &orders),
        points: (0..=STEPS).map(|step| point(turns, &orders, turns.len() * step / STEPS)).collect(),
        at_threshold: point(turns, &orders, sent.len()),
        loss_at_most: lost_at_most(&sent, turns.len(), SEED),
    }
}

/// Rows by descending score; those of one score in the file's order.
fn order(scores: &[f64]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..scores.len()).collect();
    let score = |row: &usize| scores.get(*row).copied().unwrap_or_default();
    rows.sort_by(|one, other| score(other).total_cmp(&score(one)));
    rows
}

fn point(turns: &[Turn], [scorer, length, ideal]: &[Vec<usize>; 3], sent: usize) -> Point {
    let of = |order: &[usize]| outcome(turns, order, sent);
    Point { sent, scorer: of(scorer), length: of(length), random: random(turns, sent), ideal: of(ideal) }
}

/// With the first of an order sent to the cheaper tier.
fn outcome(turns: &[Turn], order: &[usize], sent: usize) -> Outcome {
    let mut quality = 0.0;
    let mut cost = Some(Money::ZERO);
    for (place, turn) in order.iter().filter_map(|row| turns.get(*row)).enumerate() {
        let side = if place < sent { turn.cheap } else { turn.dear };
        quality += side.good;
        cost = cost.zip(side.cost).map(|(sum, one)| sum.plus(one));
    }
    Outcome { quality: quality / turns.len().max(1) as f64, cost }
}

/// What is to be expected if as many are drawn by lot.
fn random(turns: &[Turn], sent: usize) -> Outcome {
    let in_order: Vec<usize> = (0..turns.len()).collect();
    let (none, all) = (outcome(turns, &in_order, 0), outcome(turns, &in_order, turns.len()));
    let share = sent as f64 / turns.len().max(1) as f64;
    let between = |from: f64, to: f64| from + (to - from) * share;
    let nanos = |(from, to): (Money, Money)| {
        Money::from_nanos(between(from.nanos() as f64, to.nanos() as f64) as i64)
    };
    Outcome { quality: between(none.quality, all.quality), cost: none.cost.zip(all.cost).map(nanos) }
}

fn area(turns: &[Turn], orders: &[Vec<usize>; 3]) -> Area {
    let [scorer, length, random, ideal, beyond_length, beyond_chance] =
        intervals((turns.len(), SEED), |times| {
            let [scorer, length, ideal] = [0, 1, 2].map(|nth| under(turns, orders.get(nth), times));
            let random = evenly(turns, times);
            [scorer, length, random, ideal, scorer - length, scorer - random]
        });
    Area { scorer, length, random, ideal, beyond_length, beyond_chance }
}

/// The mean quality over all shares, each turn counted so often.
fn under(turns: &[Turn], order: Option<&Vec<usize>>, times: &[u32]) -> f64 {
    let rows = || {
        let row = |row: &usize| Some((turns.get(*row)?, f64::from(*times.get(*row)?)));
        order.into_iter().flatten().filter_map(row)
    };
    let all: f64 = rows().map(|(_, weight)| weight).sum();
    let mut quality: f64 = rows().map(|(turn, weight)| turn.dear.good * weight).sum();
    let mut area = 0.0;
    for (turn, weight) in rows() {
        let after = quality - turn.loss() * weight;
        area += weight * f64::midpoint(quality, after);
        quality = after;
    }
    if all > 0.0 { area / (all * all) } else { 0.0 }
}

/// The same where lots are drawn: midway between none and all.
fn evenly(turns: &[Turn], times: &[u32]) -> f64 {
    let (mut quality, mut all) = (0.0, 0.0);
    for (turn, times) in turns.iter().zip(times) {
        quality += f64::from(*times) * f64::midpoint(turn.dear.good, turn.cheap.good);
        all += f64::from(*times);
    }
    if all > 0.0 { quality / all } else { 0.0 }
}
