// Channels: bytes to events, replies to requests.

import { Rejection, RenderingError } from "./errors.js";

/** A pause where the platform names none. */
const RETRY_MS = 1_000;

const find = (headers, name) => headers.find((header) => header.name === name)?.value;

/** Gives what came from the host the methods of a class, without a copy. */
export const as = (Class, value) => Object.setPrototypeOf(value, Class.prototype);

/** A request whose signature the host has verified. */
export class HttpFrame {
  header(name) {
    return find(this.headers, name);
  }

  json() {
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(this.body));
    } catch (error) {
      // Its own words may quote the body, which is people's.
      throw Rejection.malformed(`body is not JSON: ${error.name}`);
    }
  }
}

/** What comes in. */
export class Frame {
  intoHttp() {
    if (this.tag !== "http") throw Rejection.unsupported(`transport ${this.val.transport}`);
    return as(HttpFrame, this.val);
  }
}

/** A response: the platform's to a request, or one to the platform's own. */
export class Response {
  constructor(status, headers = [], body = new Uint8Array()) {
    Object.assign(this, { status, headers, body });
  }

  static text(text) {
    const headers = [{ name: "content-type", value: "text/plain; charset=utf-8" }];
    return new Response(200, headers, new TextEncoder().encode(text));
  }

  header(name) {
    return find(this.headers, name);
  }

  retryAfterMs() {
    const seconds = this.header("retry-after")?.trim() ?? "";
    return /^[0-9]+$/.test(seconds) ? Number(seconds) * 1_000 : undefined;
  }
}

/** Where an answer goes. */
export class Target {
  value(name) {
    return find(this.bound, name);
  }
}

export const Event = {
  message: (incoming) => ({ tag: "message", val: { attachments: [], ...incoming } }),
  edit: (change, text) => ({ tag: "edit", val: { change, text } }),
  deletion: (change) => ({ tag: "deletion", val: change }),
  status: (status) => ({ tag: "status", val: status }),
  interaction: (identity, value) => ({ tag: "interaction", val: { identity, value } }),
  ignored: (reason) => ({ tag: "ignored", val: reason }),
};

export const Acknowledgement = {
  plain: () => ({ tag: "plain" }),
  now: (response) => ({ tag: "now", val: response }),
  deferred: (deadlineMs, fallback) => ({ tag: "deferred", val: { deadlineMs, fallback } }),
};

export const Inbound = {
  events: (events, acknowledgement = Acknowledgement.plain()) => ({ events, acknowledgement }),
  one: (event) => Inbound.events([event]),
  ignored: (reason) => Inbound.one(Event.ignored(reason)),
  respond: (response) => Inbound.events([], Acknowledgement.now(response)),
};

export const Request = {
  json: (endpoint, body) => ({
    endpoint,
    headers: [{ name: "content-type", value: "application/json; charset=utf-8" }],
    body: new TextEncoder().encode(JSON.stringify(body)),
  }),
};

export const Step = {
  send: (request, state = "") => ({ tag: "next", val: { request, state } }),
  done: (id) => ({ tag: "done", val: id }),
  retry: (ms) => ({ tag: "retry", val: BigInt(ms) }),
  permanent: (reason) => ({ tag: "permanent", val: reason }),
};

export class Channel {
  init() {}

  receive() {
    throw Rejection.other("this channel receives nothing");
  }

  render() {
    throw RenderingError.other("this channel renders nothing");
  }

  sent(_state, response) {
    const { status } = response;
    if (status >= 200 && status < 300) return Step.done();
    const again = [408, 425, 429].includes(status) || (status >= 500 && status < 600);
    if (again) return Step.retry(response.retryAfterMs() ?? RETRY_MS);
    return Step.permanent(`the platform answered ${status}`);
  }

  update() {
    return Step.permanent("this channel does not edit");
  }
}
