"""Seeded resampling of clusters, vectorised: statistics of counts of resamples, percentile intervals, p values.

A resample is a row of weights, how often each cluster was drawn. What depends on counts alone follows from the weights
by a matrix product, so no resample is ever built.
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
KEPT_WEIGHTS = 1_000_000
"""Weights of a set that is kept for the next score (4 bytes each)."""

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
    """Scores and seeds of one task are resampled alike."""
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
) -> FloatArray:
    """The statistic of each resample's column sums.

    Args:
        columns: What is counted, shape ``(n, k)``.
        codes: Cluster number of each item, shape ``(n,)``.
        statistic: Counts of shape ``(batch, k)`` → values of shape ``(batch,)``, NaN where undefined.
        seed: Seed of the draws.
        n_resamples: Resamples.
    """
    n_clusters = int(codes.max()) + 1
    totals = np.stack([np.bincount(codes, weights=column, minlength=n_clusters) for column in columns.T], axis=1)
    batches = cluster_weights(n_clusters, n_clusters, seed, n_resamples)
    return np.concatenate([statistic(np.asarray(weights @ totals, dtype=np.float64)) for weights in batches])


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
