"""What is asked of a chat model and what comes back, whichever way it travels.

A transport takes a stream of requests and gives a stream of replies, in any order, each as it is finished. It pulls a
request only when it has room for it; a source yields ``None`` when it has nothing right now. It never raises for what a
server does: a failure is a reply whose outcome is ``error``. A reply says what was billed even where it is of no use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol


class ChatRequest(NamedTuple):
    """One question.

    Attributes:
        messages: (role, text) in order; roles are ``system``, ``user`` and ``assistant``.
        max_tokens: Longest reply.
        temperature: 0 is greedy; ``None`` leaves it to the server, for models that take no other.
        n: How many choices to draw.
        seed: Sent where it is not ``None``.
        seat: Tells apart otherwise equal requests whose replies are drawn anew; not on the wire.
        schema: JSON schema that the reply must follow, as JSON text; sent only where the server obeys schemas.
        top_logprobs: Alternatives wanted for every token of the reply; 0 asks for none.
        role: What it is for, in ledger and forecast: a judge's or a subject's name; not on the wire.
    """

    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    temperature: float | None = 0.0
    n: int = 1
    seed: int | None = None
    seat: int = 0
    schema: str | None = None
    top_logprobs: int = 0
    role: str = "judge"


class ChoiceOutcome(StrEnum):
    """How one choice of a reply ended."""

    OK = "ok"
    TRUNCATED = "truncated"  # the length limit cut it off
    REFUSED = "refused"  # the server marked it as the model's refusal
    FILTERED = "filtered"  # the provider's content filter


class Token(NamedTuple):
    """One token of a choice, with its alternatives: text → log-probability (nats)."""

    text: str
    logprob: float
    top: dict[str, float]


class Choice(NamedTuple):
    """One of the n texts of a reply; ``tokens`` only where log-probabilities were asked for and came."""

    outcome: ChoiceOutcome
    text: str
    tokens: tuple[Token, ...] | None = None


class Usage(NamedTuple):
    """Tokens as the server billed them; ``cached_tokens`` is the part of the input that its prompt cache served."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Reply(NamedTuple):
    """What became of a request.

    Attributes:
        choices: At most ``n``; empty exactly when the request failed, and then ``detail`` says why in one line.
        served_model: The model that the server says it was.
        usage: What the server says it billed; ``None`` where it does not say.
        n_attempts: Requests sent for it, those that failed included; 0 where it came from the cache.
        seconds: From the first attempt to the reply.
        detail: What went wrong.
        stored: It came from the cache and cost nothing.
        batched: It came through the Batch API, at its price.
    """

    choices: tuple[Choice, ...]
    served_model: str | None = None
    usage: Usage | None = None
    n_attempts: int = 1
    seconds: float = 0.0
    detail: str | None = None
    stored: bool = False
    batched: bool = False

    @property
    def failed(self) -> bool:
        """Whether it has to be asked again."""
        return not self.choices

    def to_json(self) -> str:
        """As JSON text, for the cache; `from_json` reads it back."""
        choices = [[c.outcome, c.text, c.tokens and [list(token) for token in c.tokens]] for c in self.choices]
        return json.dumps([choices, self.served_model, self.usage, self.batched], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """A stored reply."""
        choices, served_model, usage, batched = json.loads(text)
        return cls(
            tuple(Choice(ChoiceOutcome(o), t, tokens and tuple(Token(*x) for x in tokens)) for o, t, tokens in choices),
            served_model,
            usage and Usage(*usage),
            n_attempts=0,
            stored=True,
            batched=batched,
        )


class Ask(NamedTuple):
    """A request, and whatever the asker wants to have back with the reply.

    Attributes:
        request: The request.
        tag: Comes back with the reply.
        once_more: Is told of a reply that was billed and of no use, and says whether another may be paid for; from any
            thread. Without it every one may.
    """

    request: ChatRequest
    tag: Any
    once_more: Callable[[Usage], bool] | None = None


class Transport(Protocol):
    """A way to a chat model."""

    def ask(self, asks: Iterable[Ask | None]) -> Iterator[tuple[Ask, Reply]]:
        """One reply for every request, as each is finished."""


class Server(NamedTuple):
    """An OpenAI-compatible server and the model on it.

    Attributes:
        model: The name that the server knows it by.
        base_url: ``None`` is the official one.
        api_key_env: The environment variable that holds the key; the key itself is never stored.
        api: ``chat`` completions or ``responses``.
        max_tokens_field: How the server calls the length limit: ``max_tokens`` or ``max_completion_tokens``.
        schema: Whether to use JSON schemas: ``auto`` finds out, ``never`` does not ask.
        extra: Further fields of every request's body.
        timeout_seconds: Of one attempt.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api: str = "chat"
    max_tokens_field: str = "max_completion_tokens"
    schema: str = "auto"
    extra: Mapping[str, Any] = {}
    timeout_seconds: float = 120.0
