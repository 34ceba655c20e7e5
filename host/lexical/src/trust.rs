//! How far likeness is trusted: learned for each kept answer and each agent, under a bound that the operator states.
//!
//! That thresholds are learned for each entry under a stated bound is vCache's idea (arXiv 2502.03771); the test is
//! another one, chosen because it is exact at any number of observations.
//!
//! A candidate is a question that looks like a kept one and passed the verifier. It is *vetted* if its entry was right
//! once at least and was never wrong at this likeness or a higher one. Vetted candidates are counted together, in bands
//! of likeness. While a band is closed, all of its candidates are asked for real and compared. It opens when the exact
//! upper bound over its comparisons is at most what is stated. Then candidates are served, but for a share that is drawn
//! by lot, asked for real, and compared as before.
//!
//! # What holds
//!
//! Let the vetted candidates of a band be wrong with probability `p` each, independently. The probability that *any* band
//! with `p` above the stated bound is *ever* opened is at most 5 %: each look at each band has its own part of these 5 %
//! ([`Rule`]), and looks are taken at numbers of comparisons that are fixed before. So with 95 % confidence the expected
//! share of wrong answers among those served is at most the bound. It is the lot that makes what is compared a fair
//! sample of what is served; that an entry is off once it was wrong makes `p` smaller with time.
//!
//! *Independently* is an assumption: what is compared counts different questions, what is served counts how often they are
//! asked. What the share that is asked makes of that stands in `docs/decisions/0021-similar-answers.md`.
//!
//! It does not hold for a world that changes: answers that become wrong, or entries that come later and are worse than
//! the earlier ones. For that there is more, without a guarantee: a bound that no longer
//! holds closes the band with the comparison that says so; a burst of wrong ones lets it begin anew; and the share that is
//! asked is at least `1 / (1 + bound × comparisons)`, so that when *everything* becomes wrong, no more wrong answers are
//! expected before the first is seen than the bound allows for as many as were compared.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use crate::bound::{at_least, wrong_at_most};

/// Comparisons that an entry keeps.
pub const KEPT_PER_ENTRY: usize = 64;
/// Bands of likeness: from 0.5 to 1, each 0.05 wide. Below there is no band, and nothing is served.
pub const BANDS: usize = 10;

/// In at most this share of all worlds a band serves that should not.
const UNSURE: f64 = 0.05;
/// The next look is taken when there are so many times the comparisons.
const BETWEEN_LOOKS: f64 = 1.5;
/// A burst of wrong ones is one that the stated bound explains in no more than this share of cases.
const BURST: f64 = 0.001;
/// The newest comparisons in which a burst is looked for: the bits of a `u64`.
const NEWEST: u64 = 64;

/// What an operator states.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    wrong_at_most: f64,
    asked_at_least: f64,
}

impl Rule {
    /// At most the share `wrong_at_most` of the served answers may be wrong (0.0001 to 0.5), and at least the share
    /// `asked_at_least` of what could be served is asked for real (0.01 to 1). Absent outside of these.
    pub fn new(wrong_at_most: f64, asked_at_least: f64) -> Option<Self> {
        let possible = (0.000_1..=0.5).contains(&wrong_at_most) && (0.01..=1.0).contains(&asked_at_least);
        possible.then_some(Self { wrong_at_most, asked_at_least })
    }

    /// What look number `look` (from 0) at one band may be unsure by: all looks at all bands together are [`UNSURE`].
    fn unsure(look: u32) -> f64 {
        UNSURE / BANDS as f64 / (f64::from(look) + 1.0) / (f64::from(look) + 2.0)
    }

    /// Comparisons without a wrong one that open a band at look number `look`.
    fn needed(self, look: u32) -> u64 {
        (Self::unsure(look).ln() / (-self.wrong_at_most).ln_1p()).ceil() as u64
    }
}

/// What became of one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// How alike the questions looked.
    pub similarity: f32,
    /// Whether the answers were the same.
    pub same: bool,
}

/// What is known of one kept answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    newest: VecDeque<Confirmation>,
    /// It was right once at least.
    vetted: bool,
    /// It was wrong in this band, and in none above; kept when the comparison itself is forgotten.
    wrong_up_to: Option<usize>,
}

impl Trust {
    /// The newest comparisons, oldest first; at most [`KEPT_PER_ENTRY`].
    pub fn newest(&self) -> impl Iterator<Item = &Confirmation> {
        self.newest.iter()
    }

    /// Whether a question so alike would be vetted: it was right once, and never wrong at this likeness or a higher one.
    pub fn vouches_at(&self, similarity: f32) -> bool {
        band_of(similarity).is_some_and(|band| self.vouches(band))
    }

    fn vouches(&self, band: usize) -> bool {
        self.vetted && self.wrong_up_to.is_none_or(|wrong| wrong < band)
    }

    fn learn(&mut self, probe: &Probe, same: bool) {
        if self.newest.len() >= KEPT_PER_ENTRY {
            self.newest.pop_front();
        }
        self.newest.push_back(Confirmation { similarity: probe.similarity, same });
        if same {
            self.vetted = true;
        } else {
            self.wrong_up_to = self.wrong_up_to.max(probe.band);
        }
    }
}

/// What to do with a candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The kept answer is served.
    Exploit,
    /// It is asked for real; what comes is compared with the kept answer and told to [`Pool::confirm`].
    Explore(Probe),
}

/// A candidate that is asked for real. It remembers whether it was vetted when the lot was drawn: later would be unfair.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    similarity: f32,
    band: Option<usize>,
    counted: bool,
}

/// What is known of all kept answers of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    bands: [Band; BANDS],
}

/// How a band of likeness stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BandStanding {
    /// Comparisons with real answers.
    pub compared: u64,
    /// Of these, wrong ones.
    pub wrong: u64,
    /// The share of wrong ones that this leaves possible, with 95 % confidence. What opens the band is stricter.
    pub wrong_at_most: f64,
    /// Whether it is served from.
    pub open: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Band {
    compared: u64,
    wrong: u64,
    /// The newest comparisons, a bit each; 1 is wrong.
    newest: u64,
    looks: u32,
    /// How many comparisons there were at the last look.
    looked_at: u64,
    open: bool,
}

impl Pool {
    /// What to do with a candidate that is `similarity` alike to the question of `entry`. `lot` is drawn evenly from
    /// `0.0..1.0`, anew for each candidate, and by nothing that has to do with it.
    pub fn decide(&self, rule: Rule, entry: &Trust, similarity: f32, lot: f64) -> Decision {
        let place = band_of(similarity);
        let band = place.filter(|place| entry.vouches(*place)).and_then(|place| self.bands.get(place));
        match band {
            Some(band) if band.open && lot >= band.asked(rule) => Decision::Exploit,
            counted => Decision::Explore(Probe { similarity, band: place, counted: counted.is_some() }),
        }
    }

    /// Learns whether the answer to `probe` was the `same` as the kept one. A call that failed says nothing and is
    /// told to nobody.
    pub fn confirm(&mut self, rule: Rule, entry: &mut Trust, probe: &Probe, same: bool) {
        entry.learn(probe, same);
        let band = probe.band.filter(|_| probe.counted).and_then(|band| self.bands.get_mut(band));
        if let Some(band) = band {
            band.learn(rule, same);
        }
    }

    /// Learns that what was served from `entry` at this likeness was wrong, as somebody says who saw it. Nobody drew a lot
    /// for it, so it can only close a band, and never open one.
    pub fn refute(&mut self, rule: Rule, entry: &mut Trust, similarity: f32) {
        let band = band_of(similarity);
        self.confirm(rule, entry, &Probe { similarity, band, counted: band.is_some() }, false);
    }

    /// Which bands are open, the least alike first.
    pub fn open(&self) -> [bool; BANDS] {
        self.bands.each_ref().map(|band| band.open)
    }

    /// How the band of such a likeness stands; none below 0.5.
    pub fn standing(&self, similarity: f32) -> Option<BandStanding> {
        let band = band_of(similarity).and_then(|band| self.bands.get(band))?;
        let Band { compared, wrong, open, .. } = *band;
        Some(BandStanding {
            compared,
            wrong,
            wrong_at_most: wrong_at_most(wrong, compared, 1.0 - UNSURE),
            open,
        })
    }

    /// Whether candidates of such likeness are served, if their entry vouches for them.
    pub fn serves(&self, similarity: f32) -> bool {
        band_of(similarity).and_then(|band| self.bands.get(band)).is_some_and(|band| band.open)
    }
}

impl Band {
    /// The share that is asked for real while the band is open.
    fn asked(&self, rule: Rule) -> f64 {
        rule.asked_at_least.max(1.0 / (1.0 + rule.wrong_at_most * self.compared as f64))
    }

    fn learn(&mut self, rule: Rule, same: bool) {
        self.compared += 1;
        self.wrong += u64::from(!same);
        self.newest = self.newest << 1 | u64::from(!same);
        if !same && at_least(u64::from(self.newest.count_ones()), NEWEST, rule.wrong_at_most) <= BURST {
            *self = Self { looks: self.looks, ..Self::default() };
        } else if self.compared >= self.next_look(rule) {
            self.open = self.holds(rule, self.looks);
            self.looks += 1;
            self.looked_at = self.compared;
        } else if self.open && !same {
            self.open = self.holds(rule, self.looks.saturating_sub(1));
        }
    }

    fn next_look(&self, rule: Rule) -> u64 {
        let later = (self.looked_at as f64 * BETWEEN_LOOKS).ceil() as u64;
        later.max(rule.needed(self.looks))
    }

    /// Whether the exact bound over all comparisons is what is stated or less.
    fn holds(&self, rule: Rule, look: u32) -> bool {
        // The bound is never below the share itself; and its sum is as long as what was wrong.
        self.wrong as f64 <= rule.wrong_at_most * self.compared as f64
            && wrong_at_most(self.wrong, self.compared, 1.0 - Rule::unsure(look)) <= rule.wrong_at_most
    }
}

/// The band of a likeness; none below 0.5, and none for what is no number.
fn band_of(similarity: f32) -> Option<usize> {
    let place = (f64::from(similarity) - 0.5) * 2.0 * BANDS as f64;
    (place >= 0.0).then(|| (place as usize).min(BANDS - 1))
}
