"""The world of one plugin: exactly what its `plugin.toml` asks for, out of the contract.

A component of Python imports its whole world, whether it calls it or not, and the host refuses an import that the
manifest does not ask for. So the worlds of the contract are too large, and each plugin gets one of its own.
"""

import shutil
import tomllib
from pathlib import Path
from typing import Any

#: The name of the world that is made.
WORLD = "this-plugin"

#: What a kind exports, and the grants that it may have. `history` has no interface, and agents have it anyway.
_KINDS: dict[str, tuple[str, set[str]]] = {
    "router": ("routing", {"models", "memory", "history"}),
    "agent": ("answering", {"models", "knowledge", "memory", "tools", "http", "blobs"}),
    "channel": ("translating", set()),
}

_CONTRACT = Path(__file__).parent.parent / "wit"


class ManifestError(Exception):
    """What is wrong with `plugin.toml`, as far as the world depends on it. The host checks the rest."""


def of(manifest: Path) -> str:
    """The text of the world of a manifest."""
    table = _parsed(manifest)
    kind = table.get("kind")
    if kind not in _KINDS:
        raise ManifestError(f"{manifest}: `kind` is {kind!r}, expected router, agent or channel")
    exported, allowed = _KINDS[kind]
    asked = sorted({*table.get("grants", []), *table.get("optional", [])})
    for grant in asked:
        if grant not in allowed:
            raise ManifestError(f"{manifest}: a plugin of kind {kind} cannot be granted `{grant}`")
    imports = "".join(f"    import {grant};\n" for grant in asked if grant != "history")
    return f"package chela:plugin@0.1.0;\n\nworld {WORLD} {{\n    include base;\n{imports}    export {exported};\n}}\n"


def _parsed(manifest: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{manifest} is not there; a plugin is a folder with plugin.toml and plugin.py") from None
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{manifest}: {error}") from None


def write(manifest: Path, folder: Path) -> None:
    """Writes the contract with that world into a new folder."""
    text = of(manifest)
    shutil.copytree(_CONTRACT, folder)
    (folder / "this-plugin.wit").write_text(text, encoding="utf-8")
