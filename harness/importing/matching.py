"""Recorded answers as completions and verdicts of the items that they belong to.

Pure: nothing is read or written. The first answer to an item counts; a row that says nothing new is a duplicate, and
one that says something else is counted and left out, never mixed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.errors import UserError
from harness.importing.answers import Given, RecordedAnswer
from harness.importing.items import Items
from harness.importing.measures import summed_up
from harness.models.base import Answer, written
from harness.records import Completion, CompletionOutcome, JudgeSpec, ModelSpec, Sample, Verdict, VerdictOutcome
from harness.tasks import TaskSpec

OTHER_ANSWER = "another answer to the same item"


class Matched(NamedTuple):
    """What the rows amount to.

    Attributes:
        completions: One an answered item.
        verdicts: At most one a completion.
        sources: Key of either → ``file:line``.
        dropped: Rows that added nothing, by reason.
        n_rows: Rows that did.
    """

    completions: list[Completion]
    verdicts: list[Verdict]
    sources: dict[str, str]
    dropped: Counter[str]
    n_rows: int


def match(answers: Sequence[RecordedAnswer], items: Items, model: ModelSpec, judge: JudgeSpec | None) -> Matched:
    """Completions and verdicts of recorded answers.

    Args:
        answers: The answers of one model.
        items: Where the items come from.
        model: Who answered.
        judge: Who gave the verdicts; ``None`` where there are none.

    Raises:
        UserError: An item or a score is not as the task needs it.
    """
    matching = _Matching(items, model, judge)
    reasons = [matching.add(answer) for answer in answers]
    return Matched(
        list(matching.completions.values()),
        list(matching.verdicts.values()),
        matching.sources,
        Counter(reason for reason in reasons if reason is not None),
        reasons.count(None),
    )


class _Matching:
    """What has been matched so far."""

    def __init__(self, items: Items, model: ModelSpec, judge: JudgeSpec | None) -> None:
        self.items, self.model, self.judge = items, model, judge
        self.completions: dict[str, Completion] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.sources: dict[str, str] = {}

    def add(self, answer: RecordedAnswer) -> str | None:
        """Adds what a row says; the reason, where that is nothing."""
        if not answer.asked[0].content.strip():
            return "empty instruction"
        asked = self.items.of(answer)
        if not asked:
            return "no such item in the task"
        if answer.text is None:
            return "no response"
        reasons = [self._add(answer, sample) for sample in asked]
        return reasons[0]

    def _add(self, answer: RecordedAnswer, sample: Sample) -> str | None:
        completion = _completion(answer, sample, self.model)
        first = self.completions.setdefault(completion.key, completion)
        if first != completion:
            return OTHER_ANSWER
        self.sources.setdefault(completion.key, answer.source)
        verdict = self._verdict(answer, completion)
        if verdict is None or self.verdicts.get(verdict.key) == verdict:
            return None if first is completion else "duplicate"
        if verdict.key in self.verdicts:
            return "another verdict on the same answer"
        self.verdicts[verdict.key] = verdict
        self.sources[verdict.key] = answer.source
        return None

    def _verdict(self, answer: RecordedAnswer, completion: Completion) -> Verdict | None:
        if self.judge is None or answer.verdict is None:
            return None
        _check_score(answer.verdict, answer, self.items.spec)
        return _verdict(answer.verdict, completion, self.judge)


def _completion(answer: RecordedAnswer, sample: Sample, model: ModelSpec) -> Completion:
    said = written(answer.text or "")
    if answer.logprobs is not None:
        said = Answer(CompletionOutcome.OK, answer.text or "", answer.logprobs)
    return Completion(
        sample_key=sample.key, model_key=model.key, outcome=said.outcome, text=said.text, logprobs=said.logprobs
    )


def _verdict(given: Given, completion: Completion, judge: JudgeSpec) -> Verdict:
    measured = given.label is not None or given.score is not None
    return Verdict(
        completion_key=completion.key,
        text_hash=completion.text_hash,
        judge_key=judge.key,
        outcome=VerdictOutcome.OK if measured else VerdictOutcome.UNPARSED,
        label=given.label,
        score=given.score,
        reason=given.reason,
        raw=given.raw,
    )


def _check_score(given: Given, answer: RecordedAnswer, spec: TaskSpec) -> None:
    for metric in summed_up(spec):
        low, high = metric.bounds
        if metric.kind == "score" and given.score is not None and not low <= given.score <= high:
            raise UserError(
                f"{answer.source}: the score {given.score:g} is outside the scale {low:g} to {high:g} of {metric.name}"
            )
