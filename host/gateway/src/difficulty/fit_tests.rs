//! Scorers that are fitted, and data that say too little for one.

use super::fit::lost_at_most;
use super::*;
use chela_types::{Digest, Millis};

/// A question of a kind that is known, in words that are not.
fn question(number: usize, subject: &str, words: usize) -> String {
    let mut lottery = lottery::Lottery::new(number as u64);
    let filler = (0..words).map(|_| format!("w{}", lottery.one_of(400))).collect::<Vec<_>>().join(" ");
    format!("{subject} {filler}")
}

/// Turns whose cheap answer is good where `is_easy` says so, but for one in a hundred.
fn data(count: usize, each: impl Fn(usize) -> (String, bool)) -> Data {
    let lines: Vec<String> = (0..count)
        .map(|number| {
            let (text, is_easy) = each(number);
            let text = serde_json::to_string(&text).unwrap();
            format!(
                r#"{{"text":{text},"cheap":{{"good":{is_easy},"cost":"0.0001"}},"dear":{{"good":true,"cost":"0.001"}}}}"#
            )
        })
        .collect();
    Data::read(lines.join("\n").as_bytes()).unwrap()
}

/// What is asked about says whether it is easy; all are as long.
fn learnable(count: usize, from: usize) -> Data {
    data(count, |number| {
        let number = number + from;
        let (subject, is_easy) = match number % 4 {
            0 => ("please reset my password", true),
            1 => ("where is the canteen today", true),
            2 => ("prove the following theorem now", false),
            _ => ("reconcile these ledgers by hand", false),
        };
        (question(number, subject, 8), is_easy)
    })
}

/// Easy as a coin falls.
fn unlearnable(count: usize) -> Data {
    data(count, |number| {
        let mut lottery = lottery::Lottery::new(number as u64 ^ 0xabcd);
        (question(number, "please look at", 8 + lottery.one_of(4)), lottery.one_of(2) == 0)
    })
}

/// Short is easy, and nothing else says anything.
fn by_length_alone(count: usize) -> Data {
    data(count, |number| {
        let words = 2 + number % 60;
        (question(number, "please look at", words), words < 30)
    })
}

const NOW: Millis = Millis(1_795_910_400_000);

#[test]
fn what_can_be_learned_is_learned_and_holds_on_turns_that_were_not_seen() {
    let (scorer, fitted) = fit(&learnable(800, 0), Options::default(), NOW).unwrap();
    assert!(fitted.auc.low > 0.9 && fitted.auc.high <= 1.0, "{fitted:?}");
    assert!(fitted.is_beyond_length(), "{fitted:?}");
    assert!(fitted.loss_at_most <= 0.01 && fitted.loss <= fitted.loss_at_most, "{fitted:?}");
    assert!(fitted.sent >= 200, "{fitted:?}");
    let fresh = learnable(800, 10_000);
    let curve = evaluate(&fresh, &scorer);
    assert!(!curve.is_fitted_on && evaluate(&learnable(800, 0), &scorer).is_fitted_on);
    assert!(curve.auc.low > 0.9 && curve.area.beyond_chance.low > 0.0, "{curve:?}");
    assert!(curve.loss_at_most < 0.02 && curve.at_threshold.sent >= 200, "{:?}", curve.at_threshold);
    assert!(curve.area.ideal.value >= curve.area.scorer.value);
}

#[test]
fn what_cannot_be_learned_is_refused_with_the_numbers() {
    let unfit = fit(&unlearnable(800), Options::default(), NOW).unwrap_err();
    assert!(matches!(unfit, Unfit::Chance { turns: 800, .. } | Unfit::Lossy { .. }), "{unfit}");
    let refused = (0..12).filter(|seed| {
        fit(&unlearnable(400), Options { seed: *seed, quality_loss: 0.05, ..Options::default() }, NOW)
            .is_err()
    });
    assert_eq!(refused.count(), 12);
    let text = Unfit::Chance { turns: 800, auc: Interval { value: 0.51, low: 0.46, high: 0.55 } }.to_string();
    assert_eq!(text, "no better than chance: AUC 0.51 (0.46 to 0.55) on 800 turns");
}

#[test]
fn where_the_length_explains_it_nothing_is_claimed_beyond() {
    let (_, fitted) = fit(&by_length_alone(900), Options::default(), NOW).unwrap();
    assert!(fitted.length_auc.value > 0.98, "{fitted:?}");
    assert!(!fitted.is_beyond_length(), "{fitted:?}");
}

#[test]
fn too_few_or_of_one_kind_teach_nothing() {
    let unfit = |data: &Data| fit(data, Options::default(), NOW).unwrap_err();
    assert_eq!(unfit(&learnable(300, 0)), Unfit::TooFew { turns: 300, needed: 368 });
    let easy = data(400, |number| (question(number, "hello", 5), number > 5));
    assert_eq!(unfit(&easy), Unfit::OneSided { turns: 400, enough: 394 });
    let strict = Options { quality_loss: 0.0, ..Options::default() };
    assert!(matches!(fit(&learnable(400, 0), strict, NOW), Err(Unfit::TooFew { .. })));
}

#[test]
fn the_same_turns_make_the_same_file() {
    let file = |seed: u64| {
        let (scorer, fitted) = fit(&learnable(400, 0), Options { seed, ..Options::default() }, NOW).unwrap();
        (scorer.to_toml().unwrap(), fitted)
    };
    assert_eq!(file(1), file(1));
}

#[test]
fn a_bound_on_what_is_lost_is_exact_and_counts_what_is_won() {
    // None of 367 lost: just above one in a hundred at 97.5 %; of 368, just below.
    assert!(lost_at_most(&[], 367, 1) > 0.01 && lost_at_most(&[], 368, 1) < 0.01);
    let lost = lost_at_most(&[1.0; 50], 1_000, 1);
    assert!((0.06..0.07).contains(&lost), "{lost}");
    let both: Vec<f64> = [1.0, -1.0].repeat(50);
    let net = lost_at_most(&both, 1_000, 1);
    assert!(net > 0.0 && net < lost, "{net}");
    // Losses by half are drawn: about half of them.
    let halves = lost_at_most(&[0.5; 1_000], 1_000, 1);
    assert!((0.48..0.58).contains(&halves), "{halves}");
}

#[test]
fn random_and_ideal_stand_beside_each_share() {
    let mut data = learnable(400, 0);
    let scorer = scorer::tests::by_length(0.5);
    let curve = evaluate(&data, &scorer);
    assert_eq!(curve.points.len(), 11);
    let (first, middle, last) = (curve.points[0], curve.points[5], curve.points[10]);
    assert_eq!((first.sent, middle.sent, last.sent), (0, 200, 400));
    assert!((first.random.quality - 1.0).abs() < 1e-9 && (last.random.quality - 0.5).abs() < 1e-9);
    assert!((middle.ideal.quality - 1.0).abs() < 1e-9 && (middle.random.quality - 0.75).abs() < 1e-9);
    let dollars = |outcome: Outcome| outcome.cost.unwrap().to_string();
    assert_eq!(
        (dollars(first.ideal), dollars(last.ideal), dollars(middle.random)),
        ("$0.40".into(), "$0.04".into(), "$0.22".into())
    );
    data.turns[7].dear.cost = None;
    assert_eq!(evaluate(&data, &scorer).points[0].ideal.cost, None);
    data.digest = Digest::of("other", &[]);
    assert!(!evaluate(&data, &scorer).is_fitted_on);
}
