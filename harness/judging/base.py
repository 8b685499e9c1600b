"""What every judge offers, and the rule judge.

A judge takes a stream of (sample, completion) pairs and gives a stream of verdicts, in any order, as they are reached;
it never raises for what a completion says. A completion without an answer (filtered, error) gets a skipped verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

from harness.clients.base import Transport
from harness.models.base import Model
from harness.records import (
    JUDGED,
    Completion,
    JudgeSpec,
    ModelSpec,
    Sample,
    Verdict,
    VerdictOutcome,
    content_hash,
)


class Grade(NamedTuple):
    """A decision: a score, a label or both, and why. Neither means that the judge could not tell."""

    score: float | None
    label: str | None
    reason: str


class JudgeItem(NamedTuple):
    """One thing to judge.

    Attributes:
        sample: What was asked.
        completion: What was answered.
        seats: The seats whose verdicts are wanted.
        reference: Of a pairwise judge, the completion that it is compared with.
    """

    sample: Sample
    completion: Completion
    seats: tuple[int, ...] = (0,)
    reference: Completion | None = None

    @property
    def text_hash(self) -> str:
        """SHA-256 of all that the judge sees of the models' answers."""
        if self.reference is None:
            return self.completion.text_hash
        return content_hash([self.completion.text_hash, self.reference.text_hash])

    def verdict_key(self, judge_key: str, seat: int) -> str:
        """The key that a judge's verdict in one seat will have."""
        return content_hash([self.completion.key, self.text_hash, judge_key, seat])


class JudgeModel(NamedTuple):
    """The model that a judge's prompt is put to.

    Attributes:
        spec: Its identity, part of the judge's.
        transport: The way to a chat model; ``None`` where only the identity is needed (scoring, planning).
        local: Opens a local model, for the judges that read likelihoods or have a prompt of the model's own making.
        n_seats: How often each completion is judged.
        mode: How a verdict is read: the ``marked`` text, a JSON ``schema`` where the server obeys it (marked text where
            not), or the ``logprobs`` of the verdict's token, whose expectation is the score.
        takes_temperature: Whether it can be told one; a reasoning model may refuse all but its own.
    """

    spec: ModelSpec
    transport: Transport | None = None
    local: Callable[[], Model] | None = None
    n_seats: int = 1
    mode: Literal["marked", "schema", "logprobs"] = "marked"
    takes_temperature: bool = True


class Judge(Protocol):
    """Anything that judges: a rule, a model with a prompt, a trained classifier."""

    @property
    def spec(self) -> JudgeSpec:
        """Its identity."""

    @property
    def n_seats(self) -> int:
        """How many verdicts it gives on each completion."""

    @property
    def asked(self) -> JudgeModel | None:
        """The model that it asks, ``None`` where it needs none."""

    @property
    def pairwise(self) -> bool:
        """Whether it compares a completion with a reference."""

    def judge(self, items: Iterable[JudgeItem]) -> Iterator[Verdict]:
        """One verdict for every item and seat, as each is reached."""


Rule = Callable[[Sample, str], Grade]


class RuleJudge:
    """A judge that is a pure function of the sample and the text."""

    n_seats = 1
    asked = None
    pairwise = False

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
            text_hash=item.text_hash,
            judge_key=self.spec.key,
            outcome=VerdictOutcome.OK,
            label=grade.label,
            score=grade.score,
            reason=grade.reason,
        )


def blank(
    spec: JudgeSpec,
    item: JudgeItem,
    outcome: VerdictOutcome,
    reason: str,
    raw: str | None = None,
    seat: int = 0,
    call: str | None = None,
) -> Verdict:
    """A verdict that measures nothing, and says why."""
    return Verdict(
        completion_key=item.completion.key,
        text_hash=item.text_hash,
        judge_key=spec.key,
        seat=seat,
        outcome=outcome,
        reason=reason,
        raw=raw,
        call=call,
    )
