"""The way to the host: a component's imports, or in plain Python the stand-in for tests.

The world of a component holds what `plugin.toml` asks for and nothing else, so an interface may be missing here. That
answers `not-granted`, as a capability does that is asked for and not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .variant import Refusal

if TYPE_CHECKING:
    from .models import ModelError
    from .types import HostError

#: The imports by name, put here by `component`. Absent in plain Python.
imports: dict[str, Any] | None = None


def ask(interface: str, function: str, *arguments: Any, refusal: type[HostError | ModelError]) -> Any:
    """Calls a function of the host. What it refuses is raised as the contract's own error, one of `refusal`."""
    if imports is None:
        from . import testing

        return getattr(testing.standing_in, f"{interface}_{function}")(*arguments)
    if interface not in imports:
        raise refusal.NotGranted(f"`{interface}` is not in `grants` or `optional` of plugin.toml")
    return checked(getattr(imports[interface], function), *arguments)


def checked(function: Any, *arguments: Any) -> Any:
    """Calls what may refuse. The runtime wraps a refusal in an exception of its own, which is taken off."""
    try:
        return function(*arguments)
    except Exception as error:
        refused = getattr(error, "value", None)
        if isinstance(refused, Refusal):
            raise refused from None
        raise
