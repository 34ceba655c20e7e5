// Explains with a model; its words are shown while they come.

import { Agent, config, ModelError, models, Reply } from "@chela/sdk";

export default class Tutor extends Agent {
  init() {
    this.config = config({ level: String }); // for whom it explains
  }

  handle(turn) {
    const system = `${turn.profile.persona}\nExplain it for ${this.config.level}.`;
    try {
      return new Reply(new models.Request(turn.message.text, { system }).relay().text);
    } catch (error) {
      // Tried again, it would be refused again: better a kind word now. Other errors may pass; the host waits.
      if (!(error instanceof ModelError && error.tag === "over-budget")) throw error;
      return new Reply("Enough for today. Please ask me tomorrow.");
    }
  }
}
