//! What is loaded: files that are none, imports that nobody may have, bombs for the compiler.

use chela_sandbox::{Limit, PluginKind};

use super::refused;
use crate::attack::{Act, Attack, Family, Guest};
use crate::generated;
use crate::outcome::Outcome::{self, Answered, Refused, Trap};

const LOADING: Family = Family::Loading;

/// Whatever a damaged file does, it is refused or runs within its limits.
const DAMAGED: &[Outcome] = &[
    Refused("not wasm"),
    Refused("core module"),
    Refused("invalid"),
    Refused("world"),
    Refused("kind"),
    Refused("import"),
    Refused("contract"),
    Refused("compile"),
    Refused("init"),
    Refused("init trapped"),
    Refused("init limit"),
    Refused("snapshot"),
    Refused("preparation"),
    Answered,
    Trap,
    Outcome::Timeout,
    Outcome::Misbehaved,
    Outcome::Limit(Limit::Memory),
    Outcome::Limit(Limit::Cpu),
    Outcome::Limit(Limit::OutputBytes),
];

/// A file that is made when it is needed.
const fn made(
    name: &'static str,
    tries: &'static str,
    make: fn() -> Vec<u8>,
    ends: &'static [Outcome],
) -> Attack {
    refused(name, LOADING, tries, ends).guest(Guest::Made(make))
}

const fn manifest(
    name: &'static str,
    tries: &'static str,
    make: fn() -> String,
    ends: &'static [Outcome],
) -> Attack {
    refused(name, LOADING, tries, ends).guest(Guest::Manifest(make))
}

/// An agent in Rust that misbehaves in `init`.
const fn init(
    name: &'static str,
    tries: &'static str,
    does: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    refused(name, LOADING, tries, ends).guest(Guest::Init(PluginKind::Agent, does))
}

pub(super) const ATTACKS: &[Attack] = &[
    made("empty-file", "an empty file", generated::nothing, &[Refused("not wasm")]),
    made("script", "a shell script", generated::script, &[Refused("not wasm")]),
    made(
        "core-module",
        "a core module, whose imports nobody would check",
        generated::core_module,
        &[Refused("core module")],
    ),
    made("half-a-file", "a file that was cut", generated::half, &[Refused("invalid"), Refused("world")]),
    made(
        "another-kind",
        "an agent that calls itself a router",
        generated::another_kind,
        &[Refused("world"), Refused("kind")],
    ),
    made("flipped-bit", "one bit is another", generated::flipped_1, DAMAGED).act(Act::Ask("hello", 1)),
    made("flipped-bits-4", "4 bits are others", generated::flipped_2, DAMAGED).act(Act::Ask("hello", 1)),
    made("flipped-bits-16", "16 bits are others", generated::flipped_3, DAMAGED).act(Act::Ask("hello", 1)),
    made("flipped-bits-64", "64 bits are others", generated::flipped_4, DAMAGED).act(Act::Ask("hello", 1)),
    made(
        "large-section",
        "64 MiB of a section that nobody reads",
        generated::large_section,
        &[Refused("too large")],
    ),
    made(
        "million-functions",
        "a million functions, and one more",
        generated::many_functions,
        &[Refused("invalid")],
    ),
    made(
        "nested",
        "a thousand components, each in another",
        generated::nested,
        &[Refused("invalid"), Refused("compile"), Refused("preparation"), Answered],
    ),
    made(
        "compile-bomb",
        "valid code that no compiler likes",
        generated::bomb,
        &[
            Refused("preparation"),
            // A compiler that is through with it in its time and memory has not been hurt.
            Answered,
        ],
    ),
    refused("no-world", LOADING, "a component of no world of ours", &[Refused("world")]),
    refused("wrong-type", LOADING, "the right exports with other types", &[Refused("compile")]),
    refused("wrong-version", LOADING, "a contract that is not served", &[Refused("contract")]),
    refused("imports-unknown", LOADING, "asks for a shell", &[Refused("import")]),
    refused("imports-files", LOADING, "asks for files", &[Refused("import")])
        .guest(Guest::Built(PluginKind::Agent, "files")),
    refused("imports-sockets", LOADING, "asks for sockets", &[Refused("import")])
        .guest(Guest::Built(PluginKind::Agent, "sockets")),
    manifest(
        "greedy-manifest",
        "asks for grants that it was not given",
        generated::greedy,
        &[Refused("not granted")],
    ),
    manifest(
        "grant-of-another-kind",
        "a router asks for requests",
        generated::of_another_world,
        &[Refused("not in world")],
    ),
    manifest(
        "misspelt-limit",
        "a limit that is spelled wrong, and so is none",
        generated::misspelt,
        &[Refused("manifest")],
    ),
    manifest(
        "path-for-a-name",
        "a name that leads out of a folder",
        generated::path_for_a_name,
        &[Refused("manifest")],
    ),
    refused("init-trap", LOADING, "traps in init", &[Refused("init trapped")]),
    refused("init-spin", LOADING, "never ends its init", &[Refused("preparation")]),
    refused("start-spin", LOADING, "never ends before any export is called", &[Refused("preparation")]),
    refused("init-want-more", LOADING, "wants more memory in init than there is", &[Refused("init limit")]),
    refused(
        "init-fill",
        LOADING,
        "fills its memory in init, so that nobody has room to read it for the snapshot",
        &[Answered, Refused("init limit"), Refused("snapshot"), Refused("preparation")],
    )
    .act(Act::Ask("hello", 1)),
    refused("init-asks", LOADING, "keeps a handle from init on", &[Refused("init handles")]),
    init(
        "init-clock",
        "reads the clock in init, which would stand still for ever",
        "clock",
        &[Refused("init trapped")],
    ),
    init("init-refuses", "does not want to start", "error", &[Refused("init")]),
];
