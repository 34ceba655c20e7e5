"""The agent's own documents. Grant: `knowledge`."""

from dataclasses import dataclass

from . import host
from .types import HostError


@dataclass
class Passage:
    """A piece of a document."""

    #: File and heading, as a person would name it: `returns.md › Refunds`.
    source: str
    text: str
    #: Higher is better; comparable within one search only.
    score: float


def search(query: str, limit: int) -> list[Passage]:
    """The best passages, best first; `limit` is 1 to 20. Words of any form; no query syntax. Raises `HostError`."""
    return host.ask("knowledge", "search", query, limit, refusal=HostError)
