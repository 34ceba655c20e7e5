"""Chooses the agent whose words a message holds; the more of them, the surer."""

import re
from dataclasses import dataclass, field

from chela_sdk import Alternative, Context, Decision, Message, Router, RoutingError, config


@dataclass
class Config:
    """What stands in `[config]`."""

    #: For each agent its words, in lower case.
    words: dict = field(default_factory=dict)


class Words(Router):
    """Counts words. The table is made once, at load, and is in the snapshot."""

    def init(self) -> None:
        self.agents: dict[str, list[str]] = {}
        for agent, words in config(Config).words.items():
            for word in words:
                self.agents.setdefault(word, []).append(agent)

    def route(self, message: Message, context: Context) -> Decision:
        found: dict[str, int] = {}
        for word in set(re.findall(r"\w+", message.text.lower())):
            for agent in self.agents.get(word, []):
                if context.may_reach(agent):
                    found[agent] = found.get(agent, 0) + 1
        if not found:
            raise RoutingError.NoMatch("no word of any agent")
        total = sum(found.values())
        # The most words first; of equals the one whose name comes first, so that the same message goes the same way.
        (best, hits), *others = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        alternatives = [Alternative(agent, count / total) for agent, count in others]
        return Decision(best, hits / total, alternatives, f"{hits} of {total} known words")
