// What a plugin sees of the sdk. The names are those of the contract, in the spelling of JavaScript.
//
// Numbers of 64 bits (times, sizes, versions, tokens) are `bigint`. Variants are `{ tag, val }`. What the contract
// calls `none` is `undefined`.

export * from "./agent.js";
export * from "./capabilities.js";
export * from "./channel.js";
export * from "./errors.js";

/** What a key of the configuration is: the default's type, or what the constructor makes where it is needed. */
type Value<T> = T extends StringConstructor ? string
  : T extends NumberConstructor ? number
  : T extends BooleanConstructor ? boolean
  : T extends ArrayConstructor ? unknown[]
  : T extends ObjectConstructor ? Record<string, unknown>
  : T;

/**
 * The `config` table of this plugin (or agent, or channel), after `shape`: for each key its default, or `String`,
 * `Number`, `Boolean`, `Array` or `Object` where it is needed. Usually in `init`. An unknown key, a missing one or one
 * of another type throws a `ConfigError` that names it.
 */
export function config<T extends Record<string, unknown>>(shape: T): { [Key in keyof T]: Value<T[Key]> };

/** The same as one JSON object, `{}` if there is none. */
export function configJson(): string;
