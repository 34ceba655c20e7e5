"""The agent by itself, in plain Python: `python -m unittest`."""

import unittest

from chela_sdk import ConfigError, ModelError, Speaker, Utterance
from chela_sdk.models import Role
from chela_sdk.testing import Host, turn
from plugin import Tutor

CONFIG = {"level": "a child"}


def tutor() -> Tutor:
    made = Tutor()
    made.init()
    return made


class Tests(unittest.TestCase):
    def test_it_asks_with_persona_and_past(self) -> None:
        asked, said = Utterance(Speaker.PERSON, None, "What is a tide?"), Utterance(Speaker.AGENT, "tutor", "The moon.")
        with Host(CONFIG).answer("Twice a day.") as host:
            reply = tutor().handle(turn("How often?", persona="You are patient.", past=[asked, said]))
        self.assertEqual(reply.text, "Twice a day.\n\n(Question 1.)")
        [request] = host.requests
        self.assertEqual(request.system, "You are patient.\nExplain for a child.")
        self.assertEqual([prompt.role for prompt in request.prompts], [Role.USER, Role.ASSISTANT, Role.USER])

    def test_it_counts(self) -> None:
        with Host(CONFIG).answer("One.").answer("Two."):
            made = tutor()
            made.handle(turn("First?"))
            self.assertIn("(Question 2.)", made.handle(turn("Second?")).text)

    def test_a_used_up_budget_is_said_politely(self) -> None:
        with Host(CONFIG).fail(ModelError.OverBudget("2.00 of 2.00")):
            self.assertIn("tomorrow", tutor().handle(turn("Why?")).text)

    def test_the_host_waits_for_a_provider_that_is_down(self) -> None:
        with Host(CONFIG).fail(ModelError.Unavailable("nobody answers")), self.assertRaises(ModelError.Unavailable):
            tutor().handle(turn("Why?"))

    def test_a_key_of_another_type_is_refused(self) -> None:
        with Host({"level": 3}), self.assertRaisesRegex(ConfigError, "config.level: expected text"):
            tutor()


if __name__ == "__main__":
    unittest.main()
