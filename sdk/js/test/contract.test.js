// The types say what the contract says: every field and every case of it has its name in them.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const at = (path) => new URL(`../${path}`, import.meta.url);
const all = (folder, end) => {
  const names = readdirSync(at(folder)).filter((name) => name.endsWith(end));
  return names.map((name) => readFileSync(at(`${folder}/${name}`), "utf8"));
};

const camel = (name) => name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());

test("every field of a record and every case of a variant or an enum has its name", () => {
  const types = all("src", ".d.ts").join("\n");
  const wit = all("wit", ".wit").join("\n").replace(/\/\/.*$/gm, "");
  let seen = 0;
  for (const [, kind, body] of wit.matchAll(/\b(record|variant|enum)\s+[\w-]+\s*\{([^}]*)\}/g)) {
    const names = body.replace(/\([^)]*\)|<[^>]*>+/g, "").split(",").map((part) => part.split(":")[0].trim());
    for (const name of names.filter(Boolean)) {
      const found = kind === "record" ? new RegExp(`\\b${camel(name)}\\??:`).test(types) : types.includes(`"${name}"`);
      assert.ok(found, `${kind}: \`${name}\` is not in the types`);
      seen += 1;
    }
  }
  assert.ok(seen > 100, `names were seen: ${seen}`);
});
