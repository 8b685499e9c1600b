"""Judges that compare a completion with a reference, in both orders.

Even seats show the completion first, odd seats the reference; a verdict is told as the completion's: ``win``, ``loss``
or ``tie``. A judge that prefers a place over an answer is seen by its verdicts flipping with the order.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.judging.base import Grade, JudgeItem
from harness.judging.combine import PREFERENCE
from harness.judging.prompt_file import texts_of
from harness.judging.prompt_judge import PromptJudge
from harness.records import JUDGED

_SEEN = ({"first": "win", "second": "loss", "tie": "tie"}, {"first": "loss", "second": "win", "tie": "tie"})
"""Order → the judge's label → the completion's."""


class PairwiseJudge(PromptJudge):
    """A judge of pairs that asks a chat model."""

    pairwise = True

    @property
    def n_seats(self) -> int:
        """Two, one for each order, for every draw."""
        return 2 * self.n_draws

    def unfit(self, item: JudgeItem) -> str | None:
        """Why a pair cannot be judged, ``None`` where it can."""
        if item.reference is None:
            return "there is nothing to compare the completion with"
        if item.reference.outcome not in JUDGED:
            return f"the reference is {item.reference.outcome}"
        return super().unfit(item)

    def _together(self, seats: Sequence[int]) -> Sequence[int]:
        return [seat for seat in seats if seat % 2 == seats[0] % 2]

    def _texts(self, item: JudgeItem, seat: int) -> dict[str, str]:
        reference = item.reference.text if item.reference else ""
        first, second = (reference, item.completion.text) if seat % 2 else (item.completion.text, reference)
        return {**texts_of(item.sample), "first": first, "second": second}

    def seen(self, label: str, seat: int) -> str:
        """``win``, ``loss`` or ``tie`` of the completion."""
        return _SEEN[seat % 2][label]

    def _weighed(self, weights: dict[float | str, float], seat: int, reason: str) -> Grade:
        """The likeliest verdict; the score is how much of a win it is expected to be."""
        seen = {self.seen(str(label), seat): weight for label, weight in weights.items()}
        score = sum(PREFERENCE[label] * weight for label, weight in seen.items())
        return Grade(score, max(seen, key=lambda label: seen[label]), reason)
