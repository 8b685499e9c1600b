"""What the intervals and the tests share: clusters, the robust standard error, the Wilson interval.

One standard error serves independent and clustered items alike: the cluster-robust variance with the small-sample
factor G/(G-1) (CR1, statsmodels) and a t quantile on G-1 degrees of freedom. With one item a cluster it is the usual t
interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Clusters = Sequence[Hashable | None]

CONFIDENCE = 0.95
FLAT = 1e-12
"""A standard error below this share of the scale is rounding, not spread."""


class Differences(NamedTuple):
    """Values of items of one training seed: first side minus second on the items that both have, or one side's own.

    Attributes:
        values: The differences, shape ``(n_pairs,)``.
        clusters: Cluster of each pair, length ``n_pairs``, the same in all seeds; ``None`` for independent pairs.
        n_unpaired: Items that only one side has.
    """

    values: FloatArray
    clusters: Clusters | None = None
    n_unpaired: int = 0


class Spread(NamedTuple):
    """The standard error of a mean, and how many independent clusters it rests on."""

    error: float
    n_clusters: int
    clustered: bool


class Interval(NamedTuple):
    """An interval and how it was made; ``None`` where none can be given."""

    low: float | None
    high: float | None
    method: str


def as_floats(values: ArrayLike) -> FloatArray:
    """Values as a 1-D float array (an empty input gives an empty array).

    Raises:
        ValueError: The input has more than one dimension.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected a 1-D array, got shape {array.shape}")
    return array


def cluster_codes(clusters: Clusters | None, n_items: int) -> IntArray:
    """Numbers 0 … G-1, one an item; without clusters, and where an item's is ``None``, every item is its own.

    Args:
        clusters: Cluster of each item, shape ``(n_items,)``.
        n_items: Number of items.

    Raises:
        ValueError: The clusters do not match the items.
    """
    if clusters is None:
        return np.arange(n_items, dtype=np.int64)
    if len(clusters) != n_items:
        raise ValueError(f"{len(clusters)} clusters for {n_items} items")
    numbers: dict[Hashable, int] = {}
    keys = ((True, position) if name is None else (False, name) for position, name in enumerate(clusters))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def robust_spread(values: FloatArray, codes: IntArray) -> Spread:
    """CR1 standard error of the mean of at least two clusters; infinite for one cluster, which says nothing about it.

    Args:
        values: Item values, shape ``(n,)``, n >= 1.
        codes: Cluster number of each item, shape ``(n,)``.
    """
    n_clusters = int(np.unique(codes).size)
    clustered = n_clusters < values.size
    if n_clusters < 2:
        return Spread(float("inf"), n_clusters, clustered)
    if np.ptp(values) == 0:
        return Spread(0.0, n_clusters, clustered)
    from statsmodels.regression.linear_model import OLS

    model = OLS(values, np.ones((values.size, 1)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    return Spread(float(fit.bse[0]), n_clusters, clustered)


def normal_quantile() -> float:
    """Two-sided 95 % quantile of the normal distribution, 1.96."""
    from scipy.stats import norm

    return float(norm.ppf(0.5 + CONFIDENCE / 2))


def t_quantile(n_groups: float) -> float:
    """Two-sided 95 % quantile of Student's t on ``n_groups - 1`` degrees of freedom, which need not be whole."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, n_groups - 1))


def wilson(share: float, n_effective: float, quantile: float | None = None) -> tuple[float, float]:
    """Wilson's interval, which always contains the share.

    Args:
        share: Observed share, 0–1.
        n_effective: Independent items behind it; need not be whole.
        quantile: Replaces the normal quantile 1.96, for clusters.
    """
    from scipy.stats import norm
    from statsmodels.stats.proportion import proportion_confint

    alpha = 1 - CONFIDENCE if quantile is None else 2 * float(norm.sf(quantile))
    low, high = proportion_confint(share * n_effective, n_effective, alpha=alpha, method="wilson")
    return min(float(low), share), max(float(high), share)
