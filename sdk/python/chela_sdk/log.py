"""Lines for the operator. The host stamps them with plugin and version, and caps them.

Never write people's words here: logs are read by more eyes than conversations.
"""

from enum import Enum

from . import host
from .types import HostError


class Level(Enum):
    """How much a line matters."""

    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3


def write(level: Level, message: str) -> None:
    """Writes a line."""
    host.ask("log", "write", level, message, refusal=HostError)


def debug(message: str) -> None:
    """For somebody who looks for a fault."""
    write(Level.DEBUG, message)


def info(message: str) -> None:
    """Worth knowing."""
    write(Level.INFO, message)


def warn(message: str) -> None:
    """Something to look at."""
    write(Level.WARN, message)


def error(message: str) -> None:
    """Something is broken."""
    write(Level.ERROR, message)
