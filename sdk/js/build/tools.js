// The tools that a build needs, found where the author has installed them: from the plugin's folder upward, then from
// the current one. Not as the sdk's own dependencies, because an sdk that is linked from a clone would look for them
// there.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

/**
 * Exact for what makes the component: how it takes errors and handles is tested with this one. It loads the shim
 * without naming it among its dependencies, so it is named here.
 */
const TOOLS = [
  "@bytecodealliance/componentize-js@0.23.0",
  "esbuild",
  "smol-toml",
  "@bytecodealliance/preview2-shim@0.17.9",
];

/** Some tools are not there. */
export class MissingError extends Error {}

/** All tools, loaded. */
export async function tools(folder) {
  const found = TOOLS.map((tool) => ({ tool, at: find(tool.replace(/(?<=.)@.*$/, ""), [folder, process.cwd()]) }));
  const missing = found.filter(({ at }) => !at).map(({ tool }) => tool);
  if (missing.length > 0) {
    throw new MissingError(`missing: ${missing.join(", ")}\nrun: npm install --save-dev ${missing.join(" ")}`);
  }
  const [componentize, esbuild, toml] = await Promise.all(found.slice(0, 3).map(({ at }) => import(entry(at))));
  return { componentize: componentize.componentize, bundle: esbuild.build, parse: toml.parse };
}

function find(name, starts) {
  for (const start of starts) {
    for (let folder = start; ; folder = dirname(folder)) {
      const at = join(folder, "node_modules", name);
      if (existsSync(join(at, "package.json"))) return at;
      if (folder === dirname(folder)) break;
    }
  }
  return undefined;
}

/** The file that `import` would take. */
function entry(at) {
  const { exports, main } = JSON.parse(readFileSync(join(at, "package.json"), "utf8"));
  let file = exports?.["."] ?? exports ?? main;
  while (typeof file === "object") file = file.import ?? file.default;
  return pathToFileURL(join(at, file)).href;
}
