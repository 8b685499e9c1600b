"""What every judge offers, and the rule judge.

A judge takes a stream of (sample, completion) pairs and gives a stream of verdicts, in any order, as they are reached;
it never raises for what a completion says. A completion without an answer (filtered, error) gets a skipped verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from harness.records import JUDGED, Completion, JudgeSpec, Sample, Verdict, VerdictOutcome


class Grade(NamedTuple):
    """A decision: a score, a label or both, and why. Neither means that the judge could not tell."""

    score: float | None
    label: str | None
    reason: str


class JudgeItem(NamedTuple):
    """One thing to judge."""

    sample: Sample
    completion: Completion


class Judge(Protocol):
    """Anything that judges: a rule, a model with a prompt, a trained classifier."""

    @property
    def spec(self) -> JudgeSpec:
        """Its identity."""

    def judge(self, items: Iterable[JudgeItem]) -> Iterator[Verdict]:
        """One verdict for every item and seat, as each is reached."""


Rule = Callable[[Sample, str], Grade]


class RuleJudge:
    """A judge that is a pure function of the sample and the text."""

    def __init__(self, spec: JudgeSpec, rule: Rule) -> None:
        self.spec = spec
        self.rule = rule

    def judge(self, items: Iterable[JudgeItem]) -> Iterator[Verdict]:
        """Verdicts in the order of the items."""
        for item in items:
            yield self._verdict(item)

    def _verdict(self, item: JudgeItem) -> Verdict:
        if item.completion.outcome not in JUDGED:
            return blank(self.spec, item, VerdictOutcome.SKIPPED, f"the completion is {item.completion.outcome}")
        try:
            return self._graded(item)
        except Exception as error:  # a rule is the user's code: its failure is a verdict that is owed again
            return blank(self.spec, item, VerdictOutcome.ERROR, f"the rule failed ({type(error).__name__}: {error})")

    def _graded(self, item: JudgeItem) -> Verdict:
        grade = Grade(*self.rule(item.sample, item.completion.text))
        if grade.score is None and grade.label is None:
            return blank(self.spec, item, VerdictOutcome.UNPARSED, grade.reason)
        return Verdict(
            completion_key=item.completion.key,
            text_hash=item.completion.text_hash,
            judge_key=self.spec.key,
            outcome=VerdictOutcome.OK,
            label=grade.label,
            score=grade.score,
            reason=grade.reason,
        )


def blank(spec: JudgeSpec, item: JudgeItem, outcome: VerdictOutcome, reason: str, raw: str | None = None) -> Verdict:
    """A verdict that measures nothing, and says why."""
    return Verdict(
        completion_key=item.completion.key,
        text_hash=item.completion.text_hash,
        judge_key=spec.key,
        outcome=outcome,
        reason=reason,
        raw=raw,
    )
