// The way to the host: a component's imports, or in Node the stand-in for tests.
//
// The world of a component holds what `plugin.toml` asks for and nothing else, so an interface may be missing here.
// That answers `not-granted`, as a capability does that is asked for and not given.

/** What answers: `imports` by interface name, put here by a component's entry; `standIn` by `testing.js`. */
export const host = { imports: undefined, standIn: undefined };

/**
 * Calls a function of the host. What it refuses is thrown as `Refusal`, a class of errors of the contract.
 */
export function ask(Refusal, name, call, ...args) {
  const imports = host.imports ?? host.standIn?.imports;
  if (!imports) throw new Error("there is no host here: import `@chela/sdk/testing` in tests");
  if (!imports[name]) throw Refusal.notGranted(`\`${name}\` is not in \`grants\` or \`optional\` of plugin.toml`);
  return checked(Refusal, () => imports[name][call](...args));
}

/** Calls what may refuse. The bindings throw an error of their own that carries the contract's as `payload`. */
export function checked(Refusal, call) {
  try {
    return call();
  } catch (error) {
    if (error?.payload?.tag === undefined) throw error;
    throw new Refusal(error.payload.tag, error.payload.val);
  }
}
