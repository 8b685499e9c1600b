"""Measures of a classifier with two labels, each with an interval and coverage bounds.

Reads one target an item, the answer (``None`` where the item was lost; any other text that is no label is *invalid*)
and, for the AUC, the margin of the positive label's log-likelihood over the other's. An invalid answer is wrong, and
counted apart; a lost item is coverage, never wrong. Every interval is Wilson's, which holds where a class is small (at
ten positive items a percentile bootstrap of balanced accuracy covers 80 % instead of 95): of a rate directly; of
balanced accuracy by joining two; of F1 by the share of hits among what is positive or called so; of the AUC on as many
items as have its error. ``worst`` and ``best`` put every lost item on the wrong or the right side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.scores import Estimate
from harness.stats.core import CONFIDENCE, Clusters, FloatArray, Interval, as_floats, cluster_codes, t_quantile, wilson
from harness.stats.influence import auc_variance, correlation, of_auc, of_balanced, of_f1
from harness.stats.intervals import rate
from harness.stats.resample import OfCounts

Measure = Literal["accuracy", "balanced_accuracy", "f1", "auc", "recall", "invalid"]
Joint = Literal["balanced_accuracy", "f1", "auc"]


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


def balanced_accuracy(items: Answers) -> Estimate:
    """Mean of the two recalls, whose intervals it joins (MOVER, Zou and Donner 2008).

    The recalls are independent, but for clusters with items of both classes; there a positive correlation widens.
    """
    value = _of_counts(items, _balanced)
    return _estimate(items, value, _mover(items), _table_bounds(items, _balanced))


def f1(items: Answers) -> Estimate:
    """F1 of the positive class: 2 TP / (2 TP + FP + FN); an invalid answer to a positive item is a miss.

    It rises with the share TP / (TP + FP + FN), a rate, whose interval is carried over.
    """
    columns, known = _columns(items)
    involved = np.flatnonzero(columns[:, 0] + columns[:, 4] > 0).tolist()
    hits = rate(columns[involved, 1], len(involved), _clusters(known, involved))
    interval = None
    if hits.low is not None and hits.high is not None:
        low, high = (2 * end / (1 + end) for end in (hits.low, hits.high))
        interval = Interval(low, high, f"{hits.method} of hits")
    return _estimate(items, _of_counts(items, _f1), interval, _table_bounds(items, _f1))


def auc(items: Answers) -> Estimate:
    """Probability that a positive item has a larger margin than a negative one, ties counting half (ROC AUC).

    Wilson's interval on as many items as have the AUC's error (`harness.stats.influence`); at an AUC of 0 or 1, which
    shows none, as many as the smaller class has clusters.

    Raises:
        ValueError: The answers carry no margins.
    """
    if items.margins is None:
        raise ValueError("the AUC needs the margin of every item")
    kept = [i for i, margin in enumerate(items.margins) if margin is not None]
    known = restrict(items, kept)
    value = _auc_value(known)
    interval = None if value is None else _auc_interval(known, value)
    return _estimate(items, value, interval, _auc_bounds(items), n_scored=len(kept))


def measure(kind: Measure, items: Answers, label: str | None = None) -> Estimate:
    """The measure that a `MetricInfo.kind` names.

    Args:
        kind: Which measure.
        items: What the classifier said.
        label: The class of ``recall``; the positive one if not given.
    """
    if kind == "accuracy":
        return accuracy(items)
    if kind == "invalid":
        return invalid_rate(items)
    if kind == "recall":
        return recall(items, label or items.positive)
    return {"balanced_accuracy": balanced_accuracy, "f1": f1, "auc": auc}[kind](items)


def point(kind: Joint, items: Answers) -> float | None:
    """The measure alone, without an interval; ``None`` where it is not defined."""
    if kind == "auc":
        return _auc_value(items)
    return _of_counts(items, _balanced if kind == "balanced_accuracy" else _f1)


def influence(kind: Joint, items: Answers) -> FloatArray:
    """How much each item moves a measure that is defined, shape ``(n_total,)``; a lost item not at all."""
    found = np.zeros(len(items.targets))
    if kind == "auc":
        margins = np.array(items.margins, dtype=np.float64)
        kept = ~np.isnan(margins)
        found[kept] = of_auc(margins[kept], _positive(items)[kept])
        return found
    found[scored(items)] = (of_balanced if kind == "balanced_accuracy" else of_f1)(_columns(items)[0])
    return found


def smaller_class(items: Answers) -> int:
    """Clusters of the class that has fewer."""
    codes, positive = cluster_codes(items.clusters, len(items.targets)), _positive(items)
    return min(np.unique(codes[side]).size for side in (positive, ~positive))


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
    positive = _positive(known)
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


def _positive(items: Answers) -> NDArray[np.bool_]:
    return np.array([target == items.positive for target in items.targets], dtype=bool)


def _auc_value(items: Answers) -> float | None:
    """From Mann and Whitney's U; the same as scikit-learn's, whose checks of its input take fifty times as long."""
    positive = _positive(items)
    if positive.all() or not positive.any():
        return None
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    ranks = float(rankdata(np.array(items.margins, dtype=np.float64))[positive].sum())
    return (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * (positive.size - n_positive))


def _mover(items: Answers) -> Interval | None:
    """Interval of the mean of two rates from their own intervals."""
    one, two = recall(items, items.positive), recall(items, items.negative)
    if one.value is None or one.low is None or one.high is None:
        return None
    if two.value is None or two.low is None or two.high is None:
        return None
    downs, ups = (one.value - one.low, two.value - two.low), (one.high - one.value, two.high - two.value)
    shared = max(0.0, _shared(items))
    down, up = ((a**2 + b**2 + 2 * shared * a * b) ** 0.5 / 2 for a, b in (downs, ups))
    value = (one.value + two.value) / 2
    return Interval(max(0.0, value - down), min(1.0, value + up), f"MOVER of {one.method}")


def _shared(items: Answers) -> float:
    """Correlation of the two recalls' errors, of clusters that have items of both classes."""
    codes, moved, positive = (
        cluster_codes(items.clusters, len(items.targets)),
        influence("balanced_accuracy", items),
        _positive(items),
    )
    one, two = (as_floats(np.bincount(codes, weights=np.where(side, moved, 0.0))) for side in (positive, ~positive))
    return correlation(one, two)


def _auc_interval(items: Answers, value: float) -> Interval:
    codes = cluster_codes(items.clusters, len(items.targets))
    n_clusters = np.unique(codes).size
    if n_clusters < 2:
        return Interval(None, None, "one cluster")
    positive = _positive(items)
    if any(np.unique(codes[side]).size == 1 < side.sum() for side in (positive, ~positive)):
        return Interval(None, None, "one cluster of a class")  # which shows no spread between clusters
    n_effective = float(smaller_class(items))
    if 0 < value < 1:
        variance = auc_variance(value, influence("auc", items), positive, codes)
        n_effective = min(codes.size, value * (1 - value) / variance)
    if n_clusters == codes.size:
        return Interval(*wilson(value, n_effective), "wilson of DeLong")
    return Interval(*wilson(value, n_effective, t_quantile(n_clusters)), "cluster wilson of DeLong")


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
        method=known.method,
        n_scored=len(scored(items)) if n_scored is None else n_scored,
        n_total=len(items.targets),
        worst=bounds[0],
        best=bounds[1],
    )
