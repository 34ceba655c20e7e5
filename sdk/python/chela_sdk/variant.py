"""Variants of the contract: one class for each case, reached through the variant (`Step.Done`, `HostError.Limit`).

A case is a class and not a tag, because the runtime of a component tells the cases apart by their classes, and so do
`match` and `except`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

Case = TypeVar("Case", bound=type)


def case(name: str) -> Callable[[Case], Case]:
    """Makes the class under it the case `name` of the variant that it derives from."""

    def into_variant(cls: Case) -> Case:
        setattr(cls.__mro__[1], name, cls)
        return cls

    return into_variant


class Refusal(Exception):
    """A variant of errors. Its cases are made by `cases`, and each holds one sentence in `value`."""

    #: Each variant ends in this case, because variants of the contract are closed.
    Other: ClassVar[type[Refusal]]

    value: str

    def __init__(self, value: str = "") -> None:
        super().__init__(value)
        self.value = value


def cases(variant: type[Refusal], *names: str) -> None:
    """Gives a variant of errors its cases."""
    for name in names:
        members = {"__module__": variant.__module__, "__qualname__": f"{variant.__name__}.{name}"}
        setattr(variant, name, type(name, (variant,), members))
