"""Language models, through the host's gateway. Grant: `models`.

    completion = Request("What is a chela?", tier="fast", system="Answer in one sentence.").complete()
    print(completion.text)

All calls raise `ModelError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from . import host
from .variant import Refusal, cases


class Role(Enum):
    """Whose words a prompt holds."""

    USER = 0
    ASSISTANT = 1


@dataclass
class Prompt:
    """One utterance of what the model is given."""

    role: Role
    text: str


class Finish(Enum):
    """Why the model stopped."""

    #: It said all it wanted.
    STOP = 0
    #: `max_output_tokens` or the reserved amount was reached.
    LENGTH = 1
    #: The provider withheld the rest.
    FILTERED = 2


@dataclass
class Usage:
    """Tokens and what they cost."""

    input_tokens: int
    #: Of the input tokens, those that the provider read from its cache.
    cached_tokens: int
    output_tokens: int
    #: 10⁻⁹ US dollars; 0 for an answer from the host's cache.
    cost_nanodollars: int


@dataclass
class Completion:
    """What the model said."""

    text: str
    finish: Finish
    usage: Usage
    #: `provider/model`, or `cache`.
    model: str


class ModelError(Refusal):
    """Why a model did not answer. One sentence in `value`."""

    NotGranted: ClassVar[type[ModelError]]
    #: Unknown tier, no prompts, too large.
    Invalid: ClassVar[type[ModelError]]
    #: A budget does not allow the call. The sentence may be shown to people.
    OverBudget: ClassVar[type[ModelError]]
    #: Every provider of the chain failed.
    Unavailable: ClassVar[type[ModelError]]
    #: The provider's policy refused.
    Refused: ClassVar[type[ModelError]]
    Limit: ClassVar[type[ModelError]]
    Other: ClassVar[type[ModelError]]


cases(ModelError, "NotGranted", "Invalid", "OverBudget", "Unavailable", "Refused", "Limit", "Other")


@dataclass(init=False)
class Request:
    """What a model is asked: a text, or prompts, oldest first.

    Without `tier` it is the agent's own. `max_output_tokens` beyond the tier's limit is that limit; `temperature` is
    0.0 to 2.0.
    """

    tier: str | None
    system: str | None
    prompts: list[Prompt]
    max_output_tokens: int | None
    temperature: float | None

    def __init__(
        self,
        prompts: str | list[Prompt],
        *,
        tier: str | None = None,
        system: str | None = None,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
    ) -> None:
        self.prompts = [Prompt(Role.USER, prompts)] if isinstance(prompts, str) else prompts
        self.tier, self.system = tier, system
        self.max_output_tokens, self.temperature = max_output_tokens, temperature

    def then(self, role: Role, text: str) -> Request:
        """Adds a prompt after those that are there."""
        self.prompts.append(Prompt(role, text))
        return self

    def complete(self) -> Completion:
        """Waits for the whole answer."""
        return host.ask("models", "complete", self, refusal=ModelError)

    def relay(self) -> Completion:
        """Like `complete`, but the tokens go to the person as drafts while they arrive.

        Only the reply that `handle` returns is the answer.
        """
        return host.ask("models", "relay", self, refusal=ModelError)

    def stream(self) -> StreamReader:
        """The tokens as they arrive."""
        return StreamReader(host.ask("models", "stream", self, refusal=ModelError))


class StreamReader:
    """Pieces of text, to be iterated. As a context manager it cancels the call where it is left early; what the
    provider may have produced by then is paid."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._over = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._over:
            raise StopIteration
        self._over = True  # also if the next piece is an error
        piece = host.checked(self._reader.next)
        if piece is None:
            raise StopIteration
        self._over = False
        return piece

    def completion(self) -> Completion:
        """The whole, once the iteration is at its end; `ModelError.Invalid` before."""
        return host.checked(self._reader.completion)

    def __enter__(self) -> StreamReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__(None, None, None)
