// Errors of the contract: each is thrown as an `Error` whose `tag` says which case it is and whose message is one
// sentence.

/** What they have in common. `payload` is what the bindings hand to the host where one leaves an exported function. */
class Refusal extends Error {
  constructor(tag, why) {
    super(why);
    this.tag = tag;
    this.payload = { tag, val: why };
  }

  get name() {
    return this.constructor.name;
  }
}

/** Why a host function refused or failed. */
export class HostError extends Refusal {
  static notGranted = (why) => new HostError("not-granted", why);
  static invalid = (why) => new HostError("invalid", why);
  static limit = (why) => new HostError("limit", why);
  static unavailable = (why) => new HostError("unavailable", why);
  static other = (why) => new HostError("other", why);
}

/** Why a model did not answer. */
export class ModelError extends Refusal {
  static notGranted = (why) => new ModelError("not-granted", why);
  static invalid = (why) => new ModelError("invalid", why);
  static overBudget = (why) => new ModelError("over-budget", why);
  static unavailable = (why) => new ModelError("unavailable", why);
  static refused = (why) => new ModelError("refused", why);
  static limit = (why) => new ModelError("limit", why);
  static other = (why) => new ModelError("other", why);
}

/** What an error of the host means for a turn, if the agent lets it pass. */
const FOR_THE_TURN = {
  unavailable: "unavailable",
  limit: "unavailable",
  "over-budget": "unavailable",
  refused: "unsuitable",
};

/** Why a turn is not answered. */
export class AnsweringError extends Refusal {
  static unsuitable = (why) => new AnsweringError("unsuitable", why);
  static unavailable = (why) => new AnsweringError("unavailable", why);
  static other = (why) => new AnsweringError("other", why);
  static of = (error) => new AnsweringError(FOR_THE_TURN[error.tag] ?? "other", error.message);
}

/** No decision: the policy's default agent answers. */
export class RoutingError extends Refusal {
  static noMatch = (why) => new RoutingError("no-match", why);
  static other = (why) => new RoutingError("other", why);
}

/** Why a request is not taken, and whose fault it is. */
export class Rejection extends Refusal {
  static malformed = (why) => new Rejection("malformed", why);
  static unsupported = (why) => new Rejection("unsupported", why);
  static other = (why) => new Rejection("other", why);
}

/** Why a reply is not said. */
export class RenderingError extends Refusal {
  static unsuitable = (why) => new RenderingError("unsuitable", why);
  static other = (why) => new RenderingError("other", why);
}

/** A sentence for the operator that names the key. Thrown from `init`, it refuses the version. */
export class ConfigError extends Error {
  get name() {
    return "ConfigError";
  }
}
