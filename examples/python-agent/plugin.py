"""Explains things with a model, shows the words while they come, and counts what it has explained."""

from dataclasses import dataclass

from chela_sdk import Agent, HostError, ModelError, Reply, Speaker, Turn, config, memory
from chela_sdk.models import Prompt, Request, Role


@dataclass
class Config:
    """What stands in `[config]`."""

    #: For whom it explains.
    level: str


class Tutor(Agent):
    def init(self) -> None:
        self.config = config(Config)

    def handle(self, turn: Turn) -> Reply:
        roles = {Speaker.PERSON: Role.USER, Speaker.AGENT: Role.ASSISTANT}
        prompts = [Prompt(roles[said.speaker], said.text) for said in turn.past]
        prompts.append(Prompt(Role.USER, turn.message.text))
        system = f"{turn.profile.persona}\nExplain for {self.config.level}."
        try:
            # The words are drafts in the channel while they come; what is returned below is the answer.
            answer = Request(prompts, system=system).relay().text
        except ModelError.OverBudget:
            # Tried again, it would be refused again: better a kind word now. Other errors may pass; the host waits.
            return Reply("I have explained enough for today. Please ask me tomorrow.")
        count = counted()
        return Reply(answer if count is None else f"{answer}\n\n(Question {count}.)")


def counted() -> int | None:
    """How many questions this person has asked; nothing without memory."""
    try:
        before = memory.get(memory.Scope.USER, "questions")
        count = int(before.value) + 1 if before else 1
        memory.set(memory.Scope.USER, "questions", str(count))
        return count
    except HostError.NotGranted:
        return None
