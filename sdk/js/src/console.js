// What is printed goes to the log. Imported by what a component starts from: it has no other output.

import { log } from "./capabilities.js";

const LEVELS = { log: "info", info: "info", debug: "debug", warn: "warn", error: "error" };

for (const [name, level] of Object.entries(LEVELS)) {
  console[name] = (...values) => log.write(level, values.map(String).join(" "));
}
