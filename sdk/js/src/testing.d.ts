// A host for tests: answers what the capabilities of a plugin ask, in memory and in order.

import type { Context, Message, Turn, Utterance } from "./agent.js";
import type { HostError, ModelError } from "./errors.js";
import type { models } from "./capabilities.js";

/**
 * The stand-in. Build it, then run the code under test in it:
 *
 *     new Host({ passages: 3 }).answer("Thirty days.").run((host) => {
 *       const plugin = new Librarian();
 *       plugin.init();
 *       plugin.handle(turn("May I send it back?"));
 *       assert.equal(host.requests[0].tier, undefined);
 *     });
 *
 * Outside `run` the configuration is `{}`, the memory is empty, and models and knowledge throw `not-granted`.
 */
export class Host {
  constructor(config?: Record<string, unknown>);
  /** Model calls, in order. */
  requests: InstanceType<typeof models.Request>[];
  /** Log lines, in order: level and text. */
  lines: [level: string, message: string][];
  /** The next model call says this. */
  answer(text: string): this;
  /** The next model call fails. */
  fail(error: ModelError): this;
  /** Adds a passage that every search finds. */
  passage(source: string, text: string): this;
  /** Every search fails. */
  noKnowledge(error: HostError): this;
  /** Runs `test` with this host in place. */
  run<T>(test: (host: this) => T): T;
}

/** A message of somebody; `changes` are fields that matter to the test. */
export function message(text: string, changes?: Partial<Message>): Message;

/** A turn with that message; the rest are fields of the agent's profile, and its past. */
export function turn(text: string, profile?: Partial<Turn["profile"]> & { past?: Utterance[] }): Turn;

/** A router's context with these candidates; the first is the default. */
export function context(agents: string[], changes?: Partial<Context>): Context;
