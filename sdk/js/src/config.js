// The plugin's own configuration.

import { ConfigError, HostError } from "./errors.js";
import { ask } from "./host.js";

/** The `config` table of this plugin (or agent, or channel) as one JSON object, `{}` if there is none. */
export const configJson = () => ask(HostError, "config", "json");

/** How a type is called in a sentence. */
const CALLED = { string: "text", number: "a number", boolean: "true or false", list: "a list", table: "a table" };

/** What stands for a key that has no default. */
const NEEDED = new Map([
  [String, "string"], [Number, "number"], [Boolean, "boolean"], [Array, "list"], [Object, "table"],
]);

/**
 * The same, after `shape`: for each key its default, or `String`, `Number`, `Boolean`, `Array` or `Object` where it is
 * needed. An unknown key, a missing one or one of another type throws a `ConfigError` that names it.
 */
export function config(shape) {
  const table = JSON.parse(configJson());
  for (const [key, value] of Object.entries(table)) {
    if (!Object.hasOwn(shape, key)) {
      const known = Object.keys(shape).map((name) => `\`${name}\``).join(", ") || "nothing";
      throw new ConfigError(`config: unknown key \`${key}\`, expected ${known}`);
    }
    const wanted = NEEDED.get(shape[key]) ?? type(shape[key]);
    if (wanted !== type(value)) {
      throw new ConfigError(`config.${key}: expected ${CALLED[wanted]}, found ${JSON.stringify(value)}`);
    }
  }
  const missing = Object.keys(shape).find((key) => NEEDED.has(shape[key]) && !Object.hasOwn(table, key));
  if (missing !== undefined) throw new ConfigError(`config: \`${missing}\` is missing`);
  return { ...shape, ...table };
}

const type = (value) => (Array.isArray(value) ? "list" : typeof value === "object" ? "table" : typeof value);
