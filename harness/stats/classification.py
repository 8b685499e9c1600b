"""Measures of a classifier with two labels, each with an interval and coverage bounds.

Reads one target an item, the answer (``None`` where the item was lost; any other text that is no label is *invalid*)
and, for the AUC, the margin of the positive label's log-likelihood over the other's. An invalid answer is wrong, and
counted apart; a lost item is coverage, never wrong. Accuracy and recall are rates; balanced accuracy, F1 and AUC have
seeded percentile intervals over resampled clusters. ``worst`` and ``best`` put every lost item on the wrong or the
right side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.scores import Estimate
from harness.stats.core import CONFIDENCE, Clusters, FloatArray, IntArray, Interval, cluster_codes, wilson
from harness.stats.intervals import rate
from harness.stats.resample import OfCounts, draws_of_auc, draws_of_counts, percentile

Measure = Literal["accuracy", "balanced_accuracy", "f1", "auc", "recall", "invalid"]
Resampled = Literal["balanced_accuracy", "f1", "auc"]


class Answers(NamedTuple):
    """What a classifier said about every planned item.

    Attributes:
        targets: The right label of each item, length ``n_total``; ``positive`` or ``negative``.
        answers: What came back: a label, any other text (invalid), or ``None`` (lost).
        positive: The label that F1 and AUC are about.
        negative: The other label.
        clusters: Cluster of each item.
        margins: log p(positive) - log p(negative) in nats, ``None`` where lost; needed by the AUC alone.
    """

    targets: Sequence[str]
    answers: Sequence[str | None]
    positive: str = "harmful"
    negative: str = "harmless"
    clusters: Clusters | None = None
    margins: Sequence[float | None] | None = None


class Confusion(NamedTuple):
    """``counts[target][answer]`` over the labels, and how many answers were none."""

    counts: dict[str, dict[str, int]]
    n_invalid: int


def accuracy(items: Answers) -> Estimate:
    """Share of right answers; invalid ones are wrong."""
    kept = scored(items)
    right = [items.answers[i] == items.targets[i] for i in kept]
    return rate(np.array(right, dtype=float), len(items.targets), _clusters(items, kept))


def recall(items: Answers, label: str) -> Estimate:
    """Share of the items of one class that were answered with it."""
    planned = [i for i, target in enumerate(items.targets) if target == label]
    kept = [i for i in planned if items.answers[i] is not None]
    right = [items.answers[i] == label for i in kept]
    return rate(np.array(right, dtype=float), len(planned), _clusters(items, kept))


def invalid_rate(items: Answers) -> Estimate:
    """Share of answers that are no label (lower is better)."""
    kept = scored(items)
    invalid = [items.answers[i] not in (items.positive, items.negative) for i in kept]
    return rate(np.array(invalid, dtype=float), len(items.targets), _clusters(items, kept), higher_is_better=False)


def confusion(items: Answers) -> Confusion:
    """Counts of every target and answer, and of the invalid answers; lost items are in neither."""
    labels = (items.positive, items.negative)
    counts = {target: dict.fromkeys(labels, 0) for target in labels}
    n_invalid = 0
    for i in scored(items):
        answer = items.answers[i]
        if answer in labels:
            counts[items.targets[i]][answer] += 1
        else:
            n_invalid += 1
    return Confusion(counts, n_invalid)


def balanced_accuracy(items: Answers, seed: int = 0) -> Estimate:
    """Mean of the two recalls.

    Where resampling shows no spread the interval joins the Wilson intervals of the two recalls (MOVER, Zou and Donner
    2008), so that a classifier that always gives one answer has an interval too.
    """
    value = _of_counts(items, _balanced)
    interval = None if value is None else percentile(draws("balanced_accuracy", items, seed), "bootstrap")
    return _estimate(items, value, interval or _mover(items), _table_bounds(items, _balanced))


def f1(items: Answers, seed: int = 0) -> Estimate:
    """F1 of the positive class: 2 TP / (2 TP + FP + FN); an invalid answer to a positive item is a miss."""
    value = _of_counts(items, _f1)
    interval = None if value is None else percentile(draws("f1", items, seed), "bootstrap")
    return _estimate(items, value, interval or _small_class(items, value), _table_bounds(items, _f1))


def auc(items: Answers, seed: int = 0) -> Estimate:
    """Probability that a positive item has a larger margin than a negative one, ties counting half (ROC AUC).

    Raises:
        ValueError: The answers carry no margins.
    """
    if items.margins is None:
        raise ValueError("the AUC needs the margin of every item")
    kept = [i for i, margin in enumerate(items.margins) if margin is not None]
    known = restrict(items, kept)
    value = _auc_value(known)
    interval = None if value is None else percentile(draws("auc", known, seed), "bootstrap")
    return _estimate(items, value, interval or _small_class(known, value), _auc_bounds(items), n_scored=len(kept))


def measure(kind: Measure, items: Answers, label: str | None = None, seed: int = 0) -> Estimate:
    """The measure that a `MetricInfo.kind` names.

    Args:
        kind: Which measure.
        items: What the classifier said.
        label: The class of ``recall``; the positive one if not given.
        seed: Seed of the resampling.
    """
    if kind == "accuracy":
        return accuracy(items)
    if kind == "invalid":
        return invalid_rate(items)
    if kind == "recall":
        return recall(items, label or items.positive)
    return {"balanced_accuracy": balanced_accuracy, "f1": f1, "auc": auc}[kind](items, seed)


def point(kind: Resampled, items: Answers) -> float | None:
    """The measure alone, without an interval; ``None`` where it is not defined."""
    if kind == "auc":
        return _auc_value(items)
    return _of_counts(items, _balanced if kind == "balanced_accuracy" else _f1)


def draws(kind: Resampled, items: Answers, seed: int, n_clusters: int | None = None) -> FloatArray:
    """The measure of 2000 resamples; equal seeds and clusters draw the same clusters, whatever was answered.

    Args:
        kind: Which measure.
        items: What the classifier said; for the AUC, items with margins only.
        seed: Seed of the resampling.
        n_clusters: Where given, the items' clusters are numbers below it, and those without items are drawn too: so
            answers that lack different items are resampled alike.
    """

    def numbers(clusters: Clusters | None, n_items: int) -> IntArray:
        return cluster_codes(clusters, n_items) if n_clusters is None else np.array(clusters, dtype=np.int64)

    if kind == "auc":
        positive = np.array([target == items.positive for target in items.targets], dtype=np.float64)
        codes = numbers(items.clusters, len(items.targets))
        return draws_of_auc(np.array(items.margins, dtype=np.float64), positive, codes, seed, n_clusters)
    columns, known = _columns(items)
    codes = numbers(known.clusters, len(known.targets))
    statistic = _balanced if kind == "balanced_accuracy" else _f1
    return draws_of_counts(columns, codes, statistic, seed, n_clusters=n_clusters)


def scored(items: Answers) -> list[int]:
    """Positions of the items that were not lost."""
    return [i for i, answer in enumerate(items.answers) if answer is not None]


def restrict(items: Answers, kept: Sequence[int]) -> Answers:
    """The same answers on some of the items."""
    return items._replace(
        targets=[items.targets[i] for i in kept],
        answers=[items.answers[i] for i in kept],
        clusters=_clusters(items, kept),
        margins=None if items.margins is None else [items.margins[i] for i in kept],
    )


def _clusters(items: Answers, kept: Sequence[int]) -> Clusters | None:
    return None if items.clusters is None else [items.clusters[i] for i in kept]


def _columns(items: Answers) -> tuple[FloatArray, Answers]:
    """What the scored items count as, and the scored items.

    The columns, shape ``(n, 5)``: positive, true positive, negative, true negative, false positive.
    """
    known = restrict(items, scored(items))
    positive = np.array([target == items.positive for target in known.targets], dtype=bool)
    said = np.array([answer == items.positive for answer in known.answers], dtype=bool)
    denied = np.array([answer == items.negative for answer in known.answers], dtype=bool)
    columns = np.stack([positive, positive & said, ~positive, ~positive & denied, ~positive & said], axis=1)
    return columns.astype(np.float64), known


def _balanced(counts: FloatArray) -> FloatArray:
    """Balanced accuracy of each row of counts, shape ``(n, 5)`` → ``(n,)``; NaN where a class is missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((counts[:, 1] / counts[:, 0] + counts[:, 3] / counts[:, 2]) / 2)


def _f1(counts: FloatArray) -> FloatArray:
    """F1 of each row of counts, shape ``(n, 5)`` → ``(n,)``; NaN where nothing is positive or called so."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * counts[:, 1] / (counts[:, 0] + counts[:, 1] + counts[:, 4]))


def _of_counts(items: Answers, statistic: OfCounts) -> float | None:
    value = float(statistic(_columns(items)[0].sum(axis=0, keepdims=True))[0])
    return None if np.isnan(value) else value


def _auc_value(items: Answers) -> float | None:
    positive = [target == items.positive for target in items.targets]
    if all(positive) or not any(positive):
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, np.array(items.margins, dtype=np.float64)))


def _mover(items: Answers) -> Interval | None:
    """Interval of the mean of two rates from their own intervals, taken as independent."""
    value, down, up = 0.0, 0.0, 0.0
    for one in (recall(items, items.positive), recall(items, items.negative)):
        if one.value is None or one.low is None or one.high is None:
            return None
        value, down, up = value + one.value / 2, down + (one.value - one.low) ** 2, up + (one.high - one.value) ** 2
    return Interval(max(0.0, value - down**0.5 / 2), min(1.0, value + up**0.5 / 2), "mover of wilson")


def _small_class(items: Answers, value: float | None) -> Interval | None:
    """Wilson's interval with the clusters of the smaller class as its number of items; wide, never of zero width."""
    kept = scored(items) if items.margins is None else range(len(items.targets))
    codes = cluster_codes(items.clusters, len(items.targets))
    sizes = [len({int(codes[i]) for i in kept if items.targets[i] == label}) for label in set(items.targets)]
    if value is None or not sizes or min(sizes) < 1:
        return None
    return Interval(*wilson(value, min(sizes)), "wilson on the smaller class")


def _table_bounds(items: Answers, statistic: OfCounts) -> tuple[float | None, float | None]:
    """The measure with every lost item answered wrongly, and rightly."""
    wrong = {items.positive: items.negative, items.negative: items.positive}
    right = {label: label for label in wrong}
    pairs = list(zip(items.targets, items.answers, strict=True))
    worst, best = (
        _of_counts(
            items._replace(answers=[lost[target] if said is None else said for target, said in pairs]), statistic
        )
        for lost in (wrong, right)
    )
    return worst, best


def _auc_bounds(items: Answers) -> tuple[float | None, float | None]:
    """The AUC with every lost item ranked at the wrong end, and at the right one."""
    margins = items.margins or []
    known = [margin for margin in margins if margin is not None] or [0.0]
    top, bottom = max(known) + 1, min(known) - 1
    pairs = list(zip(items.targets, margins, strict=True))
    ends = ({items.positive: bottom, items.negative: top}, {items.positive: top, items.negative: bottom})
    worst, best = (
        _auc_value(items._replace(margins=[end[target] if known is None else known for target, known in pairs]))
        for end in ends
    )
    return worst, best


def _estimate(
    items: Answers,
    value: float | None,
    interval: Interval | None,
    bounds: tuple[float | None, float | None],
    n_scored: int | None = None,
) -> Estimate:
    known = Interval(None, None, "none") if interval is None or value is None else interval
    return Estimate(
        value=value,
        low=None if known.low is None or value is None else min(known.low, value),
        high=None if known.high is None or value is None else max(known.high, value),
        confidence=CONFIDENCE,
        method=f"cluster {known.method}"
        if items.clusters is not None and known.method == "bootstrap"
        else known.method,
        n_scored=len(scored(items)) if n_scored is None else n_scored,
        n_total=len(items.targets),
        worst=bounds[0],
        best=bounds[1],
    )
