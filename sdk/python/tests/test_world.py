"""The world of a plugin is what its manifest asks for."""

import tempfile
import unittest
from pathlib import Path

from chela_sdk.build import world


class Worlds(unittest.TestCase):
    def of(self, text: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder) / "plugin.toml"
            manifest.write_text(text)
            return world.of(manifest)

    def test_it_imports_what_is_asked_for_and_exports_the_kind(self) -> None:
        text = self.of('kind = "agent"\ngrants = ["models"]\noptional = ["memory"]')
        self.assertIn("import models;", text)
        self.assertIn("import memory;", text)
        self.assertIn("export answering;", text)
        self.assertNotIn("knowledge", text)
        self.assertNotIn("import", self.of('kind = "router"\ngrants = ["history"]'))
        self.assertNotIn("import", self.of('kind = "channel"'))

    def test_what_it_cannot_have_is_named(self) -> None:
        for text, words in [
            ('kind = "agnet"', "expected router, agent or channel"),
            ('kind = "channel"\ngrants = ["models"]', "cannot be granted `models`"),
            ('kind = "router"\noptional = ["http"]', "cannot be granted `http`"),
            ('kind = "agent"\ngrants = ["history"]', "cannot be granted `history`"),
            ("kind = agent", "line 1"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(world.ManifestError, words):
                self.of(text)
        with self.assertRaisesRegex(world.ManifestError, "is not there"):
            world.of(Path("/nowhere/plugin.toml"))

    def test_it_stands_beside_the_contract(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder) / "plugin.toml"
            manifest.write_text('kind = "router"')
            world.write(manifest, Path(folder) / "wit")
            names = {path.name for path in (Path(folder) / "wit").iterdir()}
        self.assertLessEqual({"worlds.wit", "types.wit", "this-plugin.wit"}, names)


if __name__ == "__main__":
    unittest.main()
