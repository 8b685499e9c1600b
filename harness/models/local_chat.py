"""A local checkpoint as a chat model: what judges ask of a server, asked of weights on this machine.

Messages become a prompt by the tokenizer's chat template; where it has none they follow each other with an empty line
between them. Questions are answered side by side in batches. There are no log-probabilities of alternatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from harness.clients.base import Ask, Choice, ChoiceOutcome, Reply, Usage
from harness.models.base import Answer, Request
from harness.models.lm_eval_model import LmEvalModel
from harness.records import CompletionOutcome, Decoding, Message, Sample

BATCH = 16


class LocalChat:
    """A transport whose other end is a local model.

    Args:
        open_model: Opens the model, without a chat template of its own; called at the first question.
    """

    def __init__(self, open_model: Callable[[], LmEvalModel]) -> None:
        self.open_model = open_model

    @cached_property
    def model(self) -> LmEvalModel:
        """The model."""
        return self.open_model()

    def ask(self, asks: Iterable[Ask | None]) -> Iterator[tuple[Ask, Reply]]:
        """See `harness.clients.base.Transport`."""
        waiting: list[Ask] = []
        for ask in asks:
            if ask is not None:
                waiting.append(ask)
            if waiting and (ask is None or len(waiting) == BATCH):
                yield from self._answered(waiting)
                waiting = []
        yield from self._answered(waiting)

    def _answered(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """Replies to a batch; a request for several choices is drawn as often, with a seed for each."""
        draws = [(ask, draw) for ask in asks for draw in range(ask.request.n)]
        choices: dict[int, list[Choice]] = {id(ask): [] for ask in asks}
        tokens = {id(ask): 0 for ask in asks}
        for decoding, group in groupby(sorted(draws, key=_order), key=_decoding):
            alike = list(group)
            requests = [self._request(ask) for ask, _ in alike]
            for (ask, _), answer in zip(alike, self.model.answer(requests, decoding), strict=True):
                choices[id(ask)].append(_choice(answer))
                tokens[id(ask)] += len(self.model.lm.tok_encode(answer.text))
        for ask in asks:
            n_read = len(self.model.lm.tok_encode(self._prompt(ask)))
            yield ask, Reply(tuple(choices[id(ask)]), usage=Usage(n_read, tokens[id(ask)]))

    def _request(self, ask: Ask) -> Request:
        prompt = self._prompt(ask)
        sample = Sample(task="judging", task_version="1", messages=(Message(role="user", content=prompt),))
        return Request(sample, prompt)

    def _prompt(self, ask: Ask) -> str:
        tokenizer: Any = self.model.lm.tokenizer
        if tokenizer.chat_template is None:
            return "\n\n".join(text for _, text in ask.request.messages) + "\n\n"
        turns = [{"role": role, "content": text} for role, text in ask.request.messages]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def _decoding(draw: tuple[Ask, int]) -> Decoding:
    request = draw[0].request
    seed = (request.seed or 0) + request.seat + draw[1]
    return Decoding(max_new_tokens=request.max_tokens, temperature=request.temperature or 0.0, seed=seed)


def _order(draw: tuple[Ask, int]) -> tuple[int, float, int]:
    decoding = _decoding(draw)
    return decoding.max_new_tokens, decoding.temperature, decoding.seed


def _choice(answer: Answer) -> Choice:
    cut = answer.outcome is CompletionOutcome.TRUNCATED
    return Choice(ChoiceOutcome.TRUNCATED if cut else ChoiceOutcome.OK, answer.text)
