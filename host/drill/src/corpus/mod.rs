//! All attacks, one file for each thing that they are about.

mod boundary;
mod engine;
mod lies;
mod limits;
mod loading;
mod requests;

use chela_sandbox::PluginKind;

use crate::attack::{Act, Attack, Family, Guest};
use crate::outcome::Outcome;

/// All attacks, in the order in which they are tried.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [loading::ATTACKS, limits::ATTACKS, boundary::ATTACKS, lies::ATTACKS, requests::ATTACKS, engine::ATTACKS]
        .into_iter()
        .flatten()
}

/// The attack of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Attack> {
    all().find(|attack| attack.name == name)
}

/// A router in text, asked once.
const fn asked(name: &'static str, family: Family, tries: &'static str, ends: &'static [Outcome]) -> Attack {
    Attack { name, tries, family, guest: Guest::Written(name), act: Act::Ask("hello", 1), ends, says: None }
}

/// A router in text that must not be loaded.
const fn refused(
    name: &'static str,
    family: Family,
    tries: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    Attack { name, tries, family, guest: Guest::Written(name), act: Act::Load, ends, says: None }
}

impl Attack {
    const fn says(self, says: &'static str) -> Self {
        Self { says: Some(says), ..self }
    }

    const fn guest(self, guest: Guest) -> Self {
        Self { guest, ..self }
    }

    /// The guest in Rust of this kind, told in a message what to do.
    const fn told(self, kind: PluginKind, does: &'static str) -> Self {
        self.guest(Guest::Built(kind, kind.as_str())).act(Act::Ask(does, 1))
    }

    const fn act(self, act: Act) -> Self {
        Self { act, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;
    use std::collections::BTreeSet;

    #[test]
    fn every_attack_has_a_name_of_its_own_a_guest_and_an_end() {
        let names: BTreeSet<&str> = all().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all().count());
        assert!(names.len() >= 40, "{}", names.len());
        for attack in all() {
            assert!(attack.guest.source().is_some(), "{}", attack.name);
            assert!(!attack.ends.is_empty() && !attack.ends.contains(&Outcome::Host), "{}", attack.name);
        }
    }

    /// Those that do no harm: the one that is called after each attack, and one that is measured.
    const HARMLESS: [&str; 2] = ["honest", "prepared"];

    #[test]
    fn every_other_guest_in_text_is_an_attack() {
        let used: BTreeSet<&str> = all()
            .filter_map(|attack| match attack.guest {
                Guest::Written(name) => Some(name),
                _ => None,
            })
            .collect();
        for name in guests::all_written().filter(|name| !HARMLESS.contains(name)) {
            assert!(used.contains(name), "{name} is no attack's");
        }
    }
}
