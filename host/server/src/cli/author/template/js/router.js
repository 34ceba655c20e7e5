// Sends what holds one of its words to an agent.

import { config, Decision, Router, RoutingError } from "@chela/sdk";

export default class Words extends Router {
  init() {
    this.config = config({ agent: String, words: Array }); // needed; a default in place of a type makes it optional
  }

  route(message, context) {
    const { agent, words } = this.config;
    const text = message.text.toLowerCase();
    const found = words.find((word) => text.includes(word));
    if (found === undefined || !context.mayReach(agent)) throw RoutingError.noMatch("none of its words");
    return new Decision(agent, { reason: `the word \`${found}\`` });
  }
}
