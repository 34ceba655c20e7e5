// Answers with a model: in full, shown while it comes, or in so many sentences and not a word more paid.

import { Agent, config, log, ModelError, models, Reply } from "@chela/sdk";

export default class Brief extends Agent {
  init() {
    this.config = config({ sentences: 0 });
  }

  handle(turn) {
    const prompts = turn.past.map(({ speaker, text }) => ({ role: speaker === "person" ? "user" : "assistant", text }));
    const request = new models.Request(prompts, { system: turn.profile.persona }).add("user", turn.message.text);
    try {
      // The words of `relay` are drafts in the channel while they come; what is returned is the answer.
      const { sentences } = this.config;
      return new Reply(sentences > 0 ? beginning(request, sentences) : request.relay().text);
    } catch (error) {
      // Tried again, it would be refused again: better a kind word now. Other errors may pass; the host waits.
      if (!(error instanceof ModelError && error.tag === "over-budget")) throw error;
      return new Reply("I have said enough for today. Please ask me tomorrow.");
    }
  }
}

/** The first sentences. Leaving the loop cancels the call, and the model says no more. */
function beginning(request, sentences) {
  let text = "";
  for (const piece of request.stream()) {
    text += piece;
    const ends = [...text.matchAll(/[.!?](?=\s|$)/g)];
    if (ends.length >= sentences) {
      log.debug(`stopped after ${sentences} sentences`);
      return text.slice(0, ends[sentences - 1].index + 1);
    }
  }
  return text;
}
