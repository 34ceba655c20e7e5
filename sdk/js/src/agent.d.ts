// Agents and routers: what is answered, and by whom.

/** Somebody who wrote a message. Identity comes from the host, never from a plugin. */
export interface Person {
  id: string;
  /** A display name, if the platform told one. Not proof of anything. */
  name?: string;
  outsider: boolean;
}

/** A file that came with a message. Its bytes are read through `blobs`. */
export interface Attachment {
  name: string;
  mediaType: string;
  size: bigint;
  blob?: string;
}

/** One message of a person. */
export interface Message {
  /** The host's id, unique for ever. */
  id: string;
  text: string;
  sender: Person;
  channel: string;
  place?: string;
  attachments: Attachment[];
  /** Milliseconds since 1970 in UTC when the host kept it. */
  receivedMs: bigint;
}

/** An earlier utterance of the same conversation. */
export interface Utterance {
  speaker: "person" | "agent";
  agent?: string;
  text: string;
}

export interface Link {
  label: string;
  url: string;
}

/** A part of a reply that a channel may render richly. */
export type Block =
  | { tag: "link"; val: Link }
  | { tag: "choices"; val: { label: string; value: string }[] }
  | { tag: "citation"; val: Link };

/** What is said back to a person. `text` alone must make sense. */
export class Reply {
  constructor(text: string);
  text: string;
  blocks: Block[];
  /** Handles from `blobs.write`. */
  attachments: string[];
  /** Adds a link. */
  link(label: string, url: string): this;
  /** Adds a row of buttons: what is shown and what comes back. */
  choices(...choices: [label: string, value: string][]): this;
  /** Names a source. */
  citation(label: string, url?: string): this;
}

/** Who the agent is, from the host's configuration. */
export interface Profile {
  agent: string;
  department?: string;
  /** How it speaks and what it knows of itself: a system prompt. */
  persona: string;
  tier: string;
  /** Agents it may hand over to from here. */
  colleagues: { agent: string; description: string }[];
}

/** What is to be answered. */
export interface Turn {
  message: Message;
  profile: Profile;
  /** Earlier utterances, oldest first. */
  past: Utterance[];
}

/** What becomes of a turn. */
export type Outcome =
  | { tag: "reply"; val: Reply }
  | { tag: "hand-over"; val: { agent: string; reason: string } }
  | { tag: "escalate"; val: { reason: string; reply: Reply } }
  | { tag: "resolved"; val: Reply }
  | { tag: "ask-again"; val: { afterMs: bigint; reason: string } };

export const Outcome: {
  reply(reply: Reply): Outcome;
  /** Gives the conversation to a colleague, one of `turn.profile.colleagues`. */
  handOver(agent: string, reason: string): Outcome;
  /** Calls a human; the person reads `reply` meanwhile. */
  escalate(reason: string, reply: Reply): Outcome;
  /** The matter is closed; the reply is the last word. */
  resolved(reply: Reply): Outcome;
  /** Runs the turn again after so many milliseconds (1 second to 1 hour). */
  askAgain(afterMs: number | bigint, reason: string): Outcome;
};

/** Answers messages: the default export of `plugin.js` is a class that extends it. */
export class Agent {
  /**
   * Called once when a version is loaded, before its memory is snapshotted: read the configuration and prepare tables.
   * No capability answers yet. What it throws refuses the version.
   */
  init(): void;
  /**
   * Called once for each turn, and again with the same turn if the host stopped in the middle: host calls that were
   * journaled then give the same results without being made or paid again. Throws `AnsweringError`; `HostError` and
   * `ModelError` may pass, and become one.
   */
  handle(turn: Turn): Outcome | Reply;
}

/** What a router may choose from. */
export class Context {
  department?: string;
  /** Never empty. */
  candidates: { agent: string; description: string }[];
  /** The agent that holds this conversation, if it may still be reached. */
  sticky?: string;
  /** The policy's choice if the router has none. Always a candidate. */
  defaultAgent: string;
  /** Earlier utterances, oldest first; empty without the grant `history`. */
  past: Utterance[];
  /** True if the agent may be chosen. */
  mayReach(agent: string): boolean;
}

/** Who answers: one of the candidates. */
export class Decision {
  /** `score` is 0.0 to 1.0; `reason` at most 500 bytes, no words of the message. */
  constructor(
    agent: string,
    more?: { score?: number; alternatives?: { agent: string; score: number }[]; reason?: string },
  );
  agent: string;
  score: number;
  alternatives: { agent: string; score: number }[];
  reason: string;
}

/** Chooses the agent for a message: the default export of `plugin.js` is a class that extends it. */
export class Router {
  /** As `Agent.init`. */
  init(): void;
  /** Called once for each message. Throws `RoutingError` where it has no choice. */
  route(message: Message, context: Context): Decision;
}
