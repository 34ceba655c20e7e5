// Answers a form on a page: takes `{ id, visitor, question }`, and responds with `{ visitor, answer }` while it waits.

import {
  Acknowledgement, Channel, config, Event, Inbound, Rejection, RenderingError, Request, Response, Step,
} from "@chela/sdk";

/** What the page shows if the answer is not there in time. */
const LATER = "We think about it. Please come back in a minute.";

export default class Form extends Channel {
  init() {
    this.config = config({ wait_ms: Number });
  }

  receive(frame) {
    const { id, visitor, question } = frame.intoHttp().json() ?? {};
    if (![id, visitor, question].every((value) => typeof value === "string")) {
      throw Rejection.malformed("a question has `id`, `visitor` and `question`");
    }
    const identity = { dedupe: [[id]], conversation: [visitor], sender: visitor };
    const event = Event.message({ identity, text: question });
    return Inbound.events([event], Acknowledgement.deferred(this.config.wait_ms, Response.text(LATER)));
  }

  render(outgoing, target) {
    // Nobody waits any longer, and there is no other way to a form.
    if (!target.waits) return Step.permanent("the page has gone");
    const visitor = target.value("visitor");
    if (visitor === undefined) throw RenderingError.other("no target");
    return Step.send(Request.json("answer", { visitor, answer: outgoing.reply.text }));
  }
}
