"""Agents: what is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from . import types
from .models import ModelError
from .types import HostError, Message, Reply, Utterance
from .variant import Refusal, case, cases


@dataclass
class Colleague:
    """An agent that one may hand over to."""

    agent: str
    description: str


@dataclass
class Profile:
    """Who the agent is, from the host's configuration."""

    agent: str
    department: str | None
    #: How it speaks and what it knows of itself: a system prompt.
    persona: str
    #: Its usual tier.
    tier: str
    #: Agents it may hand over to from here.
    colleagues: list[Colleague]


@dataclass
class Turn:
    """What is to be answered."""

    message: Message
    profile: Profile
    #: Earlier utterances of the conversation, oldest first.
    past: list[Utterance]


@dataclass
class HandOver:
    """To whom and why."""

    agent: str
    reason: str


@dataclass
class Escalation:
    """Why a human is called, and what the person reads meanwhile."""

    reason: str
    reply: Reply


@dataclass
class Later:
    """When the turn is run again, and why."""

    after_ms: int
    reason: str


class Outcome:
    """What becomes of a turn."""

    Reply: ClassVar[type[OutcomeReply]]
    HandOver: ClassVar[type[OutcomeHandOver]]
    Escalate: ClassVar[type[OutcomeEscalate]]
    #: The matter is closed; the reply is the last word.
    Resolved: ClassVar[type[OutcomeResolved]]
    AskAgain: ClassVar[type[OutcomeAskAgain]]

    @staticmethod
    def hand_over(agent: str, reason: str) -> Outcome:
        """Gives the conversation to a colleague, one of `turn.profile.colleagues`."""
        return OutcomeHandOver(HandOver(agent, reason))

    @staticmethod
    def escalate(reason: str, reply: types.Reply) -> Outcome:
        """Calls a human; the person reads `reply` meanwhile."""
        return OutcomeEscalate(Escalation(reason, reply))

    @staticmethod
    def ask_again(after_ms: int, reason: str) -> Outcome:
        """Runs the turn again after so many milliseconds (1 second to 1 hour)."""
        return OutcomeAskAgain(Later(after_ms, reason))


@case("Reply")
@dataclass
class OutcomeReply(Outcome):
    value: Reply


@case("HandOver")
@dataclass
class OutcomeHandOver(Outcome):
    value: HandOver


@case("Escalate")
@dataclass
class OutcomeEscalate(Outcome):
    value: Escalation


@case("Resolved")
@dataclass
class OutcomeResolved(Outcome):
    value: Reply


@case("AskAgain")
@dataclass
class OutcomeAskAgain(Outcome):
    value: Later


class AnsweringError(Refusal):
    """Why a turn is not answered."""

    #: The message cannot be handled by this agent, whatever is tried. The sentence is shown to the operator.
    Unsuitable: ClassVar[type[AnsweringError]]
    #: A host function was unavailable or over budget; the turn is tried again later.
    Unavailable: ClassVar[type[AnsweringError]]
    Other: ClassVar[type[AnsweringError]]

    @staticmethod
    def of(error: HostError | ModelError) -> AnsweringError:
        """What an error of the host means for the turn, if the agent lets it pass."""
        match error:
            case HostError.Unavailable() | HostError.Limit():
                return AnsweringError.Unavailable(error.value)
            case ModelError.Unavailable() | ModelError.OverBudget() | ModelError.Limit():
                return AnsweringError.Unavailable(error.value)
            case ModelError.Refused():
                return AnsweringError.Unsuitable(error.value)
            case _:
                return AnsweringError.Other(error.value)


cases(AnsweringError, "Unsuitable", "Unavailable", "Other")


class Agent:
    """Answers messages. Derive from it once, in `plugin.py`."""

    def init(self) -> None:
        """Called once when a version is loaded, before its memory is snapshotted: read the configuration and prepare
        tables. No clock, no randomness and no capability answers yet. What it raises refuses the version."""

    def handle(self, turn: Turn) -> Outcome | Reply:
        """Called once for each turn, and again with the same turn if the host stopped in the middle: host calls that
        were journaled then give the same results without being made or paid again.

        Raises `AnsweringError`; `HostError` and `ModelError` may pass, and become one.
        """
        raise AnsweringError.Other("this agent does not answer")
