"""The agent by itself, in plain Python: `python -m unittest`."""

import unittest

from chela_sdk import ModelError
from chela_sdk.testing import Host, turn
from plugin import Tutor

CONFIG = {"level": "a child"}


def tutor() -> Tutor:
    made = Tutor()
    made.init()
    return made


class Tests(unittest.TestCase):
    def test_it_asks_with_its_persona_and_says_what_it_heard(self) -> None:
        with Host(CONFIG).answer("Twice a day.") as host:
            reply = tutor().handle(turn("How often is high tide?", persona="Be patient."))
        self.assertEqual(reply.text, "Twice a day.")
        self.assertEqual(host.requests[0].system, "Be patient.\nExplain it for a child.")

    def test_a_used_up_budget_is_said_politely(self) -> None:
        with Host(CONFIG).fail(ModelError.OverBudget("2.00 of 2.00")):
            self.assertIn("tomorrow", tutor().handle(turn("Why?")).text)


if __name__ == "__main__":
    unittest.main()
