//! What was once a hole of the engine: a guest for each advisory since 2024 whose trigger is public and can be put into a
//! component. What this host does not have at all (files, threads, another compiler) is tried all the same.

use chela_sandbox::Limit as Of;

use super::{asked, refused};
use crate::attack::{Act, Attack, Family};
use crate::outcome::Outcome::{self, Answered, Limit, Refused, Timeout, Trap};

const ENGINE: Family = Family::Engine;

/// It is made before anything is called, so that it ends where it is loaded.
const MADE: &[Outcome] = &[Refused("init trapped")];

pub(super) const ATTACKS: &[Attack] = &[
    asked(
        "ghsa-75hq-dropped-elements",
        ENGINE,
        "fills a table from a segment that is dropped",
        &[Refused("invalid"), Trap],
    ),
    asked("ghsa-q8hx-tail-call", ENGINE, "leaves by a tail call into a host function that traps", &[Trap]),
    asked("ghsa-vc8c-copysign", ENGINE, "copies a sign onto the last bytes of its memory", &[Answered])
        .says("harmless"),
    asked("ghsa-qqfj-splat", ENGINE, "spreads the last bytes of its memory", &[Answered]).says("harmless"),
    asked(
        "ghsa-2hw9-bulk",
        ENGINE,
        "is interrupted in the middle of bulk operations",
        &[Timeout, Limit(Of::Cpu), Limit(Of::Memory)],
    ),
    asked("ghsa-2hw9-bulk-trap", ENGINE, "ends bulk operations beyond the end", &[Trap]),
    asked("ghsa-m9w2-table64", ENGINE, "reads far beyond a table with 64-bit places", &[Trap]),
    asked("random-giant", ENGINE, "asks for all randomness there is (GHSA-852m)", &[Trap]),
    refused(
        "ghsa-p8xm-huge-table",
        ENGINE,
        "a table larger than all addresses",
        &[Refused("invalid"), Refused("compile"), Refused("world")],
    ),
    refused(
        "ghsa-x84v-async-stream",
        ENGINE,
        "streams by which a guest sizes what the host keeps",
        &[Refused("invalid")],
    ),
    refused("async-never-resolved", ENGINE, "a task that is never resolved", &[Refused("invalid")]),
    refused("imports-http", ENGINE, "header fields without end (GHSA-243v)", &[Refused("import")]),
    refused("ghsa-jxhv-unaligned", ENGINE, "passes a text whose room moves to an odd address", MADE),
    refused("ghsa-jxhv-odd-source", ENGINE, "passes a text that begins at an odd address", MADE),
    refused("ghsa-394w-realloc", ENGINE, "passes a text whose second room lies beyond memory", MADE),
    refused("ghsa-hx6p-end-of-memory", ENGINE, "passes a text that ends beyond memory", MADE),
    refused("text-of-4-gib", ENGINE, "passes a text of 4 GiB between two parts of it", MADE),
    asked(
        "flags-beyond",
        ENGINE,
        "passes flags that have no names (GHSA-m758)",
        &[Answered, Refused("init trapped")],
    )
    .act(Act::Ask("hello", 1)),
];
