"""Turns the author's class into the functions of a component, and what it raises into the contract's errors.

Knows nothing of the bindings, so that it is tested in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .agent import Agent, AnsweringError, Outcome, Turn
from .channel import Channel, Frame, Inbound, Outgoing, Rejection, RenderingError, Response, Revision, Step
from .channel import Surroundings, Target
from .config import ConfigError
from .models import ModelError
from .router import Context, Decision, Router, RoutingError
from .types import HostError, Message, Reply
from .variant import Refusal


def plugin_class(module: ModuleType) -> type:
    """The one class of a module that derives from `Router`, `Agent` or `Channel`. `TypeError` for none or several."""
    kinds = (Router, Agent, Channel)
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    found = {each for each in own if issubclass(each, kinds)}
    # A class that others here derive from is their common part.
    last = [each for each in found if not any(each in other.__mro__[1:] for other in found)]
    if len(last) != 1:
        names = ", ".join(sorted(each.__name__ for each in last)) or "none"
        raise TypeError(f"{module.__name__}.py: one class derives from Router, Agent or Channel; found {names}")
    return last[0]


class Exports:
    """The functions. `wrap` makes of an error what the runtime takes for one of the contract."""

    def __init__(self, module: ModuleType, wrap: Callable[[Any], Exception]) -> None:
        self._class = plugin_class(module)
        self._wrap = wrap
        self._plugin: Any = None

    def init(self) -> None:
        """Makes the plugin. What it raises is a sentence for the operator: nobody's words are there yet."""
        try:
            self._ready()
        except ConfigError as error:
            raise self._wrap(str(error)) from None
        except Exception as error:
            raise self._wrap(f"{type(error).__name__}: {error} ({_place(error)})") from None

    def route(self, message: Message, context: Context) -> Decision:
        return self._call(RoutingError, Decision, lambda plugin: plugin.route(message, context))

    def handle(self, turn: Turn) -> Outcome:
        def outcome(plugin: Agent) -> Any:
            said = plugin.handle(turn)
            return Outcome.Reply(said) if isinstance(said, Reply) else said

        return self._call(AnsweringError, Outcome, outcome)

    def receive(self, frame: Frame, surroundings: Surroundings) -> Inbound:
        return self._call(Rejection, Inbound, lambda plugin: plugin.receive(frame, surroundings))

    def render(self, outgoing: Outgoing, target: Target, state: str | None) -> Step:
        return self._call(RenderingError, Step, lambda plugin: plugin.render(outgoing, target, state))

    def sent(self, state: str, response: Response) -> Step:
        return self._call(RenderingError, Step, lambda plugin: plugin.sent(state, response))

    def update(self, outgoing: Outgoing, target: Target, revision: Revision) -> Step:
        return self._call(RenderingError, Step, lambda plugin: plugin.update(outgoing, target, revision))

    def _ready(self) -> Any:
        """The plugin. Made here if the host keeps no snapshot of what `init` made."""
        if self._plugin is None:
            plugin = self._class()
            plugin.init()
            self._plugin = plugin
        return self._plugin

    def _call(self, kind: type[Refusal], wanted: type, work: Callable[[Any], Any]) -> Any:
        try:
            result = work(self._ready())
            if not isinstance(result, wanted):
                raise kind.Other(f"returned {type(result).__name__}, expected {wanted.__name__}")
            return result
        except kind as error:
            raise self._wrap(error) from None
        except (HostError, ModelError) as error:
            refused = AnsweringError.of(error) if kind is AnsweringError else kind.Other(error.value)
            raise self._wrap(refused) from None
        except Exception as error:
            # Its text may quote what people wrote, and this is read by operators: type and place are told.
            raise self._wrap(kind.Other(f"{type(error).__name__} in {_place(error)}")) from None


def _place(error: BaseException) -> str:
    """`plugin.py, line 12`: the innermost line that is not the sdk's. Not by `traceback`, which opens the sources, and
    a component has no files."""
    place, trace = "an unknown line", error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if "chela_sdk" not in path:
            place = f"{path.rsplit('/', 1)[-1]}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
