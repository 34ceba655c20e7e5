"""Sends what holds one of its words to an agent."""

from dataclasses import dataclass

from chela_sdk import Context, Decision, Message, Router, RoutingError, config


@dataclass
class Config:
    """What stands in `[config]`."""

    agent: str
    words: list[str]


class Words(Router):
    def init(self) -> None:
        self.config = config(Config)

    def route(self, message: Message, context: Context) -> Decision:
        text = message.text.lower()
        found = next((word for word in self.config.words if word in text), None)
        if found is None or not context.may_reach(self.config.agent):
            raise RoutingError.NoMatch("none of its words")
        return Decision(self.config.agent, reason=f"the word `{found}`")
