// The world of a plugin is what its manifest asks for.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ManifestError, worldOf } from "../build/world.js";

/** The world of a manifest that says `table`; what reads TOML is another's, and tested there. */
function of(table) {
  const folder = mkdtempSync(join(tmpdir(), "chela-world-"));
  try {
    const manifest = join(folder, "plugin.toml");
    writeFileSync(manifest, JSON.stringify(table));
    return worldOf(manifest, JSON.parse);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("it imports what is asked for and exports the kind", () => {
  const world = of({ kind: "agent", grants: ["models"], optional: ["memory"] });
  assert.deepEqual(world.imports, ["config", "log", "memory", "models"]);
  assert.match(world.wit, /import models;\n {4}export answering;/);
  assert.doesNotMatch(of({ kind: "channel" }).wit, /import/);
  assert.doesNotMatch(of({ kind: "router", grants: ["history"] }).wit, /import/);
});

test("what it cannot have is named", () => {
  for (const [table, words] of [
    [{ kind: "agnet" }, /expected router, agent or channel/],
    [{ kind: "channel", grants: ["models"] }, /cannot be granted `models`/],
    [{ kind: "router", optional: ["http"] }, /cannot be granted `http`/],
    [{ kind: "agent", grants: ["history"] }, /cannot be granted `history`/],
  ]) {
    assert.throws(() => of(table), words);
  }
  assert.throws(() => worldOf("/nowhere/plugin.toml", JSON.parse), ManifestError);
});
