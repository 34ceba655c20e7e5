"""What all kinds share: messages, replies, and why the host refused.

Times are milliseconds since 1970 in UTC, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from .variant import Refusal, case, cases


@dataclass
class Person:
    """Somebody who wrote a message. Identity comes from the host, never from a plugin."""

    id: str
    #: A display name, if the platform told one. Not proof of anything.
    name: str | None = None
    #: Somebody from outside the organisation, as far as the platform tells.
    outsider: bool = False


@dataclass
class Attachment:
    """A file that came with a message. Its bytes are read through `blobs`."""

    name: str
    media_type: str
    size: int
    #: A handle for `blobs.read`, absent while the host has not fetched the file.
    blob: str | None = None


@dataclass
class Message:
    """One message of a person."""

    #: The host's id, unique for ever.
    id: str
    text: str
    sender: Person
    #: The channel account it came through, as the host's configuration names it.
    channel: str
    #: The platform's room, where it has such a thing.
    place: str | None
    attachments: list[Attachment]
    #: When the host kept it.
    received_ms: int


class Speaker(Enum):
    """Who spoke in an earlier turn."""

    PERSON = 0
    AGENT = 1


@dataclass
class Utterance:
    """An earlier utterance of the same conversation."""

    speaker: Speaker
    #: The agent that spoke; absent for a person.
    agent: str | None
    text: str


@dataclass
class Link:
    """A label and where it leads; a citation's `url` may be empty."""

    label: str
    url: str


@dataclass
class Choice:
    """What the person can click, and what comes back then."""

    label: str
    value: str


class Block:
    """A part of a reply that a channel may render richly."""

    Link: ClassVar[type[BlockLink]]
    Choices: ClassVar[type[BlockChoices]]
    #: A passage quoted from a source, with the source's name.
    Citation: ClassVar[type[BlockCitation]]


@case("Link")
@dataclass
class BlockLink(Block):
    value: Link


@case("Choices")
@dataclass
class BlockChoices(Block):
    value: list[Choice]


@case("Citation")
@dataclass
class BlockCitation(Block):
    value: Link


@dataclass
class Reply:
    """What is said back to a person. `text` alone must make sense."""

    text: str
    blocks: list[Block] = field(default_factory=list)
    #: Handles from `blobs.write`.
    attachments: list[str] = field(default_factory=list)

    def link(self, label: str, url: str) -> Reply:
        """Adds a link."""
        self.blocks.append(Block.Link(Link(label, url)))
        return self

    def choices(self, *choices: tuple[str, str]) -> Reply:
        """Adds a row of buttons: what is shown and what comes back."""
        self.blocks.append(Block.Choices([Choice(label, value) for label, value in choices]))
        return self

    def citation(self, label: str, url: str = "") -> Reply:
        """Names a source."""
        self.blocks.append(Block.Citation(Link(label, url)))
        return self


class HostError(Refusal):
    """Why a host function refused or failed. One sentence in `value`."""

    #: The capability is not asked for, or optional and not granted.
    NotGranted: ClassVar[type[HostError]]
    #: The request itself is wrong; the same request will fail again.
    Invalid: ClassVar[type[HostError]]
    #: One of the host's limits is reached.
    Limit: ClassVar[type[HostError]]
    #: Something outside is not there now; asking later may help.
    Unavailable: ClassVar[type[HostError]]
    Other: ClassVar[type[HostError]]


cases(HostError, "NotGranted", "Invalid", "Limit", "Unavailable", "Other")
