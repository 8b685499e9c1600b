"""What each item is worth to each metric: exactly the items that an estimate counts have a value.

A mean (score, rate, accuracy, recall, invalid) has the item's own value. Balanced accuracy, F1 and AUC are no means; an
item's value there is 1 where its answer is right and 0 where it is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.scores import MetricInfo
from harness.stages.gather import ITEM_MEANS, Item, answers, item_values
from harness.tasks import LABELS

DIGITS = 4
NOT_ASKED = "n/a"
"""The value of an item that a metric does not ask for, and so cannot lose."""


def metric_values(metric: MetricInfo, items: Sequence[Item]) -> dict[str, float | str]:
    """Sample key → value (rates and right or wrong as 0 or 1, scores on their scale); lost items are absent."""
    if metric.kind in ITEM_MEANS:
        others = [item.sample for item in items if metric.kind == "recall" and item.sample.target != metric.rate_label]
        values = {key: round(value, DIGITS) + 0.0 for key, value in item_values(metric, items).items()}
        return {**values, **{sample.key: NOT_ASKED for sample in others}}
    found = answers(metric, items)
    counted = found.answers if metric.kind != "auc" else found.margins or ()
    rows = zip(items, found.answers, counted, strict=True)
    return {item.sample.key: float(said == item.sample.target) for item, said, known in rows if known is not None}


def given_answers(metric: MetricInfo, items: Sequence[Item]) -> dict[str, str]:
    """Sample key → the label that a classification metric reads, ``(no label)`` for any other text; none if lost."""
    said = zip(items, answers(metric, items).answers, strict=True)
    return {
        item.sample.key: answer if answer in (item.sample.choices or LABELS) else "(no label)"
        for item, answer in said if answer is not None
    }  # fmt: skip
