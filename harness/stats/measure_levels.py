"""Balanced accuracy, F1 and AUC over training seeds and prompts: their values and resamples for `two_way`.

Reads what a classifier said in each seed about the same items in the same order. Every seed and side is resampled with
the same clusters, those included of which it lost all items, so that what seeds share shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.stats.classification import Answers, Resampled, draws, point, restrict
from harness.stats.core import cluster_codes
from harness.stats.two_way import Drawn, TwoWay, two_way_drawn


def measure_over_seeds(kind: Resampled, per_seed: Sequence[Answers], seed: int = 0) -> TwoWay | None:
    """A measure over seeds and prompts; ``None`` where no seed has it, or most resamples lack a class.

    Args:
        kind: Which measure.
        per_seed: What was said in each seed, about the same items in the same order.
        seed: Seed of the resampling.
    """
    defined = [items for items in per_seed if is_defined(kind, items)]
    return over_levels([drawn(kind, defined, seed)], *clusters_of(kind, defined[0])) if defined else None


def is_defined(kind: Resampled, items: Answers) -> bool:
    """Whether there is a measure of the items that were not lost."""
    known = _known(kind, items)
    return len(set(known.targets)) > 1 if kind == "auc" else point(kind, known) is not None


def drawn(kind: Resampled, per_seed: Sequence[Answers], seed: int) -> Drawn:
    """A measure that is defined in every seed, and its resamples."""
    codes = cluster_codes(per_seed[0].clusters, len(per_seed[0].targets))
    n_clusters = int(codes.max()) + 1
    numbered = [_known(kind, items._replace(clusters=codes.tolist())) for items in per_seed]
    values = np.array([point(kind, items) for items in numbered], dtype=np.float64)
    return Drawn(values, np.stack([draws(kind, items, seed, n_clusters) for items in numbered], axis=1))


def over_levels(sides: Sequence[Drawn], n_clusters: int, clustered: bool) -> TwoWay | None:
    """One side, or the first less the second; ``None`` where most resamples lack a class."""
    usable = np.all([~np.isnan(side.draws).any(axis=1) for side in sides], axis=0)
    if usable.mean() < 0.5:
        return None
    found = two_way_drawn([side._replace(draws=side.draws[usable]) for side in sides], n_clusters)
    return found._replace(clustered=clustered)


def clusters_of(kind: Resampled, items: Answers) -> tuple[int, bool]:
    """How many clusters have an item that was not lost, and whether some have several."""
    known = _known(kind, items)
    n_clusters = int(cluster_codes(known.clusters, len(known.targets)).max(initial=-1)) + 1
    return n_clusters, n_clusters < len(known.targets)


def n_known(kind: Resampled, items: Answers) -> int:
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


def _known(kind: Resampled, items: Answers) -> Answers:
    """The answers that were not lost: those with a margin, for the AUC."""
    values = items.margins if kind == "auc" and items.margins is not None else items.answers
    return restrict(items, [i for i, value in enumerate(values) if value is not None])
