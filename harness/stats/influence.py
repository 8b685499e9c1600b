"""How much each item moves balanced accuracy, F1 and AUC: the influence whose squares add up to the error.

Reads what the items count as; the influences of a sample add up to zero. The error of the AUC is DeLong, DeLong and
Clarke-Pearson's (1988), by cluster Obuchowski's (1997), but never below Newcombe's (2006) form of Hanley and McNeil's,
which goes by the sizes of both classes alike: a class of ten items may show too little spread by chance, and then a
limit that takes it at its word lies above the truth four times as often as it should.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.stats.core import FLAT, FloatArray, IntArray


def of_balanced(columns: FloatArray) -> FloatArray:
    """Of each item on balanced accuracy.

    Args:
        columns: Positive, true positive, negative, true negative, false positive: 0 or 1, shape ``(n, 5)``.
    """
    n_positive, hits, n_negative, passed = columns[:, :4].sum(axis=0)
    of_positive = (columns[:, 1] - columns[:, 0] * hits / n_positive) / n_positive
    return np.asarray(of_positive + (columns[:, 3] - columns[:, 2] * passed / n_negative) / n_negative) / 2


def of_f1(columns: FloatArray) -> FloatArray:
    """Of each item on F1; the columns as for `of_balanced`."""
    shares = columns[:, 0] + columns[:, 1] + columns[:, 4]
    return np.asarray((2 * columns[:, 1] - 2 * columns[:, 1].sum() / shares.sum() * shares) / shares.sum())


def of_auc(margins: FloatArray, positive: NDArray[np.bool_]) -> FloatArray:
    """Of each item on the AUC, ties counting half.

    Args:
        margins: Score of each item, shape ``(n,)``.
        positive: Which items are of the positive class, some and not all of them.
    """
    from scipy.stats import rankdata

    ranks, placed = rankdata(margins), np.empty(margins.size)
    for side in (positive, ~positive):
        beaten = ranks[side] - rankdata(margins[side])
        placed[side] = (beaten - beaten.mean()) / (margins.size - side.sum()) / side.sum()
    return np.where(positive, placed, -placed)


def clustered_error(influence: FloatArray, codes: IntArray) -> float:
    """CR1 standard error of a measure.

    Args:
        influence: Of each item, shape ``(n,)``.
        codes: Cluster number of each item, two clusters or more.
    """
    sums = np.bincount(codes, weights=influence)
    n_clusters = np.unique(codes).size
    return float((n_clusters / (n_clusters - 1) * (sums**2).sum()) ** 0.5)


def correlation(one: FloatArray, two: FloatArray) -> float:
    """Of two errors, from the influence of each cluster on the two; 0 where one of them has no spread."""
    spread = float((one**2).sum() * (two**2).sum()) ** 0.5
    return float((one * two).sum()) / spread if spread > FLAT**2 else 0.0


def auc_variance(value: float, influence: FloatArray, positive: NDArray[np.bool_], codes: IntArray) -> float:
    """Squared standard error of an AUC between 0 and 1.

    Args:
        value: The AUC.
        influence: Of each item, shape ``(n,)``.
        positive: Which items are of the positive class.
        codes: Cluster number of each item, two clusters or more.
    """
    sizes = [int(side.sum()) for side in (positive, ~positive)]
    sums = [float((influence[side] ** 2).sum()) for side in (positive, ~positive)]
    delong = sum(size / max(size - 1, 1) * total for size, total in zip(sizes, sums, strict=True))
    equal = (1 - value) / (2 - value) + value / (1 + value)
    hanley = value * (1 - value) * (1 + (sum(sizes) / 2 - 1) * equal) / (sizes[0] * sizes[1])
    independent = np.unique(codes).size == codes.size or delong <= FLAT**2
    design = 1.0 if independent else max(1.0, clustered_error(influence, codes) ** 2 / delong)
    return max(delong, hanley) * design
