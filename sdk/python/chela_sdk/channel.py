"""Channels: bytes to events, replies to requests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from .types import Attachment, Reply
from .variant import Refusal, case, cases

#: A pause where the platform names none.
_RETRY_MS = 1_000

#: The parts of a key in the manifest's order, each as found in the raw request.
Key = list[str]


@dataclass
class Header:
    """A header, or a bound value. Names are lower case."""

    name: str
    value: str


class Rejection(Refusal):
    """Why a request is not taken, and whose fault it is."""

    #: The sender's fault: answered with 400, nothing kept.
    Malformed: ClassVar[type[Rejection]]
    #: Well-formed, of a kind this adapter does not know: answered with 200 and counted.
    Unsupported: ClassVar[type[Rejection]]
    Other: ClassVar[type[Rejection]]


cases(Rejection, "Malformed", "Unsupported", "Other")


class RenderingError(Refusal):
    """Why a reply is not said."""

    #: The reply cannot be said on this platform.
    Unsuitable: ClassVar[type[RenderingError]]
    Other: ClassVar[type[RenderingError]]


cases(RenderingError, "Unsuitable", "Other")


@dataclass
class HttpFrame:
    """A request whose signature the host has verified as the manifest declares."""

    method: str
    #: What follows the channel's own address, `/` at least.
    path: str
    query: str
    headers: list[Header]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of this name, which is lower case."""
        return _find(self.headers, name)

    def json(self) -> Any:
        """The body as JSON; `Rejection.Malformed` for anything else."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            # Its own words may quote the body, which is people's.
            raise Rejection.Malformed(f"body is not JSON: {type(error).__name__}") from None


@dataclass
class TransportFrame:
    """A message of a declared transport."""

    transport: str
    body: bytes


class Frame:
    """What comes in."""

    Http: ClassVar[type[FrameHttp]]
    Transport: ClassVar[type[FrameTransport]]

    def into_http(self) -> HttpFrame:
        """The HTTP request; `Rejection.Unsupported` for a frame of a transport."""
        if isinstance(self, FrameHttp):
            return self.value
        raise Rejection.Unsupported("a transport")


@case("Http")
@dataclass
class FrameHttp(Frame):
    value: HttpFrame


@case("Transport")
@dataclass
class FrameTransport(Frame):
    value: TransportFrame


@dataclass
class Surroundings:
    """Where a request came in."""

    channel: str
    #: Ids under which this account itself posts, as the platform told the host.
    own_ids: list[str] = field(default_factory=list)


@dataclass
class Identity:
    """What the host compares with its own reading of the request; all of it from the same place there."""

    #: At least one; all become unique.
    dedupe: list[Key]
    conversation: Key
    sender: str


@dataclass
class Incoming:
    """A message."""

    identity: Identity
    sender_name: str | None
    text: str
    attachments: list[Attachment] = field(default_factory=list)
    #: The adapter's own notes for `render`, at most 4 KiB.
    notes: str | None = None


@dataclass
class Change:
    """What an edit or a deletion says of the message that it is about."""

    #: Keys of this event itself, at least one.
    dedupe: list[Key]
    #: One of the keys under which the message came.
    post: Key
    sender: str


@dataclass
class Edit:
    """The new text of a message."""

    change: Change
    text: str


class DeliveryState(Enum):
    """How far an answer came."""

    SENT = 0
    DELIVERED = 1
    READ = 2
    FAILED = 3


@dataclass
class DeliveryStatus:
    """How an answer fared; `platform_id` is what `Step.Done` named."""

    platform_id: str
    state: DeliveryState
    detail: str | None = None


@dataclass
class Interaction:
    """A click: the `value` of the choice."""

    identity: Identity
    value: str


class Event:
    """What a request tells."""

    Message: ClassVar[type[EventMessage]]
    Edit: ClassVar[type[EventEdit]]
    Deletion: ClassVar[type[EventDeletion]]
    Status: ClassVar[type[EventStatus]]
    Interaction: ClassVar[type[EventInteraction]]
    #: Understood and of no interest. The reason is counted.
    Ignored: ClassVar[type[EventIgnored]]


@case("Message")
@dataclass
class EventMessage(Event):
    value: Incoming


@case("Edit")
@dataclass
class EventEdit(Event):
    value: Edit


@case("Deletion")
@dataclass
class EventDeletion(Event):
    value: Change


@case("Status")
@dataclass
class EventStatus(Event):
    value: DeliveryStatus


@case("Interaction")
@dataclass
class EventInteraction(Event):
    value: Interaction


@case("Ignored")
@dataclass
class EventIgnored(Event):
    value: str


@dataclass
class Response:
    """A response: the platform's to a request, or one to the platform's own."""

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""

    @staticmethod
    def text(text: str) -> Response:
        """200 with a text."""
        return Response(200, [Header("content-type", "text/plain; charset=utf-8")], text.encode())

    def header(self, name: str) -> str | None:
        """The first header of this name, which is lower case."""
        return _find(self.headers, name)

    def retry_after_ms(self) -> int | None:
        """`Retry-After` in milliseconds, if it is there and a number of seconds."""
        seconds = (self.header("retry-after") or "").strip()
        return int(seconds) * 1_000 if seconds.isascii() and seconds.isdigit() else None


@dataclass
class Deferral:
    """How long the platform waits for an answer, at most 10,000 ms, and what it gets if none is there."""

    deadline_ms: int
    fallback: Response


class Acknowledgement:
    """The body of the response to the platform's own request."""

    #: 200 and an empty body.
    Plain: ClassVar[type[AcknowledgementPlain]]
    #: This response, after the events are kept.
    Now: ClassVar[type[AcknowledgementNow]]
    #: The answer to the first message, if it is there in time.
    Deferred: ClassVar[type[AcknowledgementDeferred]]


@case("Plain")
@dataclass
class AcknowledgementPlain(Acknowledgement):
    pass


@case("Now")
@dataclass
class AcknowledgementNow(Acknowledgement):
    value: Response


@case("Deferred")
@dataclass
class AcknowledgementDeferred(Acknowledgement):
    value: Deferral


@dataclass
class Inbound:
    """What a request means."""

    events: list[Event] = field(default_factory=list)
    acknowledgement: Acknowledgement = field(default_factory=AcknowledgementPlain)

    @staticmethod
    def one(event: Event) -> Inbound:
        """One event, acknowledged plainly."""
        return Inbound([event])

    @staticmethod
    def ignored(reason: str) -> Inbound:
        """Nothing of interest; the reason is counted."""
        return Inbound([Event.Ignored(reason)])

    @staticmethod
    def respond(response: Response) -> Inbound:
        """No event, but this response."""
        return Inbound([], Acknowledgement.Now(response))


@dataclass
class Target:
    """Where an answer goes. The values are the host's own."""

    #: Names and values of the manifest's `[[bind]]` entries; see `value`.
    bound: list[Header]
    #: What `receive` left in `Incoming.notes`.
    notes: str | None = None
    #: The platform's own request still waits for its response.
    waits: bool = False

    def value(self, name: str) -> str | None:
        """The value of a `[[bind]]` of the manifest."""
        return _find(self.bound, name)


@dataclass
class Outgoing:
    """An answer on its way out."""

    #: The host's id of this answer, for platforms that know idempotency keys.
    id: str
    agent: str
    reply: Reply


@dataclass
class Request:
    """A request to an `[endpoint.…]` of the manifest: method, address and credential are the host's."""

    endpoint: str
    headers: list[Header]
    body: bytes

    @staticmethod
    def json(endpoint: str, body: Any) -> Request:
        """A request with a JSON body."""
        headers = [Header("content-type", "application/json; charset=utf-8")]
        return Request(endpoint, headers, json.dumps(body, ensure_ascii=False).encode())


@dataclass
class Outbound:
    """A request, and what `sent` is told with its response."""

    request: Request
    state: str


class Step:
    """What comes next on the way out."""

    #: Send this, then call `sent`.
    Next: ClassVar[type[StepNext]]
    #: Delivered; the platform's id where it has one.
    Done: ClassVar[type[StepDone]]
    #: Try this step again, not before so many milliseconds.
    Retry: ClassVar[type[StepRetry]]
    #: It will never be delivered; the reason is for the operator.
    Permanent: ClassVar[type[StepPermanent]]

    @staticmethod
    def send(request: Request, state: str = "") -> Step:
        """Sends `request`, then calls `sent` with `state`."""
        return StepNext(Outbound(request, state))


@case("Next")
@dataclass
class StepNext(Step):
    value: Outbound


@case("Done")
@dataclass
class StepDone(Step):
    value: str | None = None


@case("Retry")
@dataclass
class StepRetry(Step):
    value: int


@case("Permanent")
@dataclass
class StepPermanent(Step):
    value: str


@dataclass
class Revision:
    """A look at an answer that is being made, or the answer in its place."""

    #: What the platform calls the post, as `Step.Done` named it; absent for the first.
    platform_id: str | None
    #: Greater each time, from 1.
    seq: int
    #: True for the kept answer, false for a draft.
    final: bool


class Channel:
    """Speaks a platform's language. Pure: no network, no secret, nothing but its arguments.

    Derive from it once, in `plugin.py`.
    """

    def init(self) -> None:
        """Called once when a version is loaded, before its memory is snapshotted. What it raises refuses the
        version."""

    def receive(self, frame: Frame, surroundings: Surroundings) -> Inbound:
        """Called once for each verified request. Raises `Rejection`."""
        raise Rejection.Other("this channel receives nothing")

    def render(self, outgoing: Outgoing, target: Target, state: str | None) -> Step:
        """Called first for each answer; `state` is the last journaled one after a restart. Raises `RenderingError`."""
        raise RenderingError.Other("this channel renders nothing")

    def sent(self, state: str, response: Response) -> Step:
        """Called with the platform's response to each request, also for 4xx and 5xx.

        Unless overridden: any 2xx has delivered the answer, 408, 425, 429 and 5xx ask to come again, and everything
        else is a refusal for good. Raises `RenderingError`.
        """
        status = response.status
        if 200 <= status < 300:
            return Step.Done(None)
        if status in (408, 425, 429) or 500 <= status < 600:
            wait_ms = response.retry_after_ms()
            return Step.Retry(_RETRY_MS if wait_ms is None else wait_ms)
        return Step.Permanent(f"the platform answered {status}")

    def update(self, outgoing: Outgoing, target: Target, revision: Revision) -> Step:
        """Progressive answers by editing, for channels with `[progress]` in the manifest.

        Not supported unless overridden: the answer is rendered then as if there were no drafts.
        """
        return Step.Permanent("this channel does not edit")


def _find(headers: list[Header], name: str) -> str | None:
    return next((header.value for header in headers if header.name == name), None)
