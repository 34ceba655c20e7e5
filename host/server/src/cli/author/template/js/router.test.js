// The router by itself, in Node: `npm test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { context, Host, message } from "@chela/sdk/testing";

import Words from "./plugin.js";

const routed = (text, agents) =>
  new Host({ agent: "support", words: ["broken"] }).run(() => {
    const router = new Words();
    router.init();
    return router.route(message(text), context(agents));
  });

test("a word chooses", () => {
  assert.equal(routed("It is BROKEN", ["sales", "support"]).agent, "support");
  assert.throws(() => routed("Good morning", ["sales", "support"]), { tag: "no-match" });
});

test("whoever may not be reached is not chosen", () => {
  assert.throws(() => routed("It is broken", ["sales"]), { tag: "no-match" });
});

test("a misspelt key is refused", () => {
  new Host({ agent: "support", wrods: [] }).run(() => assert.throws(() => new Words().init(), /wrods|words/));
});
