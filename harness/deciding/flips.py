"""The items on which two sides differ: prompt, both answers and both verdicts, in excerpts."""

from __future__ import annotations

from harness.deciding.pairing import Pairs
from harness.deciding.sides import Side
from harness.records import Finite, Record
from harness.scores import MetricInfo
from harness.stages.gather import Item
from harness.stats.core import FLAT

EXCERPT = 400
"""Characters of a prompt, an answer or a reason that a flip shows."""


class FlippedSide(Record):
    """What one side did with a flipped item; ``verdict`` is the judge's label and score, empty without a judge."""

    label: str
    seed: int
    value: Finite
    answer: str
    verdict: str
    reason: str


class Flip(Record):
    """An item of which two sides do not have the same value."""

    metric: str
    key: str
    prompt: str
    first: FlippedSide
    second: FlippedSide

    @property
    def size(self) -> float:
        """How far apart the two values are."""
        return abs(self.first.value - self.second.value)


def flips(first: Side, second: Side, pairs: Pairs) -> list[Flip]:
    """The items that differ, over all pairs of seeds, those of the largest difference first.

    Args:
        first: One side.
        second: The other.
        pairs: Their values. Where their seeds do not correspond no two answers belong together, and the AUC belongs to
            no item: nothing is listed.
    """
    metric = pairs.metric
    if metric.kind == "auc":
        return []
    found = []
    for one, two in pairs.seeds:
        ours, theirs = pairs.first[one], pairs.second[two]
        items, others = (
            {item.sample.key: item for item in side.items(metric.task, seed)}
            for side, seed in ((first, one), (second, two))
        )
        for key in pairs.clusters:
            if key in ours and key in theirs and abs(ours[key] - theirs[key]) > FLAT:
                sides = (
                    _flipped(first.label, one, ours[key], items[key], metric),
                    _flipped(second.label, two, theirs[key], others[key], metric),
                )
                found.append(
                    Flip(metric=metric.name, key=key, prompt=_prompt(items[key]), first=sides[0], second=sides[1])
                )
    return sorted(found, key=lambda flip: -flip.size)


def excerpt(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def _flipped(label: str, seed: int, value: float, item: Item, metric: MetricInfo) -> FlippedSide:
    verdict = item.verdicts.get(metric.judge or "")
    said = [] if verdict is None else [verdict.label, None if verdict.score is None else f"{verdict.score:g}"]
    return FlippedSide(
        label=label,
        seed=seed,
        value=value,
        answer=excerpt(item.completion.text if item.completion is not None else ""),
        verdict=" ".join(part for part in said if part) or (str(verdict.outcome) if verdict is not None else ""),
        reason=excerpt(verdict.reason if verdict is not None else ""),
    )


def _prompt(item: Item) -> str:
    return excerpt("\n\n".join(message.content for message in item.sample.messages))
