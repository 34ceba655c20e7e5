#!/usr/bin/env node
// `chela-build FOLDER` makes `FOLDER/plugin.wasm` of `plugin.js` (or `plugin.ts`) and `plugin.toml` there;
// `--output FILE` puts it elsewhere.

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { MissingError, tools } from "./tools.js";
import { ManifestError, WORLD, worldOf } from "./world.js";

const SDK = fileURLToPath(new URL("..", import.meta.url));
const SOURCES = ["plugin.js", "plugin.mjs", "plugin.ts"];
/** Everything that would import WASI. A plugin gets time and randomness from nowhere. */
const NOTHING = ["stdio", "random", "clocks", "http", "fetch-event"];

/** What the author has to do something about; it is printed as it is. */
class AuthorError extends Error {}

async function main() {
  const { folder, output } = asked();
  const scratch = mkdtempSync(join(tmpdir(), "chela-build-"));
  try {
    await build(resolve(folder), resolve(output ?? join(folder, "plugin.wasm")), scratch);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** What the command line says. */
function asked() {
  try {
    const { positionals, values } = parseArgs({ allowPositionals: true, options: { output: { type: "string" } } });
    if (positionals.length === 1) return { folder: positionals[0], output: values.output };
  } catch {
    // Said below.
  }
  throw new AuthorError("usage: chela-build FOLDER [--output FILE]");
}

async function build(folder, output, scratch) {
  const began = performance.now();
  const { componentize, bundle, parse } = await tools(folder);
  const world = worldOf(join(folder, "plugin.toml"), parse);
  const source = SOURCES.map((name) => join(folder, name)).find((path) => existsSync(path));
  if (!source) throw new AuthorError(`${folder} holds neither ${SOURCES.join(" nor ")}`);

  await load(source, join(scratch, "plugin.mjs"), bundle);
  const joined = join(scratch, "component.js");
  await bundled(entry(source, world), folder, joined, bundle);
  const wit = join(scratch, "wit");
  cpSync(join(SDK, "wit"), wit, { recursive: true, dereference: true });
  writeFileSync(join(wit, `${WORLD}.wit`), world.wit);

  const options = { sourcePath: joined, witPath: wit, worldName: WORLD, disableFeatures: NOTHING };
  const { component } = await componentize(options).catch((error) => {
    throw new AuthorError(error.message); // what the engine of a component does not take, and Node did
  });
  // In one step: a host that watches the folder never reads half of it.
  writeFileSync(`${output}.new`, component);
  renameSync(`${output}.new`, output);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`${relative(".", output)}: ${(component.length / 1e6).toFixed(1)} MB in ${seconds} s`);
}

/** Loads the plugin in Node first: its author's mistakes are shown as Node shows them, with their own lines. */
async function load(source, file, bundle) {
  const text = `import Plugin from ${JSON.stringify(source)};
    import { checkPlugin } from ${JSON.stringify(join(SDK, "src/component.js"))};
    checkPlugin(Plugin);`;
  await bundled(text, SDK, file, bundle);
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", file], { stdio: "inherit" });
  if (status !== 0) throw new AuthorError("the plugin does not load");
}

/** What a component starts from: the author's class, joined to the imports and exports of its world. */
function entry(source, { imports, exported }) {
  const imported = imports.map((name) => `import * as ${name} from "chela:plugin/${name}@0.1.0";\n`).join("");
  return `${imported}import Plugin from ${JSON.stringify(source)};
    import ${JSON.stringify(join(SDK, "src/console.js"))};
    import { component } from ${JSON.stringify(join(SDK, "src/component.js"))};
    export const { init, ${exported} } = component(Plugin, { ${imports.join(", ")} });`;
}

async function bundled(contents, resolveDir, outfile, bundle) {
  const own = { "@chela/sdk": join(SDK, "src/index.js"), "@chela/sdk/testing": join(SDK, "src/testing.js") };
  const options = {
    bundle: true, format: "esm", platform: "neutral", mainFields: ["module", "main"], target: "es2022", sourcemap: "inline",
  };
  try {
    await bundle({ ...options, stdin: { contents, resolveDir }, outfile, external: ["chela:*"], alias: own });
  } catch {
    throw new AuthorError("the plugin does not compile"); // esbuild has printed why, with line and column
  }
}

main().catch((error) => {
  const known = [AuthorError, MissingError, ManifestError].some((kind) => error instanceof kind);
  console.error(known ? error.message : error);
  process.exitCode = 1;
});
