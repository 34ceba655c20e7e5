// Channels: bytes to events, replies to requests.

import type { Attachment, Reply } from "./agent.js";
import type { Header } from "./capabilities.js";

/** The parts of a key in the manifest's order, each as found in the raw request. */
export type Key = string[];

/** A request whose signature the host has verified as the manifest declares. */
export class HttpFrame {
  method: string;
  /** What follows the channel's own address, `/` at least. */
  path: string;
  query: string;
  headers: Header[];
  body: Uint8Array;
  /** The first header of this name, which is lower case. */
  header(name: string): string | undefined;
  /** The body as JSON; throws `Rejection` with the tag `malformed` for anything else. */
  json(): any;
}

/** What comes in. */
export class Frame {
  tag: "http" | "transport";
  val: HttpFrame | { transport: string; body: Uint8Array };
  /** The HTTP request; throws `Rejection` for a frame of a transport. */
  intoHttp(): HttpFrame;
}

export interface Surroundings {
  channel: string;
  /** Ids under which this account itself posts, as the platform told the host. */
  ownIds: string[];
}

/** What the host compares with its own reading of the request; all of it from the same place there. */
export interface Identity {
  /** At least one; all become unique. */
  dedupe: Key[];
  conversation: Key;
  sender: string;
}

export interface Incoming {
  identity: Identity;
  text: string;
  senderName?: string;
  attachments?: Attachment[];
  /** The adapter's own notes for `render`, at most 4 KiB. */
  notes?: string;
}

/** What an edit or a deletion says of the message that it is about. */
export interface Change {
  /** Keys of this event itself, at least one. */
  dedupe: Key[];
  /** One of the keys under which the message came. */
  post: Key;
  sender: string;
}

export interface DeliveryStatus {
  /** What `Step.done` named. */
  platformId: string;
  state: "sent" | "delivered" | "read" | "failed";
  detail?: string;
}

/** What a request tells; made by the functions of the same name. */
export interface Event {
  tag: "message" | "edit" | "deletion" | "status" | "interaction" | "ignored";
  val: unknown;
}

export const Event: {
  message(incoming: Incoming): Event;
  edit(change: Change, text: string): Event;
  deletion(change: Change): Event;
  status(status: DeliveryStatus): Event;
  /** A click: the `value` of the choice. */
  interaction(identity: Identity, value: string): Event;
  /** Understood and of no interest. The reason is counted. */
  ignored(reason: string): Event;
};

/** The response to the platform's own request; made by the functions of the same name. */
export type Acknowledgement =
  | { tag: "plain" }
  | { tag: "now"; val: Response }
  | { tag: "deferred"; val: { deadlineMs: number; fallback: Response } };

export const Acknowledgement: {
  /** 200 and an empty body. */
  plain(): Acknowledgement;
  /** This response, after the events are kept. */
  now(response: Response): Acknowledgement;
  /** The answer to the first message, if it is there in time: at most 10,000 ms. */
  deferred(deadlineMs: number, fallback: Response): Acknowledgement;
};

/** What a request means; made by the functions of the same name. */
export interface Inbound {
  events: Event[];
  acknowledgement: Acknowledgement;
}

export const Inbound: {
  events(events: Event[], acknowledgement?: Acknowledgement): Inbound;
  one(event: Event): Inbound;
  /** Nothing of interest; the reason is counted. */
  ignored(reason: string): Inbound;
  /** No event, but this response. */
  respond(response: Response): Inbound;
};

/** A response: the platform's to a request, or one to the platform's own. */
export class Response {
  constructor(status: number, headers?: Header[], body?: Uint8Array);
  status: number;
  headers: Header[];
  body: Uint8Array;
  /** 200 with a text. */
  static text(text: string): Response;
  /** The first header of this name, which is lower case. */
  header(name: string): string | undefined;
  /** `Retry-After` in milliseconds, if it is there and a number of seconds. */
  retryAfterMs(): number | undefined;
}

/** Where an answer goes. The values are the host's own. */
export class Target {
  bound: Header[];
  /** What `receive` left in `notes`. */
  notes?: string;
  /** The platform's own request still waits for its response. */
  waits: boolean;
  /** The value of a `[[bind]]` of the manifest. */
  value(name: string): string | undefined;
}

/** An answer on its way out. */
export interface Outgoing {
  /** The host's id of this answer, for platforms that know idempotency keys. */
  id: string;
  agent: string;
  reply: Pick<Reply, "text" | "blocks" | "attachments">;
}

/** A request to an `[endpoint.…]` of the manifest: method, address and credential are the host's. */
export interface Request {
  endpoint: string;
  headers: Header[];
  body: Uint8Array;
}

export const Request: {
  /** A request with a JSON body. */
  json(endpoint: string, body: unknown): Request;
};

/** What comes next on the way out; made by the functions of the same name. */
export type Step =
  | { tag: "next"; val: { request: Request; state: string } }
  | { tag: "done"; val?: string }
  | { tag: "retry"; val: bigint }
  | { tag: "permanent"; val: string };

export const Step: {
  /** Sends `request`, then calls `sent` with `state`. */
  send(request: Request, state?: string): Step;
  /** Delivered; the platform's id where it has one. */
  done(id?: string): Step;
  /** Try this step again, not before so many milliseconds. */
  retry(ms: number | bigint): Step;
  /** It will never be delivered; the reason is for the operator. */
  permanent(reason: string): Step;
};

/** A look at an answer that is being made, or the answer in its place. */
export interface Revision {
  /** What the platform calls the post, as `Step.done` named it; absent for the first. */
  platformId?: string;
  /** Greater each time, from 1. */
  seq: number;
  /** True for the kept answer, false for a draft. */
  final: boolean;
}

/** Speaks a platform's language. Pure: no network, no secret, nothing but its arguments. */
export class Channel {
  /** As `Agent.init`. */
  init(): void;
  /** Called once for each verified request. Throws `Rejection`. */
  receive(frame: Frame, surroundings: Surroundings): Inbound;
  /** Called first for each answer; `state` is the last journaled one after a restart. Throws `RenderingError`. */
  render(outgoing: Outgoing, target: Target, state?: string): Step;
  /**
   * Called with the platform's response to each request, also for 4xx and 5xx. Unless overridden: any 2xx has delivered
   * the answer, 408, 425, 429 and 5xx ask to come again, and everything else is a refusal for good.
   */
  sent(state: string, response: Response): Step;
  /** Progressive answers by editing, for channels with `[progress]` in the manifest. Not done unless overridden. */
  update(outgoing: Outgoing, target: Target, revision: Revision): Step;
}
