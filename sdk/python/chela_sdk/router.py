"""Routers: which agent gets a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .types import Message, Utterance
from .variant import Refusal, cases


@dataclass
class Candidate:
    """An agent that may be reached from here."""

    agent: str
    description: str


@dataclass
class Context:
    """What a router may choose from."""

    department: str | None
    #: Never empty.
    candidates: list[Candidate]
    #: The agent that holds this conversation, if it may still be reached.
    sticky: str | None
    #: The policy's choice if the router has none. Always a candidate.
    default_agent: str
    #: Earlier utterances, oldest first; empty without the grant `history`.
    past: list[Utterance]

    def may_reach(self, agent: str) -> bool:
        """True if the agent may be chosen."""
        return any(candidate.agent == agent for candidate in self.candidates)


@dataclass
class Alternative:
    """An agent that came close."""

    agent: str
    score: float


@dataclass
class Decision:
    """Who answers: one of the candidates. `score` is 0.0 to 1.0; `reason` at most 500 bytes, no words of the
    message."""

    agent: str
    score: float = 1.0
    alternatives: list[Alternative] = field(default_factory=list)
    reason: str = ""


class RoutingError(Refusal):
    """No decision: the policy's default agent answers."""

    #: None of these. The sentence says why.
    NoMatch: ClassVar[type[RoutingError]]
    Other: ClassVar[type[RoutingError]]


cases(RoutingError, "NoMatch", "Other")


class Router:
    """Chooses the agent for a message. Derive from it once, in `plugin.py`."""

    def init(self) -> None:
        """Called once when a version is loaded, before its memory is snapshotted: read the configuration and prepare
        tables. No clock, no randomness and no capability answers yet. What it raises refuses the version."""

    def route(self, message: Message, context: Context) -> Decision:
        """Called once for each message. Raises `RoutingError` where it has no choice."""
        raise RoutingError.NoMatch("this router chooses nobody")
