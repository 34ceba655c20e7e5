// The agent by itself, in Node: `npm test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ModelError } from "@chela/sdk";
import { Host, turn } from "@chela/sdk/testing";

import Tutor from "./plugin.js";

const tutor = () => {
  const made = new Tutor();
  made.init();
  return made;
};

test("it asks with its persona and says what it heard", () => {
  new Host({ level: "a child" }).answer("Twice a day.").run((host) => {
    assert.equal(tutor().handle(turn("How often?", { persona: "Be patient." })).text, "Twice a day.");
    assert.equal(host.requests[0].system, "Be patient.\nExplain it for a child.");
  });
});

test("a used-up budget is said politely", () => {
  new Host({ level: "a child" }).fail(ModelError.overBudget("2.00 of 2.00")).run(() => {
    assert.match(tutor().handle(turn("Why?")).text, /tomorrow/);
  });
});
