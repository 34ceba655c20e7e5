// Errors of the contract: each is an `Error` whose `tag` says which case it is and whose message is one sentence.

/** Why a host function refused or failed. */
export class HostError extends Error {
  constructor(tag: "not-granted" | "invalid" | "limit" | "unavailable" | "other", why: string);
  readonly tag: "not-granted" | "invalid" | "limit" | "unavailable" | "other";
  /** The capability is not asked for, or optional and not granted. */
  static notGranted(why: string): HostError;
  /** The request itself is wrong; the same request will fail again. */
  static invalid(why: string): HostError;
  /** One of the host's limits is reached. */
  static limit(why: string): HostError;
  /** Something outside is not there now; asking later may help. */
  static unavailable(why: string): HostError;
  static other(why: string): HostError;
}

type ModelErrorTag = "not-granted" | "invalid" | "over-budget" | "unavailable" | "refused" | "limit" | "other";

/** Why a model did not answer. */
export class ModelError extends Error {
  constructor(tag: ModelErrorTag, why: string);
  readonly tag: ModelErrorTag;
  static notGranted(why: string): ModelError;
  /** Unknown tier, no prompts, too large. */
  static invalid(why: string): ModelError;
  /** A budget does not allow the call. The message may be shown to people. */
  static overBudget(why: string): ModelError;
  /** Every provider of the chain failed. */
  static unavailable(why: string): ModelError;
  /** The provider's policy refused. */
  static refused(why: string): ModelError;
  static limit(why: string): ModelError;
  static other(why: string): ModelError;
}

/** Why a turn is not answered. Errors of the host that leave `handle` become one. */
export class AnsweringError extends Error {
  constructor(tag: "unsuitable" | "unavailable" | "other", why: string);
  readonly tag: "unsuitable" | "unavailable" | "other";
  /** The message cannot be handled by this agent, whatever is tried. The operator reads why. */
  static unsuitable(why: string): AnsweringError;
  /** The turn is tried again later. */
  static unavailable(why: string): AnsweringError;
  static other(why: string): AnsweringError;
  /** What an error of the host means for the turn. */
  static of(error: HostError | ModelError): AnsweringError;
}

/** No decision: the policy's default agent answers. */
export class RoutingError extends Error {
  constructor(tag: "no-match" | "other", why: string);
  readonly tag: "no-match" | "other";
  static noMatch(why: string): RoutingError;
  static other(why: string): RoutingError;
}

/** Why a request is not taken, and whose fault it is. */
export class Rejection extends Error {
  constructor(tag: "malformed" | "unsupported" | "other", why: string);
  readonly tag: "malformed" | "unsupported" | "other";
  /** The sender's fault: answered with 400, nothing kept. */
  static malformed(why: string): Rejection;
  /** Well-formed, of a kind this adapter does not know: answered with 200 and counted. */
  static unsupported(why: string): Rejection;
  static other(why: string): Rejection;
}

/** Why a reply is not said. */
export class RenderingError extends Error {
  constructor(tag: "unsuitable" | "other", why: string);
  readonly tag: "unsuitable" | "other";
  /** The reply cannot be said on this platform. */
  static unsuitable(why: string): RenderingError;
  static other(why: string): RenderingError;
}

/** A sentence for the operator that names the key. Thrown from `init`, it refuses the version. */
export class ConfigError extends Error {}
