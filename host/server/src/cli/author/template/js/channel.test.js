// The channel by itself, in Node: `npm test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Frame, HttpFrame } from "@chela/sdk";

import Pager from "./plugin.js";

const received = (body) => {
  const val = { method: "POST", path: "/", query: "", headers: [], body: new TextEncoder().encode(body) };
  const frame = Object.assign(new Frame(), { tag: "http", val: Object.assign(new HttpFrame(), val) });
  return new Pager().receive(frame, { channel: "pager", ownIds: [] });
};

test("a page is a message", () => {
  const [event] = received('{"id": "p1", "from": "ann", "text": "help"}').events;
  assert.equal(event.val.text, "help");
  assert.equal(event.val.identity.sender, "ann");
});

test("anything else is the sender's fault", () => {
  for (const body of ["{", "[]", '{"id": "p1"}']) assert.throws(() => received(body), { tag: "malformed" }, body);
});
