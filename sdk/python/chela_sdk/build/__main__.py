"""`python -m chela_sdk.build FOLDER` makes `FOLDER/plugin.wasm` of `plugin.py` and `plugin.toml` there."""

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from chela_sdk.build import world
from chela_sdk.export import plugin_class

_TOOL = "componentize-py==0.25.0"
_SDK = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chela_sdk.build", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds plugin.toml and plugin.py")
    parser.add_argument("--output", type=Path, help="default: FOLDER/plugin.wasm")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    output: Path = (arguments.output or folder / "plugin.wasm").resolve()
    if importlib.util.find_spec("componentize_py") is None:
        return _failed(f"componentize-py is missing; run: {sys.executable} -m pip install '{_TOOL}'")
    try:
        world.of(folder / "plugin.toml")
    except world.ManifestError as error:
        return _failed(str(error))
    if not (folder / "plugin.py").is_file():
        return _failed(f"{folder / 'plugin.py'} is not there; a plugin is a folder with plugin.toml and plugin.py")
    return _load(folder) or _componentize(folder, output)


def _load(folder: Path) -> int:
    """Loads the plugin in plain Python first: its author's mistakes are shown as Python shows them."""
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        plugin_class(importlib.import_module("plugin"))
    except Exception as error:
        # From the author's own line on: the frames above are this file's and the import system's.
        trace = error.__traceback__
        while trace and not trace.tb_frame.f_code.co_filename.startswith(str(folder)):
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        return 1
    return 0


def _componentize(folder: Path, output: Path) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        wit, made = Path(scratch) / "wit", Path(scratch) / "plugin.wasm"
        world.write(folder / "plugin.toml", wit)
        tool = [sys.executable, "-c", "import sys, componentize_py; sys.exit(componentize_py.script())"]
        what = ["-d", str(wit), "-w", world.WORLD, "componentize", "--stub-wasi", "-o", str(made)]
        where = ["-p", str(folder), "-p", str(_SDK.parent), "chela_sdk.component"]
        quiet = {**os.environ, "RUST_BACKTRACE": "0"}
        done = subprocess.run([*tool, *what, *where], capture_output=True, text=True, check=False, env=quiet)
        if done.returncode != 0:
            # What the tool adds behind the author's traceback repeats its last line.
            return _failed((done.stdout + done.stderr).split("\n\nCaused by:")[0])
        # In one step, and beside its place: a host that watches the folder never reads half of it.
        beside = output.with_suffix(".new")
        beside.write_bytes(made.read_bytes())
        os.replace(beside, output)
    size = output.stat().st_size / 1e6
    print(f"{os.path.relpath(output)}: {size:.1f} MB in {time.monotonic() - began:.1f} s")
    return 0


def _failed(text: str) -> int:
    print(text.rstrip(), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
