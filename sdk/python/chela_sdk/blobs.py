"""Files that are too large for a message: the agent's own, of one conversation. Grant: `blobs`."""

from . import host
from .types import HostError


def read(handle: str, offset: int) -> bytes:
    """At most 64 KiB from `offset`; nothing at the end. Raises `HostError`."""
    return host.ask("blobs", "read", handle, offset, refusal=HostError)


def write(name: str, media_type: str, content: bytes) -> str:
    """Keeps bytes; returns their handle. Raises `HostError`."""
    return host.ask("blobs", "write", name, media_type, content, refusal=HostError)
