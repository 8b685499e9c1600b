"""Lost items at either end of the scale, so that no gate passes for want of a verdict.

An item is lost for a metric when it was planned (by this side or the one that it is compared with) and gave no value.
`filled` gives it one, as a record that no run holds; estimates and tests then read the side as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from harness.deciding.pairing import planned
from harness.deciding.sides import Side
from harness.records import Completion, CompletionOutcome, Sample, Verdict, VerdictOutcome
from harness.scores import MetricInfo
from harness.stages.gather import CellId, Item, answers, item_values
from harness.stages.score import ITEM_MEANS
from harness.tasks import LABELS

End = Literal["low", "high"]
CERTAIN = 1e6
"""Nats by which a filled-in answer is preferred; beyond any model's, so that it ranks first or last."""


def planned_by(sides: Sequence[Side], metric: MetricInfo) -> dict[str, Sample]:
    """Content key → sample, of every item that any of the sides planned."""
    return {key: item.sample for side in sides for key, item in planned(side, metric).items()}


def measured(metric: MetricInfo, items: Sequence[Item]) -> set[str]:
    """Keys of the items that have a value."""
    if metric.kind in ITEM_MEANS:
        return set(item_values(metric, items))
    found = answers(metric, items)
    margins = found.margins if metric.kind == "auc" and found.margins is not None else found.answers
    pairs = zip(items, found.answers, margins, strict=True)
    return {item.sample.key for item, answer, margin in pairs if answer is not None and margin is not None}


def n_lost(side: Side, metric: MetricInfo, wanted: Mapping[str, Sample]) -> int:
    """How many of the wanted items have no value, over the side's seeds."""
    found = (measured(metric, side.items(metric.task, seed)) for seed in side.seeds)
    return sum(len(wanted.keys() - each) for each in found)


def filled(side: Side, metric: MetricInfo, wanted: Mapping[str, Sample], end: End) -> Side:
    """The side with a value for every wanted item: those that were lost at one end of the metric."""
    changed: dict[CellId, Sequence[Item]] = {}
    for seed in side.seeds:
        items = side.items(metric.task, seed)
        known = measured(metric, items)
        kept = {item.sample.key: item for item in items if item.sample.key in known or item.sample.key not in wanted}
        lost = {key: _at(end, metric, sample) for key, sample in wanted.items() if key not in kept}
        changed[side.subject, seed, metric.task] = list({**kept, **lost}.values())
    return side._replace(loaded=side.loaded._replace(items={**side.loaded.items, **changed}))


def _at(end: End, metric: MetricInfo, sample: Sample) -> Item:
    """An item with the lowest or the highest value."""
    high = end == "high"
    score, said = None, None
    if metric.kind == "score":
        score = metric.bounds[1] if high else metric.bounds[0]
    elif metric.kind == "rate":
        said = metric.rate_label if high else f"not {metric.rate_label}"
    elif metric.kind == "invalid":
        said = "invalid" if high else sample.target
    else:
        said = sample.target if high else next(label for label in sample.choices or LABELS if label != sample.target)
    logprobs = {label: 0.0 if label == said else -CERTAIN for label in sample.choices} or None
    completion = Completion(
        sample_key=sample.key, model_key="", outcome=CompletionOutcome.OK, text=said or "", logprobs=logprobs
    )
    verdict = Verdict(
        completion_key=completion.key, text_hash="", judge_key="", outcome=VerdictOutcome.OK, label=said, score=score
    )
    return Item(sample, completion, {metric.judge: verdict} if metric.judge is not None else {})
