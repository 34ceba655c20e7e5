// Speaks with a pager: takes `{ id, from, text }`, sends `{ to, text }`.

import { Channel, Event, Inbound, Rejection, RenderingError, Request, Step } from "@chela/sdk";

/** No network and no secret: the host has checked the signature, and sends what `render` returns. */
export default class Pager extends Channel {
  receive(frame) {
    const { id, from, text } = frame.intoHttp().json() ?? {};
    if (![id, from, text].every((value) => typeof value === "string")) {
      throw Rejection.malformed("a page has `id`, `from` and `text`");
    }
    const identity = { dedupe: [[id]], conversation: [from], sender: from };
    return Inbound.one(Event.message({ identity, text }));
  }

  render(outgoing, target) {
    const to = target.value("to");
    if (to === undefined) throw RenderingError.other("no target");
    return Step.send(Request.json("send", { to, text: outgoing.reply.text }));
  }

  // `sent` is not here: what the pager's status means is what it means everywhere.
}
