"""Seeded resampling of clusters, vectorised: counts and AUCs of resamples, percentile intervals, p values.

A resample is a row of weights, how often each cluster was drawn. A measure that depends on counts alone, and the AUC,
follow from the weights by matrix products, so no resample is ever built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.stats.core import CONFIDENCE, FLAT, FloatArray, IntArray, Interval

N_RESAMPLES = 2000
BATCH_WEIGHTS = 4_000_000
"""Weights held at once (8 bytes each)."""
MOST_CELLS = 1_000_000
"""Cells of a table of clusters, or of items, that is worth making."""
KEPT_WEIGHTS = 1_000_000
"""Weights of a set that is kept for the next measure (4 bytes each)."""

OfCounts = Callable[[FloatArray], FloatArray]


def cluster_weights(
    n_clusters: int, width: int, seed: int, n_resamples: int = N_RESAMPLES
) -> Iterator[NDArray[np.float32]]:
    """How often each resample draws each cluster: batches of shape ``(batch, n_clusters)``, ``n_resamples`` in all.

    Args:
        n_clusters: Clusters, each drawn with equal chance, ``n_clusters`` times a resample.
        width: Numbers that the caller needs a resample, which limits the batch.
        seed: Seed of the draws; the batch size does not change them.
        n_resamples: Resamples.
    """
    batch = max(1, min(n_resamples, BATCH_WEIGHTS // max(width, 1)))
    if batch == n_resamples and n_clusters * n_resamples <= KEPT_WEIGHTS:
        yield _kept(n_clusters, seed, n_resamples)
    else:
        yield from _drawn(n_clusters, seed, n_resamples, batch)


@lru_cache(maxsize=8)
def _kept(n_clusters: int, seed: int, n_resamples: int) -> NDArray[np.float32]:
    """Seeds, sides and measures of one task are resampled alike."""
    (weights,) = _drawn(n_clusters, seed, n_resamples, n_resamples)
    weights.setflags(write=False)
    return weights


def _drawn(n_clusters: int, seed: int, n_resamples: int, batch: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    for start in range(0, n_resamples, batch):
        drawn = rng.integers(0, n_clusters, size=(min(batch, n_resamples - start), n_clusters), dtype=np.int32)
        weights = np.empty(drawn.shape, dtype=np.float32)
        for row, clusters in zip(weights, drawn, strict=True):
            row[:] = np.bincount(clusters, minlength=n_clusters)
        yield weights


def draws_of_counts(
    columns: FloatArray,
    codes: IntArray,
    statistic: OfCounts,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    n_clusters: int | None = None,
) -> FloatArray:
    """The statistic of each resample's column sums.

    Args:
        columns: What is counted, shape ``(n, k)``.
        codes: Cluster number of each item, shape ``(n,)``.
        statistic: Counts of shape ``(batch, k)`` → values of shape ``(batch,)``, NaN where undefined.
        seed: Seed of the draws.
        n_resamples: Resamples.
        n_clusters: Clusters to draw from, where some may have no item here.
    """
    n_clusters = n_clusters or int(codes.max()) + 1
    totals = np.stack([np.bincount(codes, weights=column, minlength=n_clusters) for column in columns.T], axis=1)
    batches = cluster_weights(n_clusters, n_clusters, seed, n_resamples)
    return np.concatenate([statistic(np.asarray(weights @ totals, dtype=np.float64)) for weights in batches])


def draws_of_auc(
    margins: FloatArray, positive: FloatArray, codes: IntArray, seed: int, n_clusters: int | None = None
) -> FloatArray:
    """ROC AUC of each resample, ties counting half; NaN where a resample lost a class.

    Args:
        margins: Score of each item, shape ``(n,)``.
        positive: 1 for items of the positive class, else 0, shape ``(n,)``.
        codes: Cluster number of each item, shape ``(n,)``.
        seed: Seed of the draws.
        n_clusters: Clusters to draw from, where some may have no item here.
    """
    n_clusters = n_clusters or int(codes.max()) + 1
    n_positive = int(positive.sum())
    if n_clusters**2 <= MOST_CELLS and n_positive * (positive.size - n_positive) <= MOST_CELLS:
        return _draws_by_cluster(margins, positive > 0, codes, seed, n_clusters)
    order = np.argsort(margins, kind="stable")
    starts = np.unique(margins[order], return_index=True)[1]
    signs, codes = positive[order], codes[order]
    draws = []
    for weights in cluster_weights(n_clusters, max(n_clusters, codes.size), seed):
        per_item = weights[:, codes]
        wins = np.add.reduceat(per_item * signs, starts, axis=1)
        losses = np.add.reduceat(per_item * (1 - signs), starts, axis=1)
        beaten = np.cumsum(losses, axis=1) - losses / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            draws.append((wins * beaten).sum(axis=1) / (wins.sum(axis=1) * losses.sum(axis=1)))
    return np.concatenate(draws)


def _draws_by_cluster(
    margins: FloatArray, positive: NDArray[np.bool_], codes: IntArray, seed: int, n_clusters: int
) -> FloatArray:
    """The same from the wins of each cluster's positive items over each other's negative ones: far less to add up."""
    above, below = margins[positive][:, None], margins[~positive][None, :]
    wins = (above > below) + 0.5 * (above == below)
    cells = codes[positive][:, None] * n_clusters + codes[~positive][None, :]
    table = np.bincount(cells.ravel(), weights=wins.ravel(), minlength=n_clusters**2).reshape(n_clusters, n_clusters)
    sizes = [np.bincount(codes[side], minlength=n_clusters) for side in (positive, ~positive)]
    draws = []
    for weights in cluster_weights(n_clusters, n_clusters, seed):
        n_pairs = (weights @ sizes[0]) * (weights @ sizes[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            draws.append(((weights @ table) * weights).sum(axis=1) / n_pairs)
    return np.concatenate(draws)


def percentile(draws: FloatArray, method: str) -> Interval | None:
    """Percentile interval of the draws; ``None`` where they show no spread or most of them are undefined."""
    usable = draws[~np.isnan(draws)]
    if usable.size < N_RESAMPLES / 2:
        return None
    low, high = np.quantile(usable, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return None if high - low <= FLAT else Interval(float(low), float(high), method)


def bootstrap_p(draws: FloatArray, alternative: str) -> float | None:
    """Share of draws beyond zero (one added to both counts), doubled unless ``alternative`` is ``greater``."""
    usable = draws[~np.isnan(draws)]
    if usable.size == 0:
        return None
    below = (float((usable <= 0).sum()) + 1) / (usable.size + 1)
    above = (float((usable >= 0).sum()) + 1) / (usable.size + 1)
    return below if alternative == "greater" else min(1.0, 2 * min(below, above))
