"""The channel by itself, in plain Python: `python -m unittest`."""

import unittest

from chela_sdk import Event, Frame, HttpFrame, Inbound, Rejection, Surroundings
from plugin import Pager


def received(body: str) -> Inbound:
    frame = Frame.Http(HttpFrame("POST", "/", "", [], body.encode()))
    return Pager().receive(frame, Surroundings("pager"))


class Tests(unittest.TestCase):
    def test_a_page_is_a_message(self) -> None:
        [event] = received('{"id": "p1", "from": "ann", "text": "help"}').events
        assert isinstance(event, Event.Message)
        self.assertEqual((event.value.identity.sender, event.value.text), ("ann", "help"))

    def test_anything_else_is_the_senders_fault(self) -> None:
        for body in ("{", "[]", '{"id": "p1"}'):
            with self.subTest(body), self.assertRaises(Rejection.Malformed):
                received(body)


if __name__ == "__main__":
    unittest.main()
