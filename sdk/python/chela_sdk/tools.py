"""Tools behind the host. Grant: `tools`. Hosts of this contract may answer `not-granted`."""

from dataclasses import dataclass

from . import host
from .types import HostError


@dataclass
class Tool:
    """What may be called."""

    name: str
    description: str
    #: JSON Schema of the arguments.
    schema: str


def list_tools(after: str | None = None) -> list[Tool]:
    """One page of the tools this agent may call; `after` is the last name of the page before. Raises `HostError`."""
    return host.ask("tools", "list_tools", after, refusal=HostError)


def call(name: str, arguments: str) -> str:
    """Calls a tool; `arguments` and the result are JSON texts. Raises `HostError`."""
    return host.ask("tools", "call", name, arguments, refusal=HostError)
