// What a plugin may ask of the host, as far as `plugin.toml` asks for it and `chela.toml` grants it. What is not
// granted throws with the tag `not-granted`.

/** Lines for the operator. Never people's words: logs are read by more eyes than conversations. */
export const log: {
  write(level: "debug" | "info" | "warn" | "error", message: string): void;
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
};

/** One utterance of what a model is given. */
export interface Prompt {
  role: "user" | "assistant";
  text: string;
}

/** What the model said. */
export interface Completion {
  text: string;
  /** `length`: `maxOutputTokens` or the reserved amount was reached. `filtered`: the provider withheld the rest. */
  finish: "stop" | "length" | "filtered";
  usage: {
    inputTokens: bigint;
    /** Of the input tokens, those that the provider read from its cache. */
    cachedTokens: bigint;
    outputTokens: bigint;
    /** 10⁻⁹ US dollars; 0 for an answer from the host's cache. */
    costNanodollars: bigint;
  };
  /** `provider/model`, or `cache`. */
  model: string;
}

/** Pieces of text. Leaving a `for` loop early, or `close`, cancels the call; what was produced by then is paid. */
export interface StreamReader extends IterableIterator<string> {
  /** The whole, once the iteration is at its end; `ModelError` with the tag `invalid` before. */
  completion(): Completion;
  close(): void;
}

/** Language models, through the host's gateway. Grant: `models`. All calls throw `ModelError`. */
export const models: { Request: typeof ModelRequest };

/** What a model is asked. */
declare class ModelRequest {
  /**
   * A text, or prompts, oldest first. Without `tier` it is the agent's own. `maxOutputTokens` beyond the tier's limit
   * is that limit; `temperature` is 0.0 to 2.0.
   */
  constructor(
    prompts: string | Prompt[],
    options?: { tier?: string; system?: string; maxOutputTokens?: number; temperature?: number },
  );
  tier?: string;
  system?: string;
  prompts: Prompt[];
  maxOutputTokens?: number;
  temperature?: number;
  /** Adds a prompt after those that are there. */
  add(role: Prompt["role"], text: string): this;
  /** Waits for the whole answer. */
  complete(): Completion;
  /** Like `complete`, but the tokens go to the person as drafts while they arrive. Only what `handle` returns is the
   * answer. */
  relay(): Completion;
  /** The tokens as they arrive. */
  stream(): StreamReader;
}

export interface Passage {
  /** File and heading, as a person would name it: `returns.md › Refunds`. */
  source: string;
  text: string;
  /** Higher is better; comparable within one search only. */
  score: number;
}

/** The agent's own documents. Grant: `knowledge`. Throws `HostError`. */
export const knowledge: {
  /** The best passages, best first; `limit` is 1 to 20. Words of any form; no query syntax. */
  search(query: string, limit: number): Passage[];
};

/** Whom a value belongs to. Never shared between tenants or agents. */
export type Scope = "conversation" | "user" | "agent";

export interface Entry {
  value: string;
  /** Starts at 1, grows with each write. */
  version: bigint;
}

/**
 * Small values that outlive a turn. Grant: `memory`. Keys: 1 to 128 bytes. Values: at most the limit in the
 * configuration, 16 KiB by default. Throws `HostError`.
 */
export const memory: {
  get(scope: Scope, key: string): Entry | undefined;
  /** Writes, whatever was there. Returns the new version. */
  set(scope: Scope, key: string, value: string): bigint;
  /** Writes only if the version is still `expected` (0: if there is none). False: somebody was faster. */
  compareAndSet(scope: Scope, key: string, expected: bigint | number, value: string): boolean;
};

export interface Tool {
  name: string;
  description: string;
  /** JSON Schema of the arguments. */
  schema: string;
}

/** Tools behind the host. Grant: `tools`. Hosts of this contract may answer `not-granted`. Throws `HostError`. */
export const tools: {
  /** One page; `after` is the last name of the page before. */
  listTools(after?: string): Tool[];
  /** Calls a tool; `args` and the result are JSON texts. */
  call(name: string, args: string): string;
};

export interface Header {
  /** Lower case. */
  name: string;
  value: string;
}

/** Requests to where the manifest's `[[http]]` says. Grant: `http`. Throws `HostError`. */
export const http: {
  /** Sends a request; any status is a response. `credential` is named, never seen. */
  fetch(request: { method?: string; url: string; headers?: Header[]; body?: Uint8Array; credential?: string }): {
    status: number;
    headers: Header[];
    body: Uint8Array;
  };
};

/** Files that are too large for a message: the agent's own, of one conversation. Grant: `blobs`. Throws `HostError`. */
export const blobs: {
  /** At most 64 KiB from `offset`; nothing at the end. */
  read(handle: string, offset: bigint | number): Uint8Array;
  /** Keeps bytes; returns their handle. */
  write(name: string, mediaType: string, bytes: Uint8Array): string;
};
