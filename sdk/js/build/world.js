// The world of one plugin: exactly what its `plugin.toml` asks for, out of the contract. The host refuses an import
// that the manifest does not ask for, so the worlds of the contract are too large.

import { readFileSync } from "node:fs";

/** The name of the world that is made. */
export const WORLD = "this-plugin";

/** What a kind exports, and which grants it may have. `history` has no interface, and agents have it anyway. */
const KINDS = {
  router: { exported: "routing", allowed: ["models", "memory", "history"] },
  agent: {
    exported: "answering",
    allowed: ["models", "knowledge", "memory", "tools", "http", "blobs"],
  },
  channel: { exported: "translating", allowed: [] },
};

/** What is wrong with `plugin.toml`, as far as the world depends on it. The host checks the rest. */
export class ManifestError extends Error {}

/**
 * What the file `manifest` says of the world: what is imported, what is exported, and both as WIT. `parse` reads TOML.
 */
export function worldOf(manifest, parse) {
  const { kind, grants = [], optional = [] } = read(manifest, parse);
  const known = KINDS[kind];
  if (!known) throw new ManifestError(`${manifest}: \`kind\` is \`${kind}\`, expected router, agent or channel`);
  const asked = [...new Set([...grants, ...optional])].sort();
  const denied = asked.find((grant) => !known.allowed.includes(grant));
  if (denied) throw new ManifestError(`${manifest}: a plugin of kind ${kind} cannot be granted \`${denied}\``);
  const imports = asked.filter((grant) => grant !== "history");
  const lines = ["include base;", ...imports.map((grant) => `import ${grant};`), `export ${known.exported};`];
  const wit = `package chela:plugin@0.1.0;\n\nworld ${WORLD} {\n    ${lines.join("\n    ")}\n}\n`;
  return { imports: ["config", "log", ...imports], exported: known.exported, wit };
}

function read(manifest, parse) {
  let text;
  try {
    text = readFileSync(manifest, "utf8");
  } catch (error) {
    const folder = "a plugin is a folder with plugin.toml and plugin.js";
    throw new ManifestError(`${manifest} cannot be read (${error.code}); ${folder}`);
  }
  try {
    return parse(text);
  } catch (error) {
    throw new ManifestError(`${manifest}: ${error.message}`);
  }
}
