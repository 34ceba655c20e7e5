"""Explains with a model; its words are shown while they come."""

from dataclasses import dataclass

from chela_sdk import Agent, ModelError, Reply, Turn, config
from chela_sdk.models import Request


@dataclass
class Config:
    """What stands in `[config]`."""

    #: For whom it explains.
    level: str


class Tutor(Agent):
    def init(self) -> None:
        self.config = config(Config)

    def handle(self, turn: Turn) -> Reply:
        system = f"{turn.profile.persona}\nExplain it for {self.config.level}."
        try:
            return Reply(Request(turn.message.text, system=system).relay().text)
        except ModelError.OverBudget:
            # Tried again, it would be refused again: better a kind word now. Other errors may pass; the host waits.
            return Reply("Enough for today. Please ask me tomorrow.")
