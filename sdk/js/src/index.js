// Write Chela plugins in JavaScript or TypeScript: one class for each kind, the default export of `plugin.js` beside
// `plugin.toml`. What each name means: `index.d.ts`.

export { Agent, Context, Decision, Outcome, Reply, Router } from "./agent.js";
export { blobs, http, knowledge, log, memory, models, tools } from "./capabilities.js";
export {
  Acknowledgement, Channel, Event, Frame, HttpFrame, Inbound, Request, Response, Step, Target,
} from "./channel.js";
export { config, configJson } from "./config.js";
export {
  AnsweringError, ConfigError, HostError, ModelError, Rejection, RenderingError, RoutingError,
} from "./errors.js";
