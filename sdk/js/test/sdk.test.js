// The sdk in Node: configuration, the stand-in, and what leaves a component.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Agent, AnsweringError, Channel, config, Decision, HostError, knowledge, log, memory, ModelError, models, Outcome,
  Reply, Response, Router, Step, tools,
} from "../src/index.js";
import { component } from "../src/component.js";
import { host } from "../src/host.js";
import { context, Host, message, turn } from "../src/testing.js";

const shape = { text: String, most: 3, names: [], inner: {} };
const read = (table) => new Host(table).run(() => config(shape));

test("the configuration is read after its shape", () => {
  assert.deepEqual(read({ text: "a" }), { text: "a", most: 3, names: [], inner: {} });
  assert.deepEqual(read({ text: "a", most: 1, names: ["b"] }).names, ["b"]);
});

test("a mistake in the configuration is named", () => {
  for (const [table, words] of [
    [{}, /`text` is missing/],
    [{ text: "a", txt: 1 }, /unknown key `txt`, expected `text`/],
    [{ text: 1 }, /config.text: expected text, found 1/],
    [{ text: "a", most: true }, /config.most: expected a number, found true/],
    [{ text: "a", names: {} }, /config.names: expected a list/],
    [{ text: "a", inner: [] }, /config.inner: expected a table/],
    [{ text: "a", constructor: 1 }, /unknown key `constructor`/],
  ]) {
    assert.throws(() => read(table), words);
  }
});

test("the stand-in answers in order and tells what it saw", () => {
  const seen = new Host().answer("one two").answer("three four").fail(ModelError.refused("no"));
  seen.run(() => {
    const stream = new models.Request("a", { tier: "fast" }).stream();
    assert.deepEqual(stream.next(), { done: false, value: "one " });
    assert.throws(() => stream.completion(), { tag: "invalid" });
    assert.deepEqual([...stream], ["two"]);
    assert.equal(stream.completion().text, "one two");
    for (const piece of new models.Request("b").stream()) {
      assert.equal(piece, "three ");
      break;
    }
    assert.throws(() => new models.Request("c").complete(), { tag: "refused", message: "no" });
    assert.throws(() => new models.Request("d").relay(), { tag: "not-granted" });
    log.warn("careful");
  });
  assert.deepEqual(seen.requests.map(({ prompts }) => prompts[0].text), ["a", "b", "c", "d"]);
  assert.deepEqual(seen.lines, [["warn", "careful"]]);
});

test("leaving a loop early cancels the call", () => {
  let cancelled = 0;
  const reader = { next: () => "piece", completion() {}, [Symbol.dispose]: () => (cancelled += 1) };
  const before = host.imports;
  host.imports = { models: { stream: () => reader } };
  try {
    for (const piece of new models.Request("a").stream()) if (piece) break;
  } finally {
    host.imports = before;
  }
  assert.equal(cancelled, 1);
});

test("memory counts versions", () => {
  new Host().run(() => {
    assert.equal(memory.get("user", "k"), undefined);
    assert.equal(memory.set("user", "k", "a"), 1n);
    assert.equal(memory.compareAndSet("user", "k", 0, "b"), false);
    assert.equal(memory.compareAndSet("user", "k", 1n, "c"), true);
    assert.deepEqual(memory.get("user", "k"), { value: "c", version: 2n });
    assert.equal(memory.get("agent", "k"), undefined);
  });
});

test("what is not lent is not granted", () => {
  assert.throws(() => knowledge.search("x", 3), { tag: "not-granted" });
  assert.throws(() => tools.call("x", "{}"), { tag: "not-granted" });
  new Host().passage("a", "b").passage("c", "d").run(() => assert.equal(knowledge.search("x", 1).length, 1));
});

/** The exports of a component with such a plugin; the imports are those of the stand-in. */
const exported = (Kind, members) => {
  class Plugin extends Kind {}
  Object.assign(Plugin.prototype, members);
  const made = component(Plugin, undefined);
  return { ...made, handle: made.answering.handle, route: made.routing.route };
};

const refused = (call, ...args) => {
  try {
    call(...args);
  } catch (error) {
    return error.payload;
  }
  return assert.fail("nothing was thrown");
};

const handled = (error) => refused(exported(Agent, { handle() { throw error; } }).handle, turn("hello"));

test("a reply is an outcome", () => {
  const said = exported(Agent, { handle: () => new Reply("hi") }).handle(turn("hello"));
  assert.deepEqual(said, Outcome.reply(new Reply("hi")));
});

test("init says why and where", () => {
  assert.equal(refused(exported(Agent, { init: () => config(shape) }).init), "config: `text` is missing");
  const said = refused(exported(Agent, { init: function prepare() { undefined.x; } }).init);
  assert.match(said, /^TypeError: .*prepare\)$/);
  assert.match(refused(exported(Agent, { async init() {} }).init), /must not be async/);
});

test("errors of the host become the turn's", () => {
  for (const [error, tag] of [
    [HostError.limit("full"), "unavailable"],
    [HostError.invalid("key"), "other"],
    [ModelError.overBudget("spent"), "unavailable"],
    [ModelError.refused("no"), "unsuitable"],
    [AnsweringError.unsuitable("no"), "unsuitable"],
  ]) {
    assert.deepEqual(handled(error), { tag, val: error.message });
  }
});

test("people's words do not leave in an error", () => {
  const { tag, val } = handled(new RangeError("what somebody wrote"));
  assert.equal(tag, "other");
  assert.match(val, /^RangeError in /);
  assert.doesNotMatch(val, /somebody/);
});

test("what is no result is named", () => {
  const routed = (route) => refused(exported(Router, { route }).route, message("a"), context(["sales"])).val;
  assert.match(routed(() => "sales"), /`route` returned sales/);
  assert.match(routed(() => undefined), /`route` returned undefined/);
  assert.match(routed(async () => new Decision("sales")), /must not be async/);
});

test("defaults refuse", () => {
  assert.equal(refused(exported(Agent).handle, turn("a")).tag, "other");
  assert.equal(refused(exported(Router).route, message("a"), context(["b"])).tag, "no-match");
  assert.equal(refused(exported(Channel).translating.receive, { tag: "http", val: {} }, {}).tag, "other");
});

test("a plugin is a class of one of the three kinds", () => {
  for (const wrong of [undefined, {}, class {}, () => {}]) {
    assert.throws(() => component(wrong, undefined), /extends Router, Agent or Channel/);
  }
});

test("a platform's status decides unless the adapter does", () => {
  const sent = (status, headers) => new Channel().sent("", new Response(status, headers));
  assert.deepEqual(sent(204), Step.done());
  assert.deepEqual(sent(503), Step.retry(1_000));
  assert.deepEqual(sent(429, [{ name: "retry-after", value: "7" }]), Step.retry(7_000));
  assert.deepEqual(sent(429, [{ name: "retry-after", value: "soon" }]), Step.retry(1_000));
  assert.equal(sent(404).tag, "permanent");
});
