// What an author writes in TypeScript, one of each kind. Not run: that it compiles is the test of the types, and each
// line below `@ts-expect-error` that it would not.

import {
  Acknowledgement, Agent, Channel, config, Context, Decision, Event, Frame, Inbound, memory, Message, ModelError,
  models, Outcome, Outgoing, Reply, Request, Response, Router, Step, Surroundings, Target, Turn,
} from "@chela/sdk";
import { context, Host, message, turn } from "@chela/sdk/testing";

export class Answers extends Agent {
  config = { passages: 0, name: "" };

  override init(): void {
    this.config = config({ passages: 3, name: String });
    // @ts-expect-error a key that is not in the shape
    config({ passages: 3 }).pasages;
  }

  override handle({ message, profile }: Turn): Outcome | Reply {
    const hours: bigint = message.receivedMs / 3_600_000n;
    const version: bigint | undefined = memory.get("user", `${hours}`)?.version;
    memory.compareAndSet("user", "k", version ?? 0, "v");
    // @ts-expect-error no scope of that name
    memory.get("person", "k");
    try {
      const stream = new models.Request(message.text, { system: profile.persona }).add("assistant", "a").stream();
      const text = [...stream].join("");
      return new Reply(text).link("a", "b").choices(["a", "b"]).citation("c");
    } catch (error) {
      if (error instanceof ModelError && error.tag === "over-budget") return Outcome.askAgain(1_000, error.message);
      throw error;
    }
  }
}

export class Chooses extends Router {
  override route(message: Message, context: Context): Decision {
    return new Decision(context.mayReach("a") ? "a" : context.defaultAgent, { score: message.text.length });
  }
}

export class Speaks extends Channel {
  override receive(frame: Frame, { ownIds }: Surroundings): Inbound {
    const { id, by } = frame.intoHttp().json();
    if (ownIds.includes(by)) return Inbound.ignored("own");
    const identity = { dedupe: [[id]], conversation: [id], sender: by };
    return Inbound.events([Event.message({ identity, text: "a" })], Acknowledgement.now(Response.text("b")));
  }

  override render(outgoing: Outgoing, target: Target, state?: string): Step {
    // @ts-expect-error a target may not be bound
    const to: string = target.value("to");
    return state === undefined ? Step.send(Request.json("send", { to, text: outgoing.reply.text })) : Step.done();
  }
}

export const reply: Outcome | Reply = new Host({ name: "a" }).answer("b").run((host) => {
  new Chooses().route(message("a", { receivedMs: 1n }), context(["a"], { sticky: "a" }));
  const said = new Answers().handle(turn("a", { persona: "b", past: [] }));
  return host.requests.length > 0 ? said : new Reply("nothing asked");
});
