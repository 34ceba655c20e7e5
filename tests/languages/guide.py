"""The plugins that the guide shows, as folders to be built: what it says is what is tested.

    guide.py FOLDER      writes FOLDER/guide-python and FOLDER/guide-js, where they have changed
"""

import re
import sys
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs/guide/plugins.md"


def block(language: str, label: str) -> str:
    """The block behind `label` in the section `In LANGUAGE`."""
    section = re.split(rf"^## In {language}$", GUIDE.read_text(), flags=re.MULTILINE)[1].split("\n## ")[0]
    behind = section.split(f"`{label}`", 1)[1]
    return behind.split("```", 2)[1].split("\n", 1)[1]


def write(path: Path, text: str) -> None:
    """Writes what has changed, so that nothing else is built again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main(folder: Path) -> None:
    manifest = block("Python", "urgent/plugin.toml")
    write(folder / "guide-python/plugin.py", block("Python", "urgent/plugin.py"))
    write(folder / "guide-python/plugin.toml", manifest)
    write(folder / "guide-js/plugin.js", block("JavaScript", "urgent/plugin.js"))
    write(folder / "guide-js/plugin.toml", manifest)
    write(folder / "guide-js/package.json", '{ "type": "module" }\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
