"""The channel by itself, in plain Python: `python -m unittest`."""

import json
import unittest

from chela_sdk import (
    Event,
    Frame,
    Header,
    HttpFrame,
    Inbound,
    Outgoing,
    Rejection,
    Reply,
    Response,
    Step,
    Surroundings,
    Target,
)
from plugin import CHARACTERS_MAX, Pager


def received(body: str) -> Inbound:
    frame = Frame.Http(HttpFrame("POST", "/", "", [], body.encode()))
    return Pager().receive(frame, Surroundings("pager"))


def rendered(text: str) -> dict[str, str]:
    """The body that is sent."""
    step = Pager().render(Outgoing("o1", "support", Reply(text)), Target([Header("to", "ann")]), None)
    assert isinstance(step, Step.Next)
    body: dict[str, str] = json.loads(step.value.request.body)
    return body


class Tests(unittest.TestCase):
    def test_a_page_is_a_message(self) -> None:
        [event] = received('{"id": 7, "from": "ann", "text": "help"}').events
        assert isinstance(event, Event.Message)
        self.assertEqual(event.value.identity.dedupe, [["7"]])
        self.assertEqual((event.value.identity.sender, event.value.text), ("ann", "help"))

    def test_anything_else_is_the_senders_fault(self) -> None:
        for body in ("{", "[]", '{"id": 7}', "\N{SNOWMAN}"):
            with self.subTest(body), self.assertRaises(Rejection.Malformed):
                received(body)

    def test_an_answer_goes_to_whom_the_host_says_and_fits(self) -> None:
        body = rendered("x" * 1_000)
        self.assertEqual((body["to"], len(body["text"])), ("ann", CHARACTERS_MAX))
        self.assertEqual(rendered("fine"), {"to": "ann", "text": "fine"})

    def test_a_busy_pager_is_tried_again(self) -> None:
        self.assertEqual(Pager().sent("", Response(429, [Header("retry-after", "7")])), Step.Retry(7_000))
        self.assertEqual(Pager().sent("", Response(204)), Step.Done(None))


if __name__ == "__main__":
    unittest.main()
