"""Balanced accuracy, F1 and AUC over training seeds and prompts, of one side or as a difference.

Reads what a classifier said in each seed about the same items in the same order. An interval keeps the shape of the
seeds' own, which hold where a class is small, on average over the seeds; how much shorter it is than one seed's follows
from the error over seeds and prompts (`harness.stats.two_way`) beside one seed's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.scores import Estimate
from harness.stats.classification import Answers, Joint, influence, measure, point, restrict, smaller_class
from harness.stats.core import FLAT, FloatArray, as_floats, cluster_codes
from harness.stats.two_way import Influences, TwoWay, two_way_of


class _Level(NamedTuple):
    """One side: its values and influences, and what it is over seeds and prompts."""

    influences: Influences
    found: TwoWay


def measure_over_seeds(kind: Joint, per_seed: Sequence[Answers]) -> TwoWay | None:
    """A measure over seeds and prompts, with halves; ``None`` where no seed has it, or one has it without an interval.

    Args:
        kind: Which measure.
        per_seed: What was said in each seed, about the same items in the same order.
    """
    defined = [items for items in per_seed if is_defined(kind, items)]
    found = _level(kind, defined).found if defined else None
    return None if found is None or found.halves is None else found


def difference_over_seeds(
    kind: Joint, first: Sequence[Answers], second: Sequence[Answers], *, paired_seeds: bool
) -> TwoWay:
    """First minus second, joined from the two sides (MOVER, Zou and Donner 2008) with the correlation of their errors.

    The correlation is as if one more item of the smaller class had shown none: so equal answers leave some width.

    Args:
        kind: Which measure, defined in every seed.
        first: The first side in each of its seeds.
        second: The second side in each of its own, about the same items in the same order.
        paired_seeds: Seed by seed the two sides have the same training seed.
    """
    one, two = _level(kind, first), _level(kind, second)
    n_clusters, clustered = clusters_of(kind, first)
    sides = [one.influences, two.influences]
    if paired_seeds:
        sides = [Influences(sides[0].values - sides[1].values, sides[0].cells - sides[1].cells)]
    found = two_way_of(sides, n_clusters)._replace(clustered=clustered)
    if one.found.halves is None or two.found.halves is None:
        return found
    n_least = max(1, min(smaller_class(_known(kind, items)) for items in first))
    shared = _correlation(one.found.error, two.found.error, found.error) * (1 - 1 / n_least)
    (down, up), (below, above) = one.found.halves, two.found.halves
    halves = (_joined(down, above, shared), _joined(up, below, shared))
    return found._replace(halves=halves)


def is_defined(kind: Joint, items: Answers) -> bool:
    """Whether there is a measure of the items that were not lost."""
    known = _known(kind, items)
    return len(set(known.targets)) > 1 if kind == "auc" else point(kind, known) is not None


def clusters_of(kind: Joint, per_seed: Sequence[Answers]) -> tuple[int, bool]:
    """How many clusters have an item that was not lost in every seed, and whether some have several."""
    codes = cluster_codes(per_seed[0].clusters, len(per_seed[0].targets))
    known = np.any([[value is not None for value in _values(kind, items)] for items in per_seed], axis=0)
    n_clusters = int(np.unique(codes[known]).size)
    return n_clusters, n_clusters < int(known.sum())


def n_known(kind: Joint, items: Answers) -> int:
    """Items that were not lost."""
    return len(_known(kind, items).targets)


def without(items: Answers, lost: NDArray[np.bool_]) -> Answers:
    """The same items, with some of them lost."""
    pairs = zip(items.answers, lost, strict=True)
    answers = [None if gone else answer for answer, gone in pairs]
    if items.margins is None:
        return items._replace(answers=answers)
    margins = [None if gone else margin for margin, gone in zip(items.margins, lost, strict=True)]
    return items._replace(answers=answers, margins=margins)


def _level(kind: Joint, per_seed: Sequence[Answers]) -> _Level:
    codes = cluster_codes(per_seed[0].clusters, len(per_seed[0].targets))
    estimates = [measure(kind, items) for items in per_seed]
    values = np.array([estimate.value for estimate in estimates], dtype=np.float64)
    columns = [as_floats(np.bincount(codes, weights=influence(kind, items))) for items in per_seed]
    cells = np.stack(columns, axis=1)
    n_clusters, clustered = clusters_of(kind, per_seed)
    influences = Influences(values, cells)
    found = two_way_of([influences], n_clusters)._replace(clustered=clustered)
    return _Level(influences, found._replace(halves=_halves(estimates, cells, found)))


def _halves(estimates: Sequence[Estimate], cells: FloatArray, found: TwoWay) -> tuple[float, float] | None:
    """The seeds' own on average, times the error over one seed's; no less than seeds without a thing in common have."""
    ends = np.array([(one.value, one.low, one.high) for one in estimates], dtype=np.float64)
    if np.isnan(ends).any() or found.n_clusters < 2:
        return None
    own = found.n_clusters / (found.n_clusters - 1) * float((cells**2).sum()) / len(estimates)
    ratio = max(found.error**2 / own, 1 / len(estimates)) ** 0.5 if own > FLAT**2 else 1.0
    return ratio * float((ends[:, 0] - ends[:, 1]).mean()), ratio * float((ends[:, 2] - ends[:, 0]).mean())


def _correlation(first: float, second: float, difference: float) -> float:
    """Of two errors, from theirs and their difference's; 0 where it is negative or one of them is flat."""
    if min(first, second) <= FLAT:
        return 0.0
    return min(1.0, max(0.0, (first**2 + second**2 - difference**2) / (2 * first * second)))


def _joined(one: float, two: float, shared: float) -> float:
    return float(max(0.0, one**2 + two**2 - 2 * shared * one * two) ** 0.5)


def _known(kind: Joint, items: Answers) -> Answers:
    return restrict(items, [i for i, value in enumerate(_values(kind, items)) if value is not None])


def _values(kind: Joint, items: Answers) -> Sequence[object]:
    """What each item gave, ``None`` where it was lost: margins for the AUC, where there are any."""
    return items.margins if kind == "auc" and items.margins is not None else items.answers
