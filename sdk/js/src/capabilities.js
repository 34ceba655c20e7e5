// What a plugin may ask of the host, as far as it is granted. Types and meanings: `capabilities.d.ts`.

import { HostError, ModelError } from "./errors.js";
import { ask, checked } from "./host.js";

const write = (level, message) => ask(HostError, "log", "write", level, message);

export const log = {
  write,
  debug: (message) => write("debug", message),
  info: (message) => write("info", message),
  warn: (message) => write("warn", message),
  error: (message) => write("error", message),
};

/** Pieces of text. Leaving a `for` loop early, or `close`, cancels the call. */
class StreamReader {
  #reader;
  #over = false;

  constructor(reader) {
    this.#reader = reader;
  }

  [Symbol.iterator]() {
    return this;
  }

  next() {
    if (this.#over) return { done: true, value: undefined };
    this.#over = true; // also if the next piece is an error
    const value = checked(ModelError, () => this.#reader.next());
    this.#over = value === undefined;
    return { done: this.#over, value };
  }

  return() {
    this.close();
    return { done: true, value: undefined };
  }

  completion() {
    return checked(ModelError, () => this.#reader.completion());
  }

  close() {
    this.#over = true;
    this.#reader[Symbol.dispose]();
  }
}

class ModelRequest {
  constructor(prompts, { tier, system, maxOutputTokens, temperature } = {}) {
    this.prompts = typeof prompts === "string" ? [{ role: "user", text: prompts }] : prompts;
    Object.assign(this, { tier, system, maxOutputTokens, temperature });
  }

  // Not `then`, as in other languages: what has a `then` is taken for a promise here.
  add(role, text) {
    this.prompts.push({ role, text });
    return this;
  }

  complete() {
    return ask(ModelError, "models", "complete", this);
  }

  relay() {
    return ask(ModelError, "models", "relay", this);
  }

  stream() {
    return new StreamReader(ask(ModelError, "models", "stream", this));
  }
}

export const models = { Request: ModelRequest };

export const knowledge = {
  search: (query, limit) => ask(HostError, "knowledge", "search", query, limit),
};

export const memory = {
  get: (scope, key) => ask(HostError, "memory", "get", scope, key),
  set: (scope, key, value) => ask(HostError, "memory", "set", scope, key, value),
  compareAndSet: (scope, key, expected, value) =>
    ask(HostError, "memory", "compareAndSet", scope, key, BigInt(expected), value),
};

export const tools = {
  listTools: (after) => ask(HostError, "tools", "listTools", after),
  call: (name, args) => ask(HostError, "tools", "call", name, args),
};

export const http = {
  fetch: ({ method = "GET", url, headers = [], body = new Uint8Array(), credential }) =>
    ask(HostError, "http", "fetch", { method, url, headers, body, credential }),
};

export const blobs = {
  read: (handle, offset) => ask(HostError, "blobs", "read", handle, BigInt(offset)),
  write: (name, mediaType, bytes) => ask(HostError, "blobs", "write", name, mediaType, bytes),
};
