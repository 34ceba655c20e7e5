"""The guide's way from nothing to a live router, in Python and in JavaScript: each command as it stands there.

    author.py FOLDER      walks in FOLDER/Python and FOLDER/JavaScript, which are made anew

Called by `tests/languages.sh` with the program in `CHELA`. What is installed comes from the package registries.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from host import Browser

GUIDE = Path(__file__).parents[2] / "docs/guide/plugins.md"
CHELA = Path(os.environ["CHELA"]).resolve()
#: An interpreter is compiled in half a minute, on a busy machine in more.
PATIENCE_S = 300
#: The words before each block.
WAYS = {"Python": "In Python (3.11 or newer):", "JavaScript": "In JavaScript (Node.js 20 or newer):"}


def environment() -> dict[str, str]:
    """As an author has it: the program in the path, nothing of this test's own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PATH": f"{CHELA.parent}:{os.environ['PATH']}", "NO_COLOR": "1"}


def commands(label: str) -> list[str]:
    behind = GUIDE.read_text().split(label, 1)[1]
    return behind.split("```", 2)[1].strip().splitlines()[1:]


class Dev:
    """`chela dev` while it runs, and everything that it says."""

    def __init__(self, folder: Path) -> None:
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen([CHELA, "dev", "--port", "0"], cwd=folder, env=environment(), **pipe)
        self.lines: list[str] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def says(self, after: int, *words: str) -> tuple[int, str]:
        """The first line from `after` on that holds all of these, and the number behind it."""
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE_S:
            for at, line in enumerate(self.lines[after:], after):
                if all(word in line for word in words):
                    return at + 1, line
            time.sleep(0.05)
        raise AssertionError(f"{words} is not said:\n" + "\n".join(self.lines))

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, "\n".join(self.lines)


def walk(language: str, top: Path) -> None:
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    folder = top
    *lines, last = commands(WAYS[language])
    assert last == "chela dev", last
    for line in lines:
        if line.startswith("cd "):
            folder /= line.removeprefix("cd ")
            continue
        done = subprocess.run(["bash", "-euc", line], cwd=folder, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{language}: {line}\n{done.stdout}{done.stderr}"
    live(folder)


def live(folder: Path) -> None:
    dev = Dev(folder)
    try:
        at, line = dev.says(0, "http://", "/channels/web/")
        browser = Browser(SimpleNamespace(port=int(line.split(":")[2].split("/")[0])), "web")
        assert browser.ask("My order arrived broken")[1]["agent"] == "support"
        at, _ = dev.says(at, "web → support", "the word `broken`")
        manifest = folder / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('["broken"', '["late", "broken"'))
        at, _ = dev.says(at, "urgent", "promoted")
        assert browser.ask("My parcel is late")[1]["agent"] == "support"
        source = next(path for name in ("plugin.py", "plugin.js") if (path := folder / name).exists())
        whole = source.read_text()
        source.write_text(f"{whole}\nthis is no language")
        at, _ = dev.says(at, "SyntaxError" if source.suffix == ".py" else "this is no language")
        at, _ = dev.says(at, "what was built before serves on")
        assert browser.ask("It is late again")[1]["agent"] == "support"
    finally:
        dev.end()


def agent_and_channel(language: str, top: Path, tools: list[str]) -> None:
    """The other two templates, whose tools are those of the first."""
    lang = {"Python": "python", "JavaScript": "js"}[language]
    for kind in ("agent", "channel"):
        make = f"chela plugin new --kind {kind} --lang {lang} {kind}"
        subprocess.run(["bash", "-euc", make], cwd=top, env=environment(), check=True, capture_output=True)
        for tool in tools:
            (top / kind / tool).symlink_to(top / "urgent" / tool)
        test = {"Python": ".venv/bin/python -m unittest", "JavaScript": "npm test"}[language]
        for line in (test, "chela plugin test"):
            done = subprocess.run(
                ["bash", "-euc", line], cwd=top / kind, env=environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, f"{language} {kind}: {line}\n{done.stdout}{done.stderr}"


def main(folder: Path) -> None:
    for language, tools in (("Python", [".venv"]), ("JavaScript", ["node_modules"])):
        walk(language, folder / language)
        agent_and_channel(language, folder / language, tools)
        print(f"{language}: from nothing to a live router, as the guide says")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
