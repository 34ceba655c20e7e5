// Chooses the agent that speaks the language of a message, guessed by the little words in it.

import { config, Decision, Router, RoutingError } from "@chela/sdk";

/** Words that are frequent in one language and rare in the others. */
const LITTLE_WORDS = {
  de: ["der", "die", "das", "und", "ist", "nicht", "ich", "wie", "ein", "mit", "auf", "bitte"],
  en: ["the", "and", "is", "not", "how", "with", "please", "what", "my", "of", "to", "you"],
  fr: ["le", "la", "les", "et", "est", "pas", "je", "comment", "un", "avec", "pour", "vous"],
};

export default class Languages extends Router {
  /** Which language each little word is of. Made once, at load, and in the snapshot. */
  languages = new Map(
    Object.entries(LITTLE_WORDS).flatMap(([language, words]) => words.map((word) => [word, language])),
  );

  init() {
    this.agents = config({ agents: {} }).agents;
    const unknown = Object.keys(this.agents).find((language) => !Object.hasOwn(LITTLE_WORDS, language));
    if (unknown) throw new Error(`config.agents: \`${unknown}\` is none of ${Object.keys(LITTLE_WORDS).join(", ")}`);
  }

  route(message, context) {
    // Not `\p{L}`: a component's JavaScript has no tables of Unicode.
    const words = message.text.toLowerCase().split(/[\s\d.,;:!?'"()]+/);
    const counts = new Map();
    for (const language of words.map((word) => this.languages.get(word)).filter(Boolean)) {
      counts.set(language, (counts.get(language) ?? 0) + 1);
    }
    const [best] = [...counts].sort(([, one], [, other]) => other - one);
    if (!best) throw RoutingError.noMatch("a language that is not known");
    const agent = this.agents[best[0]];
    if (!agent || !context.mayReach(agent)) throw RoutingError.noMatch(`nobody here speaks ${best[0]}`);
    const known = [...counts.values()].reduce((sum, count) => sum + count, 0);
    return new Decision(agent, { score: best[1] / known, reason: `language ${best[0]}` });
  }
}
