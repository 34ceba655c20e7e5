"""The sdk in plain Python: configuration, the stand-in, and what leaves a component."""

import unittest
from dataclasses import dataclass
from types import ModuleType

import chela_sdk
from chela_sdk import (
    Agent,
    AnsweringError,
    Channel,
    ConfigError,
    Decision,
    Header,
    HostError,
    ModelError,
    Outcome,
    Rejection,
    Reply,
    Response,
    Router,
    RoutingError,
    Step,
    config,
    knowledge,
    log,
    memory,
    tools,
)
from chela_sdk.export import Exports, plugin_class
from chela_sdk.memory import Scope
from chela_sdk.models import Request
from chela_sdk.testing import Host, context, message, turn


@dataclass
class Inner:
    names: list[str]


@dataclass
class Shape:
    text: str
    share: float = 0.5
    most: int | None = None
    inner: Inner | None = None


class Configuration(unittest.TestCase):
    def read(self, **table: object) -> Shape:
        with Host(config=table):
            return config(Shape)

    def test_it_is_read_into_a_dataclass(self) -> None:
        self.assertEqual(self.read(text="a"), Shape("a"))
        self.assertEqual(self.read(text="a", share=1, most=3), Shape("a", 1.0, 3))
        self.assertEqual(self.read(text="a", inner={"names": ["b"]}).inner, Inner(["b"]))

    def test_a_mistake_is_named(self) -> None:
        for table, words in [
            ({}, "`text` is missing"),
            ({"text": "a", "txt": 1}, "unknown key `txt`, expected `text`"),
            ({"text": 1}, "config.text: expected text, found 1"),
            ({"text": "a", "most": True}, "config.most: expected a whole number, found true"),
            ({"text": "a", "most": 1.5}, "config.most: expected a whole number"),
            ({"text": "a", "inner": {"names": [1]}}, r"config.inner.names\[0\]: expected text"),
            ({"text": "a", "inner": {"nam": []}}, "config.inner: unknown key `nam`"),
            ({"text": "a", "inner": 3}, "config.inner: expected a table"),
        ]:
            with self.subTest(words), self.assertRaisesRegex(ConfigError, words):
                self.read(**table)


class TheStandIn(unittest.TestCase):
    def test_it_answers_in_order_and_tells_what_it_saw(self) -> None:
        with Host().answer("one two").fail(ModelError.Refused("no")) as host:
            with Request("a", tier="fast").stream() as stream:
                self.assertEqual(next(stream), "one ")
                with self.assertRaises(ModelError.Invalid):
                    stream.completion()
                self.assertEqual(list(stream), ["two"])
                self.assertEqual(stream.completion().text, "one two")
            with self.assertRaises(ModelError.Refused):
                Request("b").complete()
            with self.assertRaises(ModelError.NotGranted):
                Request("c").relay()
            log.warn("careful")
        self.assertEqual([request.prompts[0].text for request in host.requests], ["a", "b", "c"])
        self.assertEqual(host.lines, [(log.Level.WARN, "careful")])

    def test_memory_counts_versions(self) -> None:
        with Host():
            self.assertIsNone(memory.get(Scope.USER, "k"))
            self.assertEqual(memory.set(Scope.USER, "k", "a"), 1)
            self.assertFalse(memory.compare_and_set(Scope.USER, "k", 0, "b"))
            self.assertTrue(memory.compare_and_set(Scope.USER, "k", 1, "c"))
            self.assertEqual(memory.get(Scope.USER, "k"), memory.Entry("c", 2))
            self.assertIsNone(memory.get(Scope.AGENT, "k"))

    def test_what_is_not_lent_is_not_granted(self) -> None:
        with self.assertRaises(HostError.NotGranted):
            knowledge.search("x", 3)
        with self.assertRaises(HostError.NotGranted):
            tools.call("x", "{}")
        with Host().passage("a", "b").passage("c", "d"):
            self.assertEqual([passage.source for passage in knowledge.search("x", 1)], ["a"])


class Wrapped(Exception):
    """Stands for the runtime's own error."""

    def __init__(self, value: object) -> None:
        super().__init__(value)
        self.value = value


def exports(kind: type, **members: object) -> Exports:
    module = ModuleType("plugin")
    module.Plugin = type("Plugin", (kind,), {**members, "__module__": "plugin"})  # type: ignore[attr-defined]
    return Exports(module, Wrapped)


class WhatLeavesAComponent(unittest.TestCase):
    def refused(self, call: object, *arguments: object) -> object:
        with self.assertRaises(Wrapped) as raised:
            call(*arguments)  # type: ignore[operator]
        return raised.exception.value

    def handled(self, error: Exception) -> object:
        def handle(*_: object) -> None:
            raise error

        return self.refused(exports(Agent, handle=handle).handle, turn("hello"))

    def test_a_reply_is_an_outcome(self) -> None:
        said = exports(Agent, handle=lambda *_: Reply("hi")).handle(turn("hello"))
        self.assertEqual(said, Outcome.Reply(Reply("hi")))

    def test_init_says_why_and_where(self) -> None:
        def init(_: object) -> None:
            config(Shape)

        self.assertEqual(self.refused(exports(Agent, init=init).init), "config: `text` is missing")
        said = self.refused(exports(Agent, init=lambda _: {}["no"]).init)
        self.assertRegex(str(said), r"KeyError: 'no' \(test_sdk.py, line \d+\)")

    def test_errors_of_the_host_become_the_turns(self) -> None:
        for error, expected in [
            (HostError.Limit("full"), AnsweringError.Unavailable),
            (HostError.Invalid("key"), AnsweringError.Other),
            (ModelError.OverBudget("spent"), AnsweringError.Unavailable),
            (ModelError.Refused("no"), AnsweringError.Unsuitable),
            (AnsweringError.Unsuitable("no"), AnsweringError.Unsuitable),
        ]:
            with self.subTest(expected):
                found = self.handled(error)
                self.assertIs(type(found), expected)
                self.assertEqual(found.value, error.value)  # type: ignore[attr-defined]

    def test_peoples_words_do_not_leave_in_an_error(self) -> None:
        found = self.handled(ValueError("what somebody wrote"))
        self.assertRegex(found.value, r"^ValueError in test_sdk.py, line \d+$")  # type: ignore[attr-defined]

    def test_what_is_no_result_is_named(self) -> None:
        found = self.refused(exports(Router, route=lambda *_: "sales").route, message("a"), context("sales"))
        self.assertEqual(found.value, "returned str, expected Decision")  # type: ignore[attr-defined]

    def test_defaults_refuse(self) -> None:
        self.assertIsInstance(self.refused(exports(Agent).handle, turn("a")), AnsweringError.Other)
        routed = self.refused(exports(Router).route, message("a"), context("b"))
        self.assertIsInstance(routed, RoutingError.NoMatch)
        self.assertIsInstance(self.refused(exports(Channel).receive, None, None), Rejection.Other)

    def test_a_module_has_one_plugin(self) -> None:
        module = ModuleType("plugin")
        with self.assertRaisesRegex(TypeError, "found none"):
            plugin_class(module)
        base = module.Base = type("Base", (Agent,), {"__module__": "plugin"})  # type: ignore[attr-defined]
        module.Imported = Decision  # type: ignore[attr-defined]
        self.assertIs(plugin_class(module), base)
        own = module.Own = type("Own", (base,), {"__module__": "plugin"})  # type: ignore[attr-defined]
        self.assertIs(plugin_class(module), own)
        module.Other = type("Other", (Router,), {"__module__": "plugin"})  # type: ignore[attr-defined]
        with self.assertRaisesRegex(TypeError, "found Other, Own"):
            plugin_class(module)


class Channels(unittest.TestCase):
    def test_a_platforms_status_decides_unless_the_adapter_does(self) -> None:
        def sent(status: int, *headers: Header) -> Step:
            return Channel().sent("", Response(status, list(headers)))

        self.assertEqual(sent(204), Step.Done(None))
        self.assertEqual(sent(503), Step.Retry(1_000))
        self.assertEqual(sent(429, Header("retry-after", "7")), Step.Retry(7_000))
        self.assertEqual(sent(429, Header("retry-after", "soon")), Step.Retry(1_000))
        self.assertIsInstance(sent(404), Step.Permanent)


class Names(unittest.TestCase):
    def test_every_public_name_is_there(self) -> None:
        for name in chela_sdk.__all__:
            self.assertTrue(hasattr(chela_sdk, name), name)


if __name__ == "__main__":
    unittest.main()
