"""Small values that outlive a turn. Grant: `memory`.

Keys: 1 to 128 bytes. Values: at most the limit in the configuration, 16 KiB by default. All calls raise `HostError`.
"""

from dataclasses import dataclass
from enum import Enum

from . import host
from .types import HostError


class Scope(Enum):
    """Whom a value belongs to. Never shared between tenants or agents."""

    CONVERSATION = 0
    USER = 1
    AGENT = 2


@dataclass
class Entry:
    """What is kept under a key."""

    value: str
    #: Starts at 1, grows with each write.
    version: int


def get(scope: Scope, key: str) -> Entry | None:
    """The value and its version."""
    return host.ask("memory", "get", scope, key, refusal=HostError)


def set(scope: Scope, key: str, value: str) -> int:
    """Writes, whatever was there. Returns the new version."""
    return host.ask("memory", "set", scope, key, value, refusal=HostError)


def compare_and_set(scope: Scope, key: str, expected: int, value: str) -> bool:
    """Writes only if the version is still `expected` (0: if there is none). False: somebody was faster."""
    return host.ask("memory", "compare_and_set", scope, key, expected, value, refusal=HostError)
