// The channel by itself, in Node: `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Frame, HttpFrame, Reply, Target } from "@chela/sdk";
import { Host } from "@chela/sdk/testing";

import Form from "./plugin.js";

const form = () =>
  new Host({ wait_ms: 2_000 }).run(() => {
    const made = new Form();
    made.init();
    return made;
  });

const received = (body) => {
  const val = { method: "POST", path: "/", query: "", headers: [], body: new TextEncoder().encode(body) };
  const frame = Object.assign(new Frame(), { tag: "http", val: Object.assign(new HttpFrame(), val) });
  return form().receive(frame, { channel: "form", ownIds: [] });
};

const rendered = (waits) => {
  const target = Object.assign(new Target(), { bound: [{ name: "visitor", value: "v1" }], waits });
  return form().render({ id: "o1", agent: "support", reply: new Reply("Thirty days.") }, target);
};

test("a question is a message, and its form waits", () => {
  const { events, acknowledgement } = received('{"id": "q1", "visitor": "v1", "question": "How long?"}');
  assert.equal(events.length, 1);
  assert.equal(events[0].val.text, "How long?");
  assert.deepEqual(events[0].val.identity, { dedupe: [["q1"]], conversation: ["v1"], sender: "v1" });
  assert.equal(acknowledgement.tag, "deferred");
  assert.equal(acknowledgement.val.deadlineMs, 2_000);
});

test("anything else is the sender's fault", () => {
  for (const body of ["{", "[]", "null", '{"id": 7}']) {
    assert.throws(() => received(body), { tag: "malformed" }, body);
  }
});

test("the answer is the response while the form waits, and nothing later", () => {
  const step = rendered(true);
  const body = JSON.parse(new TextDecoder().decode(step.val.request.body));
  assert.deepEqual(body, { visitor: "v1", answer: "Thirty days." });
  assert.equal(rendered(false).tag, "permanent");
});

test("without its waiting time it is refused", () => {
  new Host().run(() => assert.throws(() => new Form().init(), /`wait_ms` is missing/));
});
