// Agents and routers: what is answered, and by whom.

import { AnsweringError, RoutingError } from "./errors.js";

/** What is said back to a person. `text` alone must make sense. */
export class Reply {
  constructor(text) {
    this.text = text;
    this.blocks = [];
    this.attachments = [];
  }

  link(label, url) {
    this.blocks.push({ tag: "link", val: { label, url } });
    return this;
  }

  choices(...choices) {
    this.blocks.push({ tag: "choices", val: choices.map(([label, value]) => ({ label, value })) });
    return this;
  }

  citation(label, url = "") {
    this.blocks.push({ tag: "citation", val: { label, url } });
    return this;
  }
}

export const Outcome = {
  reply: (reply) => ({ tag: "reply", val: reply }),
  handOver: (agent, reason) => ({ tag: "hand-over", val: { agent, reason } }),
  escalate: (reason, reply) => ({ tag: "escalate", val: { reason, reply } }),
  resolved: (reply) => ({ tag: "resolved", val: reply }),
  askAgain: (afterMs, reason) => ({ tag: "ask-again", val: { afterMs: BigInt(afterMs), reason } }),
};

export class Agent {
  init() {}

  handle() {
    throw AnsweringError.other("this agent does not answer");
  }
}

/** Who answers, with a score of 1 and no alternatives. */
export class Decision {
  constructor(agent, { score = 1, alternatives = [], reason = "" } = {}) {
    Object.assign(this, { agent, score, alternatives, reason });
  }
}

/** What a router may choose from. */
export class Context {
  mayReach(agent) {
    return this.candidates.some((candidate) => candidate.agent === agent);
  }
}

export class Router {
  init() {}

  route() {
    throw RoutingError.noMatch("this router chooses nobody");
  }
}
