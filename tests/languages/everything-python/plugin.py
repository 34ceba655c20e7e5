"""Calls every function of the sdk in a host and says what was not as it should be."""

from collections.abc import Callable

from chela_sdk import Agent, HostError, ModelError, Reply, Turn, blobs, http, knowledge, log, memory, models, tools
from chela_sdk.memory import Entry, Scope
from chela_sdk.models import Finish, Request


def refused(error: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except error:
        return True
    return False


def early() -> bool:
    with Request("three words here").stream() as stream:
        next(stream)
        return refused(ModelError.Invalid, stream.completion)


def whole() -> bool:
    stream = Request("some more words", tier="fast", max_output_tokens=50, temperature=0.5).stream()
    said = "".join(stream)
    done = stream.completion()
    return said == done.text and done.finish is Finish.STOP and done.usage.output_tokens > 0


def remembered() -> bool:
    memory.set(Scope.CONVERSATION, "k", "a")
    before = memory.get(Scope.CONVERSATION, "k")
    assert before is not None
    return (
        not memory.compare_and_set(Scope.CONVERSATION, "k", before.version + 1, "b")
        and memory.compare_and_set(Scope.CONVERSATION, "k", before.version, "c")
        and memory.get(Scope.CONVERSATION, "k") == Entry("c", before.version + 1)
        and memory.get(Scope.AGENT, "never written") is None
    )


CHECKS: dict[str, Callable[[], bool]] = {
    "complete": lambda: Request("hello").complete().text != "",
    "relay": lambda: Request("hello").then(models.Role.ASSISTANT, "yes?").relay().model.startswith("offline/"),
    "unknown tier": lambda: refused(ModelError.Invalid, Request("hello", tier="no-such-tier").complete),
    "stream": whole,
    "a stream that is left": early,
    "memory": remembered,
    "empty key": lambda: refused(HostError.Invalid, lambda: memory.get(Scope.USER, "")),
    "knowledge": lambda: [found.source.split(" ")[0] for found in knowledge.search("claw", 3)] == ["crab.md"],
    "no passages": lambda: refused(HostError.Invalid, lambda: knowledge.search("claw", 0)),
    "tools": lambda: refused(HostError.NotGranted, lambda: tools.call("a", "{}")),
    "tool list": lambda: refused(HostError.NotGranted, tools.list_tools),
    "http": lambda: refused(HostError.NotGranted, lambda: http.fetch(http.Request("GET", "https://a.example"))),
    "blobs read": lambda: refused(HostError.NotGranted, lambda: blobs.read("a", 0)),
    "blobs write": lambda: refused(HostError.NotGranted, lambda: blobs.write("a", "text/plain", b"b")),
}


class Everything(Agent):
    def handle(self, turn: Turn) -> Reply:
        log.info("every function is called")
        wrong = [name for name, check in CHECKS.items() if not check()]
        reply = Reply(", ".join(wrong) or f"{len(CHECKS)} as they should be")
        return reply.link("label", "https://a.example").choices(("shown", "value")).citation("source")
