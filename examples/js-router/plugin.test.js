// The router by itself, in Node: `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RoutingError } from "@chela/sdk";
import { context, Host, message } from "@chela/sdk/testing";

import Languages from "./plugin.js";

const routed = (text, agents) =>
  new Host({ agents: { de: "anna", fr: "louis" } }).run(() => {
    const router = new Languages();
    router.init();
    return router.route(message(text), context(agents));
  });

test("the language chooses", () => {
  assert.equal(routed("Wie ist das Wetter?", ["eve", "anna", "louis"]).agent, "anna");
  assert.equal(routed("Comment est le temps?", ["eve", "anna", "louis"]).agent, "louis");
});

test("of two languages the one with more words", () => {
  const decision = routed("Was ist der Plan, und wie heißt: how?", ["anna"]);
  assert.equal(decision.agent, "anna");
  assert.equal(decision.score, 0.8);
});

test("without an agent for it the policy chooses", () => {
  const noMatch = (error) => error instanceof RoutingError && error.tag === "no-match";
  assert.throws(() => routed("What is the plan?", ["eve", "anna"]), noMatch);
  assert.throws(() => routed("Wie ist das Wetter?", ["eve"]), noMatch);
  assert.throws(() => routed("1234", ["eve"]), noMatch);
});

test("an unknown language is refused when it is loaded", () => {
  new Host({ agents: { xx: "eve" } }).run(() => assert.throws(() => new Languages().init(), /`xx`/));
});
