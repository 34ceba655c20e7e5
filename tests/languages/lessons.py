"""The lessons in Python and JavaScript in a running host: loaded, asked, answered.

Called by `tests/languages.sh` with the program in `CHELA` and the folder of the built lessons in `BUILT`.
"""

import os
import time
import unittest
from pathlib import Path

from guide import block
from host import ANSWER_S, Browser, Host, Platform, chela, imports

BUILT = Path(os.environ["BUILT"])

MODELS = """
[provider.offline]
kind = "scripted"
script = "answers.toml"

[tier.fast]
chain = ["offline/any"]

[egress]
allow_loopback = true

[plugin.web-chat]
source = "builtin:web-chat"
"""

ANSWERS = """
[default]
say = "First of all. You said {last} to me. There is more to say."
chunk_ms = 10
"""

def source(lesson: str) -> str:
    return f'source = "{BUILT / lesson}"'


def prepared(name: str, configuration: str) -> Host:
    host = Host(BUILT.parent / "hosts" / name, MODELS + configuration)
    (host.folder / "answers.toml").write_text(ANSWERS)
    return host


class Lessons(unittest.TestCase):
    """What both languages have in common."""

    host: Host
    language: str
    #: The agent whose model call is relayed.
    relaying: str

    @classmethod
    def tearDownClass(cls) -> None:
        if hasattr(cls, "host"):
            cls.host.down()

    def imported(self, lesson: str) -> set[str]:
        return {name.removeprefix("chela:plugin/") for name in imports(self.host.folder, BUILT / lesson)}

    def routed(self, text: str) -> tuple[str, str]:
        """Who answered, and by whose choice."""
        _, answer = Browser(self.host, "web").ask(text)
        shown = chela(self.host.folder, "turn", "show", self.host.turn(text)["id"])[1]
        return answer["agent"], shown

    def drafted(self) -> None:
        drafts, answer = Browser(self.host, self.relaying).ask("hello")
        self.assertGreater(len(drafts), 3, "drafts were shown")
        self.assertTrue(answer["text"].startswith("".join(drafts).strip()), (drafts, answer))

    def refused(self, lesson: str, config: str) -> str:
        """What `chela check` says of an agent with such a configuration."""
        plugin = f'[plugin.p]\n{source(lesson)}\ngrants = ["models"]\n'
        agent = f'[agent.a]\nplugin = "p"\ntier = "fast"\nconfig = {{ {config} }}\n'
        (self.host.folder / "wrong.toml").write_text(f"{MODELS}\n{plugin}\n{agent}")
        well, said = chela(self.host.folder, "check", "--config", "wrong.toml")
        self.assertFalse(well, said)
        return said


class Python(Lessons):
    relaying = "chat"

    @classmethod
    def setUpClass(cls) -> None:
        cls.pager = Platform()
        cls.host = prepared(
            "python",
            f"""
[plugin.words]
{source("python-router")}

[plugin.words.config.words]
tutor = ["explain", "why"]
curt = ["quick"]

[plugin.tutor]
{source("python-agent")}
grants = ["models", "memory"]

[plugin.pager]
{source("python-channel")}

[agent.tutor]
plugin = "tutor"
tier = "fast"
outsiders = true

[agent.curt]
plugin = "tutor"
tier = "fast"
outsiders = true

[channel.web]
plugin = "web-chat"
default_agent = "tutor"

[channel.chat]
plugin = "web-chat"
default_agent = "tutor"
routed = false

[channel.pager]
plugin = "pager"
default_agent = "tutor"
config = {{ base_url = "{cls.pager.url}" }}
secrets = {{ shared = "env:SHARED", token = "env:TOKEN" }}

[routing]
router = "words"
""",
        )
        cls.host.up()

    def test_components_import_what_their_manifest_asks_for(self) -> None:
        self.assertEqual(self.imported("python-router"), {"types", "config", "log"})
        self.assertEqual(self.imported("python-agent"), {"types", "config", "log", "models", "memory"})
        self.assertEqual(self.imported("python-channel"), {"types", "config", "log"})

    def test_the_router_chooses(self) -> None:
        agent, shown = self.routed("a quick one")
        self.assertEqual(agent, "curt", shown)
        self.assertIn("1 of 1 known words", shown)
        agent, shown = self.routed("good morning")
        self.assertEqual(agent, "tutor", shown)
        self.assertIn("no word of any agent", shown)

    def test_the_agent_answers_with_drafts(self) -> None:
        self.drafted()

    def test_the_agent_remembers(self) -> None:
        browser = Browser(self.host, "chat")
        for count in (1, 2):
            _, answer = browser.ask(f"why {count}?")
            self.assertIn(f"(Question {count}.)", answer["text"])

    def test_the_channel_takes_and_sends(self) -> None:
        status, _ = self.host.signed("pager", {"id": time.time_ns(), "from": "ann", "text": "explain tides"})
        self.assertEqual(status, 200)
        path, body = self.pager.posts.get(timeout=ANSWER_S)
        self.assertEqual((path, body["to"]), ("/send", "ann"))
        self.assertIn("explain tides", body["text"])
        self.assertEqual(self.host.signed("pager", {"id": 8})[0], 400, "the sender's fault")

    def test_init_refuses_a_bad_configuration(self) -> None:
        said = self.refused("python-agent", "levle = 'a child'")
        self.assertIn("init says: config: unknown key `levle`, expected `level`", said)


class JavaScript(Lessons):
    relaying = "chat"

    @classmethod
    def setUpClass(cls) -> None:
        cls.host = prepared(
            "javascript",
            f"""
[plugin.languages]
{source("js-router")}

[plugin.languages.config.agents]
de = "short"

[plugin.brief]
{source("js-agent")}
grants = ["models"]

[plugin.form]
{source("js-channel")}

[agent.full]
plugin = "brief"
tier = "fast"
outsiders = true

[agent.short]
plugin = "brief"
tier = "fast"
outsiders = true
config = {{ sentences = 1 }}

[channel.web]
plugin = "web-chat"
default_agent = "full"

[channel.chat]
plugin = "web-chat"
default_agent = "full"
routed = false

[channel.form]
plugin = "form"
default_agent = "full"
secrets = {{ shared = "env:SHARED" }}

[routing]
router = "languages"
""",
        )
        cls.host.up()

    def test_components_import_what_their_manifest_asks_for(self) -> None:
        self.assertLessEqual(self.imported("js-router"), {"types", "config", "log"})
        self.assertIn("models", self.imported("js-agent"))
        self.assertLessEqual(self.imported("js-agent"), {"types", "config", "log", "models"})
        self.assertLessEqual(self.imported("js-channel"), {"types", "config", "log"})

    def test_the_router_chooses(self) -> None:
        agent, shown = self.routed("Wie ist das Wetter?")
        self.assertEqual(agent, "short", shown)
        self.assertIn("language de", shown)
        agent, shown = self.routed("What is the weather?")
        self.assertEqual(agent, "full", shown)
        self.assertIn("nobody here speaks en", shown)

    def test_the_agent_answers_with_drafts(self) -> None:
        self.drafted()

    def test_a_stream_that_is_left_is_cut(self) -> None:
        _, answer = Browser(self.host, "web").ask("Wie ist das Wetter?")
        self.assertEqual(answer["text"], "First of all.")

    def test_the_channel_answers_in_its_response(self) -> None:
        status, body = self.host.signed("form", {"id": f"{time.time_ns()}", "visitor": "v1", "question": "How long?"})
        self.assertEqual(status, 200)
        self.assertIn("You said How long?", body)
        self.assertIn('"visitor":"v1"', body)
        self.assertEqual(self.host.signed("form", {"id": "q2"})[0], 400, "the sender's fault")

    def test_init_refuses_a_bad_configuration(self) -> None:
        said = self.refused("js-agent", "sentences = 'one'")
        self.assertIn('init says: config.sentences: expected a number, found "one"', said)


class Everything(unittest.TestCase):
    """Every function of the sdk, at the real boundary."""

    @classmethod
    def setUpClass(cls) -> None:
        agents = (
            f"""
[plugin.{name}]
{source(name)}
grants = ["models", "memory", "knowledge"]

[agent.{name}]
plugin = "{name}"
tier = "fast"
knowledge = "documents"
outsiders = true

[channel.web-{name}]
plugin = "web-chat"
default_agent = "{name}"
"""
            for name in ("everything-python", "everything-js")
        )
        cls.host = prepared("everything", "".join(agents))
        (cls.host.folder / "documents").mkdir(exist_ok=True)
        (cls.host.folder / "documents/crab.md").write_text("# Crab\n\nA chela is the claw of a crab.\n")
        cls.host.up()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.host.down()

    def answered(self, name: str) -> None:
        _, answer = Browser(self.host, f"web-{name}").ask("hello")
        self.assertEqual(answer["text"], "14 as they should be")
        self.assertEqual([kind for block in answer["blocks"] for kind in block], ["link", "choices", "citation"])
        self.assertIn("every function is called", (self.host.folder / "up.log").read_text())

    def test_in_python(self) -> None:
        self.answered("everything-python")

    def test_in_javascript(self) -> None:
        self.answered("everything-js")


class Guide(unittest.TestCase):
    """What the guide shows is built and answers as it says."""

    def asked(self, folder: str) -> None:
        configuration = block("Python", "chela.toml").replace('source = "urgent"', source(folder))
        host = Host(BUILT.parent / "hosts" / folder, configuration)
        (host.folder / "answers.toml").write_text(block("Python", "answers.toml"))
        self.addCleanup(host.down)
        host.up()
        for text, agent in (("The shop is down", "duty"), ("Good morning", "desk")):
            _, answer = Browser(host, "web").ask(text)
            self.assertEqual((answer["agent"], answer["text"]), (agent, f"You said: {text}"))

    def test_in_python(self) -> None:
        self.asked("guide-python")

    def test_in_javascript(self) -> None:
        self.asked("guide-js")


del Lessons  # it has no host of its own


if __name__ == "__main__":
    unittest.main(verbosity=2)
