// The agent by itself, in Node: `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ModelError } from "@chela/sdk";
import { Host, turn } from "@chela/sdk/testing";

import Brief from "./plugin.js";

const brief = () => {
  const made = new Brief();
  made.init();
  return made;
};

test("it asks with persona and past", () => {
  new Host().answer("Twice a day. Or so.").run((host) => {
    const past = [{ speaker: "person", text: "What is a tide?" }, { speaker: "agent", text: "The moon pulls." }];
    assert.equal(brief().handle(turn("How often?", { persona: "Be kind.", past })).text, "Twice a day. Or so.");
    const [{ system, prompts }] = host.requests;
    assert.equal(system, "Be kind.");
    assert.deepEqual(prompts.map(({ role }) => role), ["user", "assistant", "user"]);
  });
});

test("it stops after so many sentences", () => {
  new Host({ sentences: 2 }).answer("One. Two! Three?").run((host) => {
    assert.equal(brief().handle(turn("Count.")).text, "One. Two!");
    assert.deepEqual(host.lines, [["debug", "stopped after 2 sentences"]]);
  });
  new Host({ sentences: 2 }).answer("Only one").run(() => {
    assert.equal(brief().handle(turn("Count.")).text, "Only one");
  });
});

test("a used-up budget is said politely, and the host waits for a provider that is down", () => {
  new Host().fail(ModelError.overBudget("2.00 of 2.00")).run(() => {
    assert.match(brief().handle(turn("Why?")).text, /tomorrow/);
  });
  new Host().fail(ModelError.unavailable("nobody answers")).run(() => {
    assert.throws(() => brief().handle(turn("Why?")), { tag: "unavailable" });
  });
});

test("a key of another type is refused", () => {
  new Host({ sentences: "two" }).run(() => assert.throws(brief, /config.sentences: expected a number/));
});
