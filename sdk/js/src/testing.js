// A host for tests: answers what the capabilities of a plugin ask, in memory and in order.

import { Context } from "./agent.js";
import { as } from "./channel.js";
import { HostError, ModelError } from "./errors.js";
import { host } from "./host.js";

export class Host {
  requests = [];
  lines = [];
  imports;
  #config;
  #answers = [];
  #passages = HostError.notGranted("knowledge");
  #memory = new Map();

  constructor(config = {}) {
    this.#config = config;
    this.imports = {
      config: { json: () => JSON.stringify(this.#config) },
      log: { write: (level, message) => void this.lines.push([level, message]) },
      models: {
        complete: (request) => this.#complete(request),
        relay: (request) => this.#complete(request),
        stream: (request) => stream(this.#complete(request)),
      },
      knowledge: { search: (_, limit) => this.#search(limit) },
      memory: {
        get: (scope, key) => this.#memory.get(`${scope} ${key}`),
        set: (scope, key, value) => this.#remember(`${scope} ${key}`, value),
        compareAndSet: (scope, key, expected, value) => this.#compareAndSet(`${scope} ${key}`, expected, value),
      },
      tools: { listTools: refuse, call: refuse },
      http: { fetch: refuse },
      blobs: { read: refuse, write: refuse },
    };
  }

  answer(text) {
    this.#answers.push(text);
    return this;
  }

  fail(error) {
    this.#answers.push(error);
    return this;
  }

  passage(source, text) {
    const before = Array.isArray(this.#passages) ? this.#passages : [];
    this.#passages = [...before, { source, text, score: 1 }];
    return this;
  }

  noKnowledge(error) {
    this.#passages = error;
    return this;
  }

  run(test) {
    const before = host.standIn;
    host.standIn = this;
    try {
      return test(this);
    } finally {
      host.standIn = before;
    }
  }

  #complete(request) {
    this.requests.push(structuredClone({ ...request }));
    const said = this.#answers.shift() ?? ModelError.notGranted("models");
    if (said instanceof ModelError) throw said;
    const usage = { inputTokens: 1n, cachedTokens: 0n, outputTokens: 1n, costNanodollars: 1n };
    return { text: said, finish: "stop", usage, model: "testing/host" };
  }

  #search(limit) {
    if (!Array.isArray(this.#passages)) throw this.#passages;
    return this.#passages.slice(0, limit);
  }

  #remember(place, value) {
    const version = (this.#memory.get(place)?.version ?? 0n) + 1n;
    this.#memory.set(place, { value, version });
    return version;
  }

  #compareAndSet(place, expected, value) {
    if ((this.#memory.get(place)?.version ?? 0n) !== expected) return false;
    this.#remember(place, value);
    return true;
  }
}

/** What this stand-in does not serve. */
function refuse() {
  throw HostError.notGranted("not served in tests");
}

/** A stream of one-word pieces. */
function stream(completion) {
  const pieces = completion.text.split(/(?<= )/).filter(Boolean);
  return {
    next: () => pieces.shift(),
    completion: () => {
      if (pieces.length > 0) throw ModelError.invalid("the stream is not at its end");
      return completion;
    },
    [Symbol.dispose]: () => void pieces.splice(0),
  };
}

// Outside any `run` there is a host that grants nothing.
host.standIn = new Host();

export function message(text, changes = {}) {
  const sender = { id: "u1", name: undefined, outsider: false };
  return { id: "m1", text, sender, channel: "web", place: undefined, attachments: [], receivedMs: 0n, ...changes };
}

export function turn(text, { past = [], ...profile } = {}) {
  const plain = { agent: "agent", department: undefined, persona: "", tier: "fast", colleagues: [] };
  return { message: message(text), profile: { ...plain, ...profile }, past };
}

export function context(agents, changes = {}) {
  const candidates = agents.map((agent) => ({ agent, description: "" }));
  const plain = { department: undefined, candidates, sticky: undefined, defaultAgent: agents[0], past: [] };
  return as(Context, { ...plain, ...changes });
}
