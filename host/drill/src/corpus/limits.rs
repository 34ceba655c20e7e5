//! Time, memory, tables, handles, floods: what a call may use of a machine.

use chela_sandbox::{Limit as Of, PluginKind};

use super::{asked, refused};
use crate::attack::{Act, Attack, Family, Guest};
use crate::outcome::Outcome::{self, Answered, Limit, Misbehaved, Refused, Timeout, Trap, Waiting};

const LIMITS: Family = Family::Limits;

/// Whichever of its two times is over first: the one on the wall, or the processor's.
const TIME: &[Outcome] = &[Timeout, Limit(Of::Cpu)];

/// The agent in Rust, told in its message what to do.
const fn agent(
    name: &'static str,
    tries: &'static str,
    does: &'static str,
    ends: &'static [Outcome],
) -> Attack {
    asked(name, LIMITS, tries, ends).told(PluginKind::Agent, does)
}

pub(super) const ATTACKS: &[Attack] = &[
    asked("trap", LIMITS, "traps", &[Trap]),
    asked("divide", LIMITS, "divides by nothing", &[Trap]),
    asked("out-of-bounds", LIMITS, "reads beyond its memory", &[Trap]),
    asked("wrong-call", LIMITS, "calls a function as one of another type", &[Trap]),
    asked("deep-recursion", LIMITS, "calls itself for ever", &[Trap]),
    asked("spin", LIMITS, "never ends", TIME),
    asked("sleep", LIMITS, "sleeps for three hundred years", &[Timeout]),
    asked("nap-for-ever", LIMITS, "sleeps a microsecond, again and again", TIME),
    asked("host-ping-pong", LIMITS, "asks for its configuration, again and again", &[Limit(Of::HostCalls)]),
    asked("clock-ping-pong", LIMITS, "asks for the time, again and again: that is no host call", TIME),
    asked("memory-steps", LIMITS, "takes memory page by page, more than there is", &[Limit(Of::Memory)]),
    asked(
        "memory-touched",
        LIMITS,
        "takes and writes all memory there is",
        &[Answered, Limit(Of::Cpu), Timeout],
    ),
    asked("table-steps", LIMITS, "grows its table, more than it may", &[Limit(Of::TableElements)]),
    asked("handles", LIMITS, "takes handles, and gives none back", &[Limit(Of::Resources)]),
    asked("alarms", LIMITS, "sets alarms, and forgets them", &[Limit(Of::Resources)]),
    refused("instances", LIMITS, "has more memories than its share", &[Refused("compile")]),
    refused(
        "resources-forever",
        LIMITS,
        "makes resources of its own before it is called, and gives none back",
        &[Refused("init trapped"), Refused("init limit"), Refused("preparation")],
    ),
    asked("log-flood", LIMITS, "writes lines for ever", TIME),
    asked("stdout-flood", LIMITS, "prints for ever", TIME),
    asked(
        "log-large",
        LIMITS,
        "writes a line of 8 MiB",
        &[Limit(Of::OutputBytes), Limit(Of::Memory), Answered],
    ),
    agent("agent-spin", "an agent never ends", "loop", TIME),
    agent(
        "agent-memory",
        "an agent takes memory for ever",
        "memory",
        &[Limit(Of::Memory), Limit(Of::Cpu), Timeout],
    ),
    agent("agent-abort", "an agent aborts", "trap", &[Trap]),
    agent(
        "agent-reply-giant",
        "an agent answers with 64 MiB",
        "giant",
        &[Limit(Of::OutputBytes), Limit(Of::Memory), Limit(Of::Cpu), Timeout],
    ),
    agent(
        "agent-blocks",
        "an agent answers with 200,000 links",
        "blocks",
        &[Limit(Of::OutputBytes), Limit(Of::Memory), Limit(Of::Cpu), Timeout, Misbehaved],
    ),
    agent(
        "agent-words",
        "an agent reports an error of a megabyte that controls terminals",
        "wordy",
        &[Outcome::Reported, Limit(Of::OutputBytes)],
    ),
    agent(
        "model-flood",
        "an agent asks its model for ever",
        "model-flood",
        &[Limit(Of::HostCalls), Timeout, Waiting, Limit(Of::Cpu)],
    ),
    agent(
        "stream-flood",
        "an agent opens streams of its model, and reads none",
        "stream-flood",
        &[Limit(Of::HostCalls), Limit(Of::Resources), Timeout, Waiting, Limit(Of::Cpu)],
    ),
    agent(
        "memory-flood",
        "an agent keeps more than it may",
        "memory-flood",
        &[Answered, Limit(Of::HostCalls), Timeout, Waiting, Limit(Of::Cpu)],
    ),
    agent(
        "memory-value-giant",
        "an agent keeps a value of 64 MiB",
        "memory-giant",
        &[Answered, Limit(Of::OutputBytes), Limit(Of::Memory)],
    ),
    asked("label-flood", LIMITS, "chooses a hundred agents, called what a person wrote", &[Misbehaved])
        .act(Act::Ask("hello", 100)),
    asked("metric-words", LIMITS, "repeats what a person wrote in each of fifty reasons", &[Answered])
        .guest(Guest::Built(PluginKind::Router, "router"))
        .act(Act::Ask("words", 50)),
];
