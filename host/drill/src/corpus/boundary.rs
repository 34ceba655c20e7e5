//! What crosses between guest and host: texts, lists, cases, addresses and handles that are none.

use chela_sandbox::Limit as Of;

use super::asked;
use crate::attack::{Act, Attack, Family};
use crate::outcome::Outcome::{self, Answered, Limit, Timeout, Trap};

const BOUNDARY: Family = Family::Boundary;

/// Both too long and not there: whichever is seen first.
const TOO_MUCH: &[Outcome] = &[Trap, Limit(Of::OutputBytes)];
/// More than may cross, or than there is; where the operator lets so much cross, it is cut.
const LARGE: &[Outcome] = &[Limit(Of::OutputBytes), Limit(Of::Memory), Answered];

const fn trap(name: &'static str, tries: &'static str) -> Attack {
    asked(name, BOUNDARY, tries, &[Trap])
}

const fn limit(name: &'static str, tries: &'static str, ends: &'static [Outcome]) -> Attack {
    asked(name, BOUNDARY, tries, ends)
}

pub(super) const ATTACKS: &[Attack] = &[
    trap("bad-utf8", "answers with a name that is no text"),
    trap("bad-discriminant", "answers neither well nor badly"),
    trap("bad-case", "answers with an error that the contract does not have"),
    trap("answer-out-of-bounds", "its answer lies where no memory is"),
    trap("answer-unaligned", "its answer lies at an odd address"),
    limit("string-4-gib", "answers with a text of 4 GiB that it does not have", TOO_MUCH),
    limit("string-large", "answers with a text of 8 MiB", LARGE),
    limit("list-4-gib", "answers with a list longer than any memory", TOO_MUCH),
    limit("list-large", "answers with a list that is larger in the host than here", LARGE),
    trap("list-unaligned", "answers with a list at an odd address"),
    trap("realloc-out-of-bounds", "has room for what it is asked beyond its memory"),
    trap("realloc-unaligned", "has room for what it is asked at an odd address"),
    limit("realloc-spins", "never ends making room for what it is asked", &[Timeout, Limit(Of::Cpu)]),
    trap("realloc-calls-out", "calls the host while the host writes into its memory"),
    trap("bad-level", "writes a line of a level that there is not"),
    limit("log-out-of-bounds", "lets the host read a line where no memory is", TOO_MUCH),
    trap("guessed-handle", "uses a handle that nobody gave it"),
    trap("handle-of-another-type", "uses an alarm as if it were a stream"),
    trap("handle-dropped-twice", "gives a handle back twice"),
    limit("residue", "looks for what a call before it has left, in memory and in a global", &[Answered])
        .act(Act::Ask("hello", 8))
        .says("harmless"),
];
