// Turns the author's class into the functions of a component, and what it throws into the contract's errors. Knows
// nothing of the bindings but how they take an error, so that it is tested in Node.

import { Agent, Context, Reply, Router } from "./agent.js";
import { as, Channel, Frame, Response, Target } from "./channel.js";
import {
  AnsweringError, ConfigError, HostError, ModelError, Rejection, RenderingError, RoutingError,
} from "./errors.js";
import { host } from "./host.js";

/** Lends `imports` to the sdk, and returns the exports of a component whose plugin is an instance of `Plugin`. */
export function component(Plugin, imports) {
  host.imports = imports;
  checkPlugin(Plugin);
  let plugin;
  /** The plugin. Made here if the host keeps no snapshot of what `init` made. */
  const ready = () => {
    if (!plugin) {
      const made = new Plugin();
      settled(made.init(), "init");
      plugin = made;
    }
    return plugin;
  };
  /** An exported function: `shape` gives its arguments the sdk's methods. */
  const exported = (Refusal, name, shape) => (...args) => {
    try {
      return given(ready()[name](...shape(...args)), name, Refusal);
    } catch (error) {
      throw refusal(Refusal, error);
    }
  };
  const handle = exported(AnsweringError, "handle", (turn) => [turn]);
  return {
    init: () => initialise(ready),
    routing: {
      route: exported(RoutingError, "route", (message, context) => [message, as(Context, context)]),
    },
    answering: { handle: (turn) => outcome(handle(turn)) },
    translating: {
      receive: exported(Rejection, "receive", (frame, around) => [as(Frame, frame), around]),
      render: exported(RenderingError, "render", (outgoing, target, state) => [outgoing, as(Target, target), state]),
      sent: exported(RenderingError, "sent", (state, response) => [state, as(Response, response)]),
      update: exported(RenderingError, "update", (outgoing, target, edit) => [outgoing, as(Target, target), edit]),
    },
  };
}

/** Throws where the default export is no plugin. */
export function checkPlugin(Plugin) {
  if ([Router, Agent, Channel].some((kind) => Plugin?.prototype instanceof kind)) return;
  throw new TypeError("the plugin's default export is no class that extends Router, Agent or Channel");
}

const outcome = (said) => (said instanceof Reply ? { tag: "reply", val: said } : said);

/** Nobody's words are there yet: the whole error is for the operator. */
function initialise(ready) {
  try {
    ready();
  } catch (error) {
    const why = error instanceof ConfigError ? error.message : `${error} (${place(error)})`;
    throw Object.assign(new Error(why), { payload: why });
  }
}

/** Host functions answer at once, so nothing is waited for; a promise is a forgotten `async`. */
function settled(result, name) {
  if (typeof result?.then !== "function") return result;
  throw new TypeError(`\`${name}\` returned a promise; it must not be async`);
}

/** What a function of the contract returns is a record or a variant. */
function given(result, name, Refusal) {
  if (typeof result?.then === "function") throw Refusal.other(`\`${name}\` returned a promise; it must not be async`);
  if (typeof result !== "object" || result === null) throw Refusal.other(`\`${name}\` returned ${result}`);
  return result;
}

/** What leaves an exported function in the place of `error`. */
function refusal(Refusal, error) {
  if (error instanceof Refusal) return error;
  if (error instanceof HostError || error instanceof ModelError) {
    return Refusal === AnsweringError ? AnsweringError.of(error) : Refusal.other(error.message);
  }
  // Its text may quote what people wrote, and this is read by operators: type and place are told.
  return Refusal.other(`${error?.name ?? typeof error} in ${place(error)}`);
}

/** A line of a stack: `handle@file:1:2` in a component, `    at Plugin.handle (file:1:2)` in Node. */
const FRAME = /^([\w$.#]+)@|^\s+at (?:new )?([\w$.#]+)(?: \[as \w+\])? \(/m;

/** The innermost function with a name. Not the line: what runs is a bundle, whose lines are nobody's. */
function place(error) {
  const [, there, here] = FRAME.exec(error?.stack ?? "") ?? [];
  return there ?? here ?? "the module";
}
