//! What belongs to others, who somebody is, where an answer goes, and where requests go.

use chela_sandbox::{Limit as Of, PluginKind};

use super::asked;
use crate::attack::{Act, Attack, Family, Guest};
use crate::outcome::Outcome::{
    self, Answered, Forbidden, Forged, Limit, Misbehaved, Refused, Timeout, Trap, Unsent,
};

const AUTHORITY: Family = Family::Authority;
const IDENTITY: Family = Family::Identity;

const fn agent(
    name: &'static str,
    tries: &'static str,
    does: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    asked(name, AUTHORITY, tries, ends).told(PluginKind::Agent, does)
}

const fn router(
    name: &'static str,
    tries: &'static str,
    does: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    asked(name, AUTHORITY, tries, ends).told(PluginKind::Router, does)
}

/// An adapter that lies about what it reads.
const fn reads(
    name: &'static str,
    tries: &'static str,
    does: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    asked(name, IDENTITY, tries, ends).guest(Guest::Adapter).act(Act::Receive(does))
}

/// An adapter that lies about what it sends.
const fn sends(
    name: &'static str,
    tries: &'static str,
    does: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    asked(name, IDENTITY, tries, ends).guest(Guest::Adapter).act(Act::Deliver(does))
}

/// An adapter whose manifest sends answers somewhere.
const fn reaches(name: &'static str, tries: &'static str, url: &'static str) -> Attack {
    let ends = &[Unsent, Refused("manifest")];
    asked(name, Family::Egress, tries, ends)
        .guest(Guest::Sends(url))
        .act(Act::Deliver("honest"))
        .says("refused")
}

pub(super) const ATTACKS: &[Attack] = &[
    agent(
        "guessed-memory",
        "guesses keys of another person, another agent and another organisation",
        "guess",
        &[Answered],
    )
    .act(Act::Guess("guess"))
    .says("nothing"),
    agent("credential-not-granted", "names a credential that it was not given", "credential", &[Answered])
        .says("not granted"),
    agent("requests-not-granted", "sends requests without the grant", "absent", &[Answered])
        .says("not granted"),
    agent("tier-not-allowed", "asks a model of a tier that is not its own", "tier smart", &[Answered])
        .says("invalid"),
    agent("environment", "looks for an environment and arguments", "env", &[Answered]).says("0 0"),
    agent("state", "counts its own calls", "state", &[Answered]).act(Act::Ask("state", 5)).says("0"),
    agent(
        "hands-over-to-nobody",
        "hands over to an agent that there is not",
        "hand-over-ghost",
        &[Misbehaved],
    ),
    agent("empty-reply", "answers with nothing", "empty", &[Misbehaved]),
    router("routes-to-nobody", "chooses an agent that there is not", "ghost", &[Misbehaved]),
    router("routes-to-the-forbidden", "chooses an agent that may not be reached", "people", &[Answered])
        .says("support: "),
    router("score-no-number", "is as sure as no number is", "score", &[Answered]).says("support: "),
    router(
        "alternatives-flood",
        "thinks of 100,000 others",
        "alternatives",
        &[Answered, Limit(Of::OutputBytes), Limit(Of::Memory), Limit(Of::Cpu), Timeout],
    ),
    reads("forged-sender", "says that another one wrote", "lie-sender", &[Forged]),
    reads("forged-conversation", "says that it was written elsewhere", "lie-conversation", &[Forged]),
    reads("forged-key", "says that it is another message, not known yet", "lie-dedupe", &[Forged]),
    reads("forged-by-swap", "takes a true value for another one", "lie-swap", &[Forged]),
    reads("no-key", "has no key, so that a repetition would be new", "no-dedupe", &[Forged]),
    reads("event-flood", "makes 10,000 messages of one", "receive-many", &[Forged, Limit(Of::OutputBytes)]),
    reads("adapter-trap", "traps while it reads", "receive-trap", &[Trap]),
    reads("adapter-spin", "never ends reading", "receive-loop", &[Timeout, Limit(Of::Cpu)]),
    reads(
        "adapter-giant",
        "makes 64 MiB of a message",
        "receive-giant",
        &[Limit(Of::OutputBytes), Limit(Of::Memory)],
    ),
    reads(
        "notes-giant",
        "leaves itself a megabyte of notes",
        "receive-notes",
        &[Forged, Limit(Of::OutputBytes)],
    ),
    sends("other-target", "answers in another room", "other-target", &[Forbidden]),
    sends("no-target", "answers in no room", "no-target", &[Forbidden]),
    sends("two-targets", "names two rooms, one for each kind of parser", "two-targets", &[Forbidden]),
    sends("not-json", "names the room in another language", "not-json", &[Forbidden]),
    sends("ghost-endpoint", "sends to an endpoint that it has not declared", "ghost-endpoint", &[Forbidden]),
    sends("own-credential", "brings a credential of its own", "header", &[Forbidden]),
    sends("header-injection", "hides a header in another one", "header-injection", &[Forbidden]),
    sends("edits-another", "edits a post that is not the turn's own", "edit-foreign", &[Forbidden]),
    sends(
        "state-giant",
        "keeps a megabyte between two steps",
        "giant-state",
        &[Forbidden, Limit(Of::OutputBytes)],
    ),
    sends(
        "answer-giant",
        "makes 64 MiB of an answer",
        "render-giant",
        &[Limit(Of::OutputBytes), Limit(Of::Memory)],
    ),
    sends("adapter-render-trap", "traps while it renders", "render-trap", &[Trap]),
    sends("adapter-render-spin", "never ends rendering", "render-loop", &[Timeout, Limit(Of::Cpu)]),
    reaches(
        "to-this-machine-mapped",
        "sends to this machine, as IPv6 has it",
        "https://[::ffff:127.0.0.1]:9/",
    ),
    reaches("to-this-machine-octal", "sends to this machine, in octal", "https://0177.0.0.1:9/"),
    reaches("to-this-machine-number", "sends to this machine, as one number", "https://2130706433:9/"),
    reaches("to-this-machine-hex", "sends to this machine, in hexadecimal", "https://0x7f.1:9/"),
    reaches("to-this-machine-dot", "sends to this machine, with a dot at its end", "https://localhost.:9/"),
    reaches(
        "to-this-machine-nat64",
        "sends to this machine, behind a translator",
        "https://[64:ff9b::7f00:1]:9/",
    ),
    reaches("to-the-metadata", "sends to the cloud's metadata", "http://169.254.169.254/latest/meta-data"),
    reaches(
        "to-the-metadata-mapped",
        "sends to the metadata, as IPv6 has it",
        "https://[::ffff:169.254.169.254]/",
    ),
    reaches("to-a-private-network", "sends to a private network", "https://10.0.0.1/"),
    reaches(
        "with-user-and-password",
        "hides the host behind a user",
        "https://api.example.com:x@127.0.0.1:9/",
    ),
    reaches("in-the-clear", "sends without encryption", "http://api.example.com/"),
    reaches("to-a-file", "sends to a file", "file:///etc/passwd"),
];
