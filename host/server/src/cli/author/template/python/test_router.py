"""The router by itself, in plain Python: `python -m unittest`."""

import unittest

from chela_sdk import ConfigError, Decision, RoutingError
from chela_sdk.testing import Host, context, message
from plugin import Words


def routed(text: str, *agents: str) -> Decision:
    with Host(config={"agent": "support", "words": ["broken"]}):
        router = Words()
        router.init()
        return router.route(message(text), context(*agents))


class Tests(unittest.TestCase):
    def test_a_word_chooses(self) -> None:
        self.assertEqual(routed("It is BROKEN", "sales", "support").agent, "support")
        with self.assertRaises(RoutingError.NoMatch):
            routed("Good morning", "sales", "support")

    def test_whoever_may_not_be_reached_is_not_chosen(self) -> None:
        with self.assertRaises(RoutingError.NoMatch):
            routed("It is broken", "sales")

    def test_a_misspelt_key_is_refused(self) -> None:
        with Host(config={"agent": "support", "wrods": []}), self.assertRaisesRegex(ConfigError, "wrods"):
            Words().init()


if __name__ == "__main__":
    unittest.main()
