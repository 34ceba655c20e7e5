//! What the canonical form and the verifier do to the labelled pairs: measured, printed and held to.
//!
//! `cargo test --release -p chela-lexical --test report -- --nocapture` prints the figures.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test program"
)]

mod labelled;

use chela_lexical::{Reading, Vector, canonical, cosine, verify, wrong_at_most};
use labelled::{Pair, pairs};
use std::collections::{BTreeMap, BTreeSet};

/// What was taken for the same, and how much of it is.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    right: u64,
    wrong: u64,
}

impl Taken {
    fn of<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Self {
        pairs.into_iter().fold(Self::default(), |taken, pair| Self {
            right: taken.right + u64::from(pair.same),
            wrong: taken.wrong + u64::from(!pair.same),
        })
    }

    fn all(self) -> u64 {
        self.right + self.wrong
    }

    fn wrong_share(self) -> f64 {
        if self.all() == 0 { 0.0 } else { self.wrong as f64 / self.all() as f64 }
    }

    fn told(self, same: u64) -> String {
        let most = wrong_at_most(self.wrong, self.all(), 0.95) * 100.0;
        format!(
            "right {:>3} of {same} ({:4.1} %), wrong {:>3} of {:>3} ({:5.2} %, at most {most:5.2} %)",
            self.right,
            self.right as f64 / same as f64 * 100.0,
            self.wrong,
            self.all(),
            self.wrong_share() * 100.0,
        )
    }
}

fn same(pairs: &[Pair]) -> u64 {
    pairs.iter().filter(|pair| pair.same).count() as u64
}

fn held() -> Vec<Pair> {
    pairs().into_iter().filter(Pair::is_held).collect()
}

fn is_canonical(pair: &Pair) -> bool {
    let form = canonical(pair.a, pair.language());
    form.is_some() && form == canonical(pair.b, pair.language())
}

fn likeness(pair: &Pair) -> f32 {
    cosine(&Vector::of(pair.a).unwrap(), &Vector::of(pair.b).unwrap())
}

/// Both ways: which of the two was asked first is chance.
fn is_verified(pair: &Pair) -> bool {
    let ways = [(pair.a, pair.b), (pair.b, pair.a)];
    let [one, other] = ways.map(|(asked, kept)| verify(asked, kept, pair.language()).is_ok());
    assert_eq!(one, other, "{}: it matters which was asked first", pair.id);
    let [a, b] = [pair.a, pair.b].map(|text| Reading::of(text, pair.language()).map(|read| read.form()));
    assert!(!one || a == b, "{}: what is verified is found by its form", pair.id);
    one
}

#[test]
fn the_pairs_are_what_their_header_says() {
    let pairs = pairs();
    let groups: BTreeSet<&str> = pairs.iter().map(|pair| pair.group).collect();
    let german = pairs.iter().filter(|pair| pair.group.starts_with("de")).count();
    assert!(
        pairs.len() >= 600 && german >= 80 && groups.len() >= 150,
        "{} {german} {}",
        pairs.len(),
        groups.len()
    );
    assert_eq!(pairs.iter().map(|pair| pair.id).collect::<BTreeSet<_>>().len(), pairs.len());
    assert!(pairs.iter().all(|pair| pair.a != pair.b));
    let held = held().len();
    assert!(held * 5 > pairs.len() * 2 && held * 5 < pairs.len() * 3, "{held} of {} are held", pairs.len());
}

#[test]
fn no_two_questions_with_different_answers_have_one_canonical_form() {
    for (name, pairs) in [("all", pairs()), ("held", held())] {
        let taken: Vec<&Pair> = pairs.iter().filter(|pair| is_canonical(pair)).collect();
        println!("canonical, {name}: {}", Taken::of(taken.iter().copied()).told(same(&pairs)));
        let wrong: Vec<&&Pair> = taken.iter().filter(|pair| !pair.same).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    for kind in ["easy", "medium", "hard"] {
        let pairs: Vec<Pair> = pairs().into_iter().filter(|pair| pair.kind == kind).collect();
        let taken = pairs.iter().filter(|pair| is_canonical(pair)).count();
        println!("canonical, {kind}: {taken} of {}", pairs.len());
    }
    let easy = pairs().into_iter().filter(|pair| pair.kind == "easy").collect::<Vec<_>>();
    assert!(
        easy.iter().filter(|pair| is_canonical(pair)).count() * 10 > easy.len() * 8,
        "what is easy is found"
    );
}

#[test]
fn what_is_alike_and_verified_is_seldom_wrong() {
    let pairs = held();
    for percent in (50..=95).step_by(5) {
        let alike: Vec<&Pair> =
            pairs.iter().filter(|pair| likeness(pair) * 100.0 >= percent as f32).collect();
        let verified = alike.iter().copied().filter(|pair| is_verified(pair));
        let (before, after) = (Taken::of(alike.iter().copied()), Taken::of(verified));
        println!(
            "{percent} % alike, held:\n  before {}\n  after  {}",
            before.told(same(&pairs)),
            after.told(same(&pairs))
        );
        assert!(before.wrong_share() > 0.2 || percent > 90, "likeness alone would do: {before:?}");
        assert!(after.wrong_share() <= 0.02, "{after:?}");
    }
    let verified = Taken::of(pairs.iter().filter(|pair| is_verified(pair)));
    let further = Taken::of(pairs.iter().filter(|pair| is_verified(pair) && !is_canonical(pair)));
    println!("without canonical ones, held: {}", further.told(same(&pairs)));
    let others = pairs.len() as u64 - same(&pairs);
    let most = wrong_at_most(verified.wrong, others, 0.95) * 100.0;
    println!("of the others, held: {} of {others} taken for the same (at most {most:.2} %)", verified.wrong);
    assert!(verified.right * 2 > same(&pairs) && further.right > 0, "it finds something: {verified:?}");
}

#[test]
fn each_kind_of_difference_is_told() {
    let mut kinds: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for pair in held() {
        let counts = kinds.entry(pair.kind).or_default();
        let alike = likeness(&pair) >= 0.5;
        let verified = is_verified(&pair);
        let seen = [true, alike, alike && verified, verified];
        for (count, seen) in counts.iter_mut().zip(seen) {
            *count += u64::from(seen);
        }
    }
    println!("held, by kind: pairs, half alike, half alike and verified, verified");
    for (kind, [all, alike, both, verified]) in &kinds {
        println!("  {kind:10} {all:>4} {alike:>4} {both:>4} {verified:>4}");
    }
    assert!(kinds.len() > 12);
}

/// What the lists may be fitted to, and so what to look at when they are.
#[test]
fn the_other_half_is_told_pair_by_pair() {
    let tune: Vec<Pair> = pairs().into_iter().filter(|pair| !pair.is_held()).collect();
    for pair in &tune {
        if pair.same != is_verified(pair) {
            let why = verify(pair.a, pair.b, pair.language()).map_or_else(|why| why.code(), |()| "alike");
            println!("tune {} {} {why}: {} | {}", pair.id, pair.kind, pair.a, pair.b);
        }
    }
    let taken = Taken::of(tune.iter().filter(|pair| is_verified(pair)));
    println!("tune: {}", taken.told(same(&tune)));
    assert!(taken.right > 0);
}
