"""Judges that put a prompt to a chat model and read the verdict from its reply.

Reads a judge's folder (see `harness.judging.judge_file` and `harness.judging.prompt_file`). A question is one request,
for one seat or, with ``n``, for several; a seat that a reply has no choice for gets no verdict, and is to be asked
again. What stops the judge (a refusal, a content filter, a failed request, a reply without a marked verdict) is the
outcome of its verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from harness.clients.base import ChatRequest, Choice, ChoiceOutcome, Reply, Transport
from harness.errors import UserError
from harness.judging.asking import Asking, ask_judges
from harness.judging.base import Grade, Judge, JudgeItem, JudgeModel, blank
from harness.judging.expected import N_ALTERNATIVES, expected
from harness.judging.extract import EXTRACTOR_VERSION, Extraction, Scale, extract
from harness.judging.fence import FENCE_VERSION, harmless_text
from harness.judging.judge_file import JudgeFile
from harness.judging.prompt_file import Messages, Prompts, texts_of
from harness.records import JUDGED, JudgeSpec, Verdict, VerdictOutcome, content_hash

_LARGEST_ENUM = 101
_AS_JSON = {
    "en": "If your reply has to be JSON, give the reason first, as `reason`, then the bare verdict, as `{key}`.",
    "zh": "如果回复必须是 JSON：先在 `reason` 中写理由，再在 `{key}` 中写判定，不加方括号。",
}


class PromptJudge:
    """A judge of single answers that asks a chat model.

    Args:
        file: What it is.
        prompts: What it asks.
        asked: The model; without one the judge has an identity but cannot judge.
    """

    pairwise = False

    def __init__(self, file: JudgeFile, prompts: Prompts, asked: JudgeModel | None = None) -> None:
        self.file, self.prompts = file, prompts
        self.asked: JudgeModel | None = asked
        self.mode = asked.mode if asked else "marked"
        self.n_draws = asked.n_seats if asked else 1
        own = file.seat_temperature if self.n_draws > 1 else file.temperature
        self.temperature = own if asked is None or asked.takes_temperature else None
        self.offered = file.offered
        if self.mode == "logprobs" and file.decimals:
            raise UserError(f"judge '{file.name}': mode logprobs needs a scale of whole numbers or labels")
        model_key = asked.spec.key if asked else None
        content = content_hash(self._meaning())
        self.spec = JudgeSpec(name=file.name, version=file.version, content=content, model_key=model_key)
        self._fenced_by = content_hash([file.name, prompts])  # without the extractor: stored replies can be read anew

    def _meaning(self) -> list[Any]:
        """All that can change a verdict, but for the model."""
        file = self.file
        chosen = [file.kind, file.scale, file.decimals, list(file.labels.items()), file.max_tokens]
        as_json = _AS_JSON if self.mode == "schema" else None
        return [*chosen, self.temperature, self.mode, as_json, self.prompts, EXTRACTOR_VERSION, FENCE_VERSION]

    @property
    def n_seats(self) -> int:
        """How many verdicts it gives on each answer."""
        return self.n_draws

    @property
    def transport(self) -> Transport:
        """The way to its model.

        Raises:
            UserError: It has none.
        """
        if self.asked is None or self.asked.transport is None:
            raise UserError(
                f"judge '{self.file.name}' asks a chat model and has none here: name one under models and bind it with "
                f"judging.judges.{self.file.name}.models"
            )
        return self.asked.transport

    def request(self, item: JudgeItem, seats: Sequence[int]) -> ChatRequest:
        """The question about an item, for the first of these seats and those that can be asked along with it."""
        together = self._together(seats)
        return ChatRequest(
            messages=self._messages(item, together[0]),
            max_tokens=self.file.max_tokens,
            temperature=self.temperature,
            n=len(together),
            seat=together[0],
            schema=self._schema if self.mode == "schema" else None,
            top_logprobs=N_ALTERNATIVES if self.mode == "logprobs" else 0,
            role=self.file.name,
        )

    def requests(self, item: JudgeItem) -> Iterator[ChatRequest]:
        """All questions about an item, where every reply has all of the choices that it is asked for."""
        left = item.seats
        while left:
            yield self.request(item, left)
            together = self._together(left)
            left = tuple(seat for seat in left if seat not in together)

    def verdicts(self, item: JudgeItem, reply: Reply, call_key: str | None = None) -> list[Verdict]:
        """What a reply to `request` amounts to: a verdict for each seat that it has a choice for, in order.

        Args:
            item: What was judged, with the seats that were wanted.
            reply: The reply. A failed one gives every seat that was asked an error.
            call_key: Key of the request.
        """
        seats = self._together(item.seats)
        if reply.failed:
            reason = reply.detail or "the request failed"
            return [blank(self.spec, item, VerdictOutcome.ERROR, reason, seat=seat, call=call_key) for seat in seats]
        return [self._verdict(item, seat, choice, call_key) for seat, choice in zip(seats, reply.choices, strict=False)]

    def unfit(self, item: JudgeItem) -> str | None:
        """Why an item cannot be judged, ``None`` where it can."""
        outcome = item.completion.outcome
        return None if outcome in JUDGED else f"the completion is {outcome}"

    def judge(self, items: Iterable[JudgeItem | None]) -> Iterator[Verdict]:
        """See `harness.judging.base.Judge`; an item that is ``None`` says that there is nothing right now."""
        for verdicts in ask_judges(self.transport, (item and Asking(self, item) for item in items)):
            yield from verdicts

    # What a judge of another kind does in its own way

    def _together(self, seats: Sequence[int]) -> Sequence[int]:
        """The seats, of these, whose question is that of the first."""
        return seats

    def _texts(self, item: JudgeItem, seat: int) -> dict[str, str]:
        """Slot → text."""
        return {**texts_of(item.sample), "response": item.completion.text}

    def seen(self, label: str, seat: int) -> str:
        """What a label that the judge wrote says of the completion."""
        return label

    def _grade(self, value: float | str, seat: int, reason: str) -> Grade:
        return Grade(None, self.seen(value, seat), reason) if isinstance(value, str) else Grade(value, None, reason)

    def _weighed(self, weights: dict[float | str, float], seat: int, reason: str) -> Grade:
        """The decision that the probabilities of all that was offered amount to."""
        if isinstance(self.offered, Scale):
            return Grade(sum(float(value) * weight for value, weight in weights.items()), None, reason)
        best = max(weights, key=lambda label: weights[label])
        return Grade(weights[self.file.first_label or ""], str(best), reason)

    # What all do alike

    @cached_property
    def _schema(self) -> str:
        if not isinstance(self.offered, Scale):
            verdict: dict[str, Any] = {"type": "string", "enum": list(self.offered.written)}
        elif self.offered.decimals or self.offered.high - self.offered.low >= _LARGEST_ENUM:
            verdict = {"type": "number" if self.offered.decimals else "integer"}
        else:
            verdict = {"type": "integer", "enum": [int(form) for form in self.offered.written]}
        fields = {"reason": {"type": "string"}, self.offered.key: verdict}
        return json.dumps(
            {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        )

    def _messages(self, item: JudgeItem, seat: int) -> Messages:
        prompt = self.prompts.of(item.sample)
        messages = prompt.filled(self._texts(item, seat), self.file.labels, self._fenced_by)
        if self.mode != "schema":
            return messages
        role, text = messages[-1]
        return (*messages[:-1], (role, f"{text}\n{_AS_JSON[prompt.language].format(key=self.offered.key)}"))

    def _verdict(self, item: JudgeItem, seat: int, choice: Choice, call: str | None) -> Verdict:
        raw = choice.text
        if choice.outcome in (ChoiceOutcome.REFUSED, ChoiceOutcome.FILTERED):
            reason = "the judge's model declines" if choice.outcome is ChoiceOutcome.REFUSED else "the content filter"
            return blank(self.spec, item, VerdictOutcome(choice.outcome), reason, raw, seat, call)
        outcome, grade = self._read(item, seat, choice)
        if outcome is not VerdictOutcome.OK:
            return blank(self.spec, item, outcome, grade.reason, raw, seat, call)
        return Verdict(
            completion_key=item.completion.key,
            text_hash=item.text_hash,
            judge_key=self.spec.key,
            seat=seat,
            outcome=outcome,
            label=grade.label,
            score=grade.score,
            reason=grade.reason,
            raw=raw,
            call=call,
        )

    def _read(self, item: JudgeItem, seat: int, choice: Choice) -> _Read:
        truncated = choice.outcome is ChoiceOutcome.TRUNCATED
        texts = map(harmless_text, self._texts(item, seat).values())
        found = extract(choice.text, self.offered, texts, truncated=truncated)
        if found.value is None:
            cut = truncated and found.outcome is VerdictOutcome.UNPARSED
            return _Read(found.outcome, Grade(None, None, f"truncated: {found.reason}" if cut else found.reason))
        if self.mode != "logprobs":
            return _Read(VerdictOutcome.OK, self._grade(found.value, seat, found.reason))
        return self._read_probabilities(found, found.value, seat, choice)

    def _read_probabilities(self, found: Extraction, value: float | str, seat: int, choice: Choice) -> _Read:
        weighed = expected(choice, found, self.offered)
        if weighed.weights is not None:
            return _Read(VerdictOutcome.OK, self._weighed(dict(weighed.weights), seat, found.reason))
        if weighed.astray:
            return _Read(VerdictOutcome.UNPARSED, Grade(None, None, weighed.detail))
        return _Read(VerdictOutcome.OK, self._grade(value, seat, f"[plain verdict: {weighed.detail}] {found.reason}"))


class _Read(NamedTuple):
    outcome: VerdictOutcome
    grade: Grade


def in_groups(judge: Judge, items: Iterable[JudgeItem], size: int = 32) -> Iterator[list[Verdict]]:
    """A judge's verdicts in the groups in which they are best written down.

    Those of a chat model as their replies were made durable together; those of others so many at a time.

    Args:
        judge: Any judge.
        items: What it is to judge.
        size: Verdicts of a group, where no model is asked.
    """
    if isinstance(judge, PromptJudge):
        yield from ask_judges(judge.transport, (Asking(judge, item) for item in items))
        return
    verdicts = iter(judge.judge(items))
    while group := list(islice(verdicts, size)):
        yield group
