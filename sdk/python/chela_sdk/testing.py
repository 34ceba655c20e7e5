"""A host for tests: answers what the capabilities of a plugin ask, in memory and in order.

    with Host(config={"passages": 3}).answer("Thirty days.") as host:
        plugin = Librarian()
        plugin.init()
        plugin.handle(turn("May I send it back?"))
    assert host.requests[0].tier is None

Without one, the configuration is `{}`, the memory is empty, and models and knowledge answer `not-granted`.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from .agent import Profile, Turn
from .knowledge import Passage
from .log import Level
from .memory import Entry, Scope
from .models import Completion, Finish, ModelError, Request, Usage
from .router import Candidate, Context
from .types import HostError, Message, Person, Utterance


class Host:
    """The stand-in. Build it, then run the code under test in a `with` block of it."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        #: Model calls, in order.
        self.requests: list[Request] = []
        #: Log lines, in order.
        self.lines: list[tuple[Level, str]] = []
        self._config = config or {}
        self._answers: list[str | ModelError] = []
        self._passages: list[Passage] | HostError = HostError.NotGranted("knowledge")
        self._memory: dict[tuple[Scope, str], Entry] = {}

    def answer(self, text: str) -> Host:
        """The next model call says this."""
        self._answers.append(text)
        return self

    def fail(self, error: ModelError) -> Host:
        """The next model call fails."""
        self._answers.append(error)
        return self

    def passage(self, source: str, text: str) -> Host:
        """Adds a passage that every search finds."""
        before = self._passages if isinstance(self._passages, list) else []
        self._passages = [*before, Passage(source, text, 1.0)]
        return self

    def no_knowledge(self, error: HostError) -> Host:
        """Every search fails."""
        self._passages = error
        return self

    def __enter__(self) -> Host:
        global standing_in
        self._before, standing_in = standing_in, self
        return self

    def __exit__(self, *_: object) -> None:
        global standing_in
        standing_in = self._before

    # What the modules of the sdk ask, as `interface_function`.

    def config_json(self) -> str:
        return json.dumps(self._config)

    def log_write(self, level: Level, message: str) -> None:
        self.lines.append((level, message))

    def models_complete(self, request: Request) -> Completion:
        self.requests.append(copy.deepcopy(request))
        said = self._answers.pop(0) if self._answers else ModelError.NotGranted("models")
        if isinstance(said, ModelError):
            raise said
        return Completion(said, Finish.STOP, Usage(1, 0, 1, 1), "testing/host")

    models_relay = models_complete

    def models_stream(self, request: Request) -> _StreamReader:
        return _StreamReader(self.models_complete(request))

    def knowledge_search(self, query: str, limit: int) -> list[Passage]:
        if isinstance(self._passages, HostError):
            raise self._passages
        return self._passages[:limit]

    def memory_get(self, scope: Scope, key: str) -> Entry | None:
        return copy.copy(self._memory.get((scope, key)))

    def memory_set(self, scope: Scope, key: str, value: str) -> int:
        before = self._memory.get((scope, key))
        entry = Entry(value, before.version + 1 if before else 1)
        self._memory[scope, key] = entry
        return entry.version

    def memory_compare_and_set(self, scope: Scope, key: str, expected: int, value: str) -> bool:
        before = self._memory.get((scope, key))
        if (before.version if before else 0) != expected:
            return False
        self.memory_set(scope, key, value)
        return True

    def _refuse(self, *_: object) -> Any:
        raise HostError.NotGranted("not served in tests")

    tools_list_tools = tools_call = http_fetch = blobs_read = blobs_write = _refuse


class _StreamReader:
    """A stream of one-word pieces."""

    def __init__(self, completion: Completion) -> None:
        words = completion.text.split(" ")
        self._pieces = [word + " " for word in words[:-1]] + [word for word in words[-1:] if word]
        self._completion = completion

    def next(self) -> str | None:
        return self._pieces.pop(0) if self._pieces else None

    def completion(self) -> Completion:
        if self._pieces:
            raise ModelError.Invalid("the stream is not at its end")
        return self._completion

    def __exit__(self, *_: object) -> None:
        self._pieces.clear()


#: The host of the moment; one without grants outside any `with` block.
standing_in = Host()


def message(text: str, **changes: Any) -> Message:
    """A message of somebody, for tests; `changes` are fields that matter to them."""
    origin = {"id": "m1", "sender": Person("u1"), "channel": "web", "place": None, "received_ms": 0}
    plain: dict[str, Any] = {**origin, "text": text, "attachments": []}
    return Message(**{**plain, **changes})


def turn(text: str, *, past: list[Utterance] | None = None, **profile: Any) -> Turn:
    """A turn with that message; `profile` are fields of the agent's profile."""
    plain: dict[str, Any] = {"agent": "agent", "department": None, "persona": "", "tier": "fast", "colleagues": []}
    return Turn(message(text), Profile(**{**plain, **profile}), past or [])


def context(*agents: str, **changes: Any) -> Context:
    """A router's context with these candidates; the first is the default."""
    candidates = [Candidate(agent, "") for agent in agents]
    plain: dict[str, Any] = {"department": None, "sticky": None, "default_agent": agents[0], "past": []}
    return Context(**{**plain, "candidates": candidates, **changes})
