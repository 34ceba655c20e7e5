"""Requests to where the manifest's `[[http]]` says. Grant: `http`."""

from dataclasses import dataclass, field

from . import host
from .types import HostError


@dataclass
class Header:
    """A header."""

    name: str
    value: str


@dataclass
class Request:
    """What is sent."""

    method: str
    url: str
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    #: A credential of the host's configuration, put in at the edge: named, never seen.
    credential: str | None = None


@dataclass
class Response:
    """What came back; any status is a response."""

    status: int
    headers: list[Header]
    body: bytes


def fetch(request: Request) -> Response:
    """Sends a request. Raises `HostError`."""
    return host.ask("http", "fetch", request, refusal=HostError)
