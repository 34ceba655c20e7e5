// Calls every function of the sdk in a host and says what was not as it should be.

import { Agent, blobs, http, knowledge, log, memory, models, Reply, tools } from "@chela/sdk";

const ask = (text, options) => new models.Request(text, options);

const refused = (tag, call) => {
  try {
    call();
  } catch (error) {
    return error.tag === tag;
  }
  return false;
};

const whole = () => {
  const stream = ask("some more words", { tier: "fast", maxOutputTokens: 50, temperature: 0.5 }).stream();
  const said = [...stream].join("");
  const { text, finish, usage } = stream.completion();
  return said === text && finish === "stop" && usage.outputTokens > 0n;
};

const early = () => {
  const stream = ask("three words here").stream();
  stream.next();
  const invalid = refused("invalid", () => stream.completion());
  stream.close();
  return invalid && stream.next().done;
};

const remembered = () => {
  memory.set("conversation", "k", "a");
  const { version } = memory.get("conversation", "k");
  const late = memory.compareAndSet("conversation", "k", version + 1n, "b");
  const inTime = memory.compareAndSet("conversation", "k", Number(version), "c");
  const { value } = memory.get("conversation", "k");
  return !late && inTime && value === "c" && memory.get("agent", "never written") === undefined;
};

const CHECKS = {
  complete: () => ask("hello").complete().text !== "",
  relay: () => ask("hello").add("assistant", "yes?").relay().model.startsWith("offline/"),
  "unknown tier": () => refused("invalid", () => ask("hello", { tier: "no-such-tier" }).complete()),
  stream: whole,
  "a stream that is left": early,
  memory: remembered,
  "empty key": () => refused("invalid", () => memory.get("user", "")),
  knowledge: () => knowledge.search("claw", 3).every(({ source }) => source.startsWith("crab.md")),
  "no passages": () => refused("invalid", () => knowledge.search("claw", 0)),
  tools: () => refused("not-granted", () => tools.call("a", "{}")),
  "tool list": () => refused("not-granted", () => tools.listTools()),
  http: () => refused("not-granted", () => http.fetch({ url: "https://a.example" })),
  "blobs read": () => refused("not-granted", () => blobs.read("a", 0)),
  "blobs write": () => refused("not-granted", () => blobs.write("a", "text/plain", new Uint8Array([1]))),
};

export default class Everything extends Agent {
  handle() {
    log.info("every function is called");
    const names = Object.keys(CHECKS);
    const wrong = names.filter((name) => !CHECKS[name]());
    const reply = new Reply(wrong.join(", ") || `${names.length} as they should be`);
    return reply.link("label", "https://a.example").choices(["shown", "value"]).citation("source");
  }
}
