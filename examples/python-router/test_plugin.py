"""The router by itself, in plain Python: `python -m unittest`."""

import unittest

from chela_sdk import ConfigError, Decision, RoutingError
from chela_sdk.testing import Host, context, message
from plugin import Words

WORDS = {"billing": ["invoice", "refund"], "support": ["broken", "refund", "order"]}


def routed(text: str, *agents: str) -> Decision:
    with Host(config={"words": WORDS}):
        router = Words()
        router.init()
        return router.route(message(text), context(*agents))


class Tests(unittest.TestCase):
    def test_the_most_words_win(self) -> None:
        decision = routed("My order is broken: refund?", "support", "billing")
        self.assertEqual(decision.agent, "support")
        self.assertEqual([other.agent for other in decision.alternatives], ["billing"])
        self.assertEqual(decision.score, 0.75)

    def test_whoever_may_not_be_reached_is_not_chosen(self) -> None:
        self.assertEqual(routed("A refund, please", "billing").agent, "billing")

    def test_without_a_word_the_policy_chooses(self) -> None:
        with self.assertRaises(RoutingError.NoMatch):
            routed("Good morning", "support", "billing")

    def test_a_misspelt_key_is_refused(self) -> None:
        with Host(config={"wrods": WORDS}), self.assertRaisesRegex(ConfigError, "wrods"):
            Words().init()


if __name__ == "__main__":
    unittest.main()
