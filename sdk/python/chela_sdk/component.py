"""What a component starts from: joins the author's `plugin.py` to the contract. Runs in components only.

The bindings are made anew by componentize-py for each component. Their classes for records and variants are plain; the
sdk's have defaults and methods. The runtime asks the bindings for each class by its name, once, after this module has
been loaded; so the sdk's are put there under these names, and nothing is converted in a call. The runtime fills a record
by position. A class that has no stand-in, or one with other fields or in another order, is a mistake of the sdk and ends
the build.
"""

import importlib
import io
import pkgutil
import sys
from dataclasses import fields, is_dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import wit_world.exports
import wit_world.imports
from componentize_py_types import Err

import chela_sdk
from chela_sdk import host, log
from chela_sdk.export import Exports

#: Whose classes stand in for those of an exported interface; an import's module has its own name.
_EXPORTED = {"routing": "router", "answering": "agent", "translating": "channel"}


def _join(bound: ModuleType, own: ModuleType) -> None:
    """Puts the sdk's classes into a module of the bindings."""
    for name, generated in list(vars(bound).items()):
        made_there = isinstance(generated, type) and generated.__module__ == bound.__name__
        if not made_there or not (is_dataclass(generated) or issubclass(generated, Enum)):
            continue
        stand_in: Any = own
        for part in name.split("_"):
            stand_in = getattr(stand_in, part)
        if (ours := _shape(stand_in)) != (theirs := _shape(generated)):
            raise TypeError(f"{bound.__name__}.{name} is {theirs}, and the sdk's is {ours}")
        setattr(bound, name, stand_in)


def _shape(cls: type) -> list[str]:
    """Names of what is in it. Errors hold one sentence."""
    if issubclass(cls, Enum):
        return list(cls.__members__)
    return [field.name for field in fields(cls)] if is_dataclass(cls) else ["value"]


def _modules(package: ModuleType) -> dict[str, ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}


host.imports = _modules(wit_world.imports)
for _name, _module in host.imports.items():
    # `config` is a function in the package; the module of that name has no classes.
    _join(_module, sys.modules[f"chela_sdk.{_name}"])
for _name, _module in _modules(wit_world.exports).items():
    if _name in _EXPORTED:
        _join(_module, getattr(chela_sdk, _EXPORTED[_name]))

# After the above, so that what the author makes while it is loaded is already of the right classes.
import plugin  # noqa: E402

_exports = Exports(plugin, Err)


class _Printed(io.TextIOBase):
    """What is printed goes to the log, line by line. A component has no other output: printing would end the call."""

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            log.info(line)
        return len(text)


# From here on: while the component is built, there is a real output and no log.
sys.stdout = sys.stderr = _Printed()


class WitWorld:
    """The functions at the root."""

    init = staticmethod(_exports.init)


class Routing:
    """`chela:plugin/routing`."""

    route = staticmethod(_exports.route)


class Answering:
    """`chela:plugin/answering`."""

    handle = staticmethod(_exports.handle)


class Translating:
    """`chela:plugin/translating`."""

    receive = staticmethod(_exports.receive)
    render = staticmethod(_exports.render)
    sent = staticmethod(_exports.sent)
    update = staticmethod(_exports.update)
