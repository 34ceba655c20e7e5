"""The plugin's own configuration."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from . import host
from .types import HostError

T = TypeVar("T")

#: What a JSON value is called where it has another type than the one that is wanted.
_CALLED = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}


class ConfigError(Exception):
    """A sentence for the operator that names the key. Raised from `init`, it refuses the version."""


def config_json() -> str:
    """The `config` table of this plugin (or agent, or channel) as one JSON object, `{}` if there is none."""
    return host.ask("config", "json", refusal=HostError)


def config(shape: type[T]) -> T:
    """The same, read into a dataclass. Usually in `init`.

    An unknown key, a missing one (a field without a default) or one of another type raises `ConfigError` with a
    sentence that names it. Fields may be `str`, `int`, `float`, `bool`, `list[...]`, `dict`, another dataclass, and
    any of these `| None`.
    """
    return _read(shape, json.loads(config_json()), "config")


def _read(shape: type[T], table: dict[str, Any], where: str) -> T:
    kinds = get_type_hints(shape)
    known = {field.name: field for field in fields(shape)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            names = ", ".join(f"`{name}`" for name in known) or "nothing"
            raise ConfigError(f"{where}: unknown key `{key}`, expected {names}")
    for name, field in known.items():
        if name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{where}: `{name}` is missing")
    return shape(**{key: _value(kinds[key], value, f"{where}.{key}") for key, value in table.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(value, dict):
        return _read(kind, value, where)  # type: ignore[arg-type]
    inner = get_args(kind)
    if type(None) in inner:
        return _value(next(each for each in inner if each is not type(None)), value, where)
    plain = getattr(kind, "__origin__", kind)
    if plain is list and inner and isinstance(value, list):
        return [_value(inner[0], each, f"{where}[{at}]") for at, each in enumerate(value)]
    if plain is float and type(value) is int:
        return float(value)
    if isinstance(plain, type) and type(value) is not plain:
        wanted = _CALLED.get(plain, "a table")
        raise ConfigError(f"{where}: expected {wanted}, found {json.dumps(value)}")
    return value
