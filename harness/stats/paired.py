"""Paired differences: two subjects on the same items, one training seed or several; corrections of p values.

Two intervals are never compared; items are paired, by sample key, and the differences are tested. Intervals are
two-sided 95 % whatever the alternative of the p value, because the decision is read off the interval. With two seeds or
more the seeds are the unit (a t test on the seed-level differences); with one, the items or their clusters are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.scores import Comparison
from harness.stats.core import (
    FLAT,
    Clusters,
    FloatArray,
    IntArray,
    Interval,
    as_floats,
    cluster_codes,
    normal_quantile,
    robust_spread,
    t_quantile,
)
from harness.stats.item_tests import Alternative as Alternative
from harness.stats.item_tests import effective_pairs, mcnemar_mid_p, sign_flip, tango_interval


class Differences(NamedTuple):
    """First minus second on the items that both sides have.

    Attributes:
        values: The differences, shape ``(n_pairs,)``.
        clusters: Cluster of each pair, length ``n_pairs``, the same in all seeds; ``None`` for independent pairs.
        n_unpaired: Items that only one side has.
    """

    values: FloatArray
    clusters: Clusters | None = None
    n_unpaired: int = 0


def pair_aligned(first: ArrayLike, second: ArrayLike, clusters: Clusters | None = None) -> Differences:
    """Differences of two arrays in the same item order, NaN where an item was lost.

    Args:
        first: Values of the first side, shape ``(n,)``.
        second: Values of the second side, shape ``(n,)``.
        clusters: Cluster of each item, length ``n``.

    Raises:
        ValueError: The lengths differ.
    """
    one, two = as_floats(first), as_floats(second)
    if one.size != two.size or (clusters is not None and len(clusters) != one.size):
        raise ValueError("paired arrays and their clusters must have the same length")
    both = ~np.isnan(one) & ~np.isnan(two)
    names = clusters or [None] * one.size
    kept = [_own(names[int(place)], int(place)) for place in np.flatnonzero(both)]
    return Differences(one[both] - two[both], kept, int((np.isnan(one) ^ np.isnan(two)).sum()))


def pair_by_key(
    first: Mapping[str, float], second: Mapping[str, float], clusters: Mapping[str, Hashable | None] | None = None
) -> Differences:
    """Differences over the sample keys that both sides scored, in sorted key order.

    Args:
        first: Sample key → value of the first side, scored items only.
        second: The same of the second side.
        clusters: Sample key → cluster.
    """
    shared = sorted(first.keys() & second.keys())
    values = np.array([first[key] - second[key] for key in shared], dtype=np.float64)
    kept = [_own(None if clusters is None else clusters[key], key) for key in shared]
    return Differences(values, kept, len(first.keys() ^ second.keys()))


def _own(cluster: Hashable | None, item: Hashable) -> Hashable:
    """The cluster; for an item without one a name of its own, by which it is known again in other seeds."""
    return ("item", item) if cluster is None else cluster


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters | None = None,
    *,
    binary: bool,
    alternative: Alternative = "two-sided",
    span: float = 1.0,
    seed: int = 0,
) -> Comparison:
    """First minus second on the same items of one training seed.

    Args:
        first: Values of the first side, shape ``(n,)``, NaN where lost.
        second: Values of the second side, shape ``(n,)``, NaN where lost.
        clusters: Cluster of each item, length ``n``.
        binary: The values are 0 and 1: McNemar's test and Tango's interval; items of one cluster flip together.
        alternative: ``greater`` tests whether the first side is higher.
        span: Largest possible difference (1 for rates, 9 for scores from 1 to 10).
        seed: Seed of the sign-flip permutation.

    Raises:
        ValueError: The lengths differ, or a binary difference is not -1, 0 or 1.
    """
    pairs = pair_aligned(first, second, clusters)
    return compare_items(pairs, binary=binary, alternative=alternative, span=span, seed=seed)


def compare_items(
    pairs: Differences, *, binary: bool, alternative: Alternative = "two-sided", span: float = 1.0, seed: int = 0
) -> Comparison:
    """The same as `paired_difference`, from differences that are already paired."""
    values, codes = pairs.values, cluster_codes(pairs.clusters, pairs.values.size)
    if values.size == 0:
        return Comparison(difference=None, alternative=alternative, n_pairs=0, n_unpaired=pairs.n_unpaired)
    independent = np.unique(codes).size == values.size
    if binary and not np.isin(values, (-1.0, 0.0, 1.0)).all():
        raise ValueError("a difference of binary values is -1, 0 or 1")
    if binary and independent:
        p_value, test = mcnemar_mid_p(values, alternative), "McNemar mid-p"
    else:
        p_value = sign_flip(as_floats(np.bincount(codes, weights=values)), alternative, seed)
        test = "sign-flip permutation" if independent else "sign-flip permutation by cluster"
    interval = _rate_interval(values, codes) if binary else _interval(values, codes, span)
    return Comparison(
        difference=float(values.mean()),
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        test=test,
        alternative=alternative,
        n_pairs=values.size,
        n_unpaired=pairs.n_unpaired,
    )


def paired_over_seeds(
    per_seed: Sequence[Differences],
    *,
    binary: bool,
    alternative: Alternative = "two-sided",
    span: float = 1.0,
    seed: int = 0,
) -> Comparison:
    """First minus second over training seeds: a t test on the seeds' mean differences.

    With one seed that has pairs it falls back on the items. Where all seeds show exactly the same mean difference they
    show no spread, and the pooled items decide (those of one cluster, or position, in all seeds kept together).

    Args:
        per_seed: The differences of each seed.
        binary: The item values are 0 and 1.
        alternative: ``greater`` tests whether the first side is higher.
        span: Largest possible difference.
        seed: Seed of the sign-flip permutation.
    """
    filled = [pairs for pairs in per_seed if pairs.values.size]
    n_unpaired = sum(pairs.n_unpaired for pairs in per_seed)
    seed_means = [float(pairs.values.mean()) for pairs in filled]
    if len(filled) >= 2 and np.ptp(seed_means) > FLAT * span:
        n_pairs = sum(pairs.values.size for pairs in filled)
        return compare_seeds(seed_means, n_pairs, n_unpaired, alternative=alternative, span=span)
    pooled = _pooled(filled, n_unpaired)
    found = compare_items(pooled, binary=binary, alternative=alternative, span=span, seed=seed)
    return found.model_copy(update={"n_seeds": len(filled)})


def compare_seeds(
    seed_differences: Sequence[float],
    n_pairs: int,
    n_unpaired: int = 0,
    *,
    alternative: Alternative = "two-sided",
    span: float = 1.0,
) -> Comparison:
    """A t test on one difference a training seed, for measures that are no mean over items (AUC, F1) as well.

    Args:
        seed_differences: First minus second of each seed, the two sides sharing the seed.
        n_pairs: Items behind all of them, pooled.
        n_unpaired: Items that only one side has.
        alternative: ``greater`` tests whether the first side is higher.
        span: Largest possible difference; the interval is clipped to it.
    """
    values = as_floats(list(seed_differences))
    n_seeds = values.size
    if n_seeds < 2 or np.ptp(values) <= FLAT * span:
        difference = float(values.mean()) if n_seeds else None
        return Comparison(
            difference=difference,
            test="none: seeds show no spread" if n_seeds > 1 else "none: fewer than two seeds",
            alternative=alternative,
            n_pairs=n_pairs,
            n_unpaired=n_unpaired,
            n_seeds=n_seeds,
        )
    from scipy.stats import ttest_1samp

    value = float(values.mean())
    half = t_quantile(n_seeds) * float(values.std(ddof=1)) / n_seeds**0.5
    return Comparison(
        difference=value,
        low=max(-span, value - half),
        high=min(span, value + half),
        p_value=float(ttest_1samp(values, 0.0, alternative=alternative).pvalue),
        test=f"paired t over {n_seeds} seeds",
        alternative=alternative,
        n_pairs=n_pairs,
        n_unpaired=n_unpaired,
        n_seeds=n_seeds,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction (family-wise error) of the p values that exist; ``None`` stays ``None`` and does not count."""

    def step_down(known: FloatArray) -> FloatArray:
        order = np.argsort(known)
        stepped = np.maximum.accumulate(known[order] * np.arange(known.size, 0, -1))
        return as_floats(np.minimum(stepped, 1.0)[np.argsort(order)])

    return _adjusted(p_values, step_down)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's q values (false discovery rate); ``None`` stays ``None`` and does not count."""
    from scipy.stats import false_discovery_control

    return _adjusted(p_values, false_discovery_control)


def _adjusted(p_values: Sequence[float | None], correct: Callable[[FloatArray], FloatArray]) -> list[float | None]:
    known = [p_value for p_value in p_values if p_value is not None]
    adjusted = iter(correct(as_floats(known)).tolist() if known else [])
    return [None if p_value is None else next(adjusted) for p_value in p_values]


def _rate_interval(values: FloatArray, codes: IntArray) -> Interval:
    """Tango's, on as many independent pairs as the clusters are worth."""
    spread = robust_spread(values, codes)
    if spread.n_clusters < 2:
        return Interval(None, None, "none")
    value, discordant = float(values.mean()), float(np.abs(values).mean())
    n_pairs, quantile = float(values.size), normal_quantile()
    if spread.clustered:
        n_pairs = effective_pairs(value, discordant, spread.error, values.size, spread.n_clusters)
        quantile = t_quantile(spread.n_clusters)
    halves = n_pairs * (discordant + value) / 2, n_pairs * (discordant - value) / 2
    return Interval(*tango_interval(*halves, n_pairs, quantile), "tango")


def _interval(values: FloatArray, codes: IntArray, span: float) -> Interval:
    spread = robust_spread(values, codes)
    if spread.n_clusters < 2:
        return Interval(None, None, "none")
    if spread.error <= FLAT * span:
        return _plus_two_interval(np.bincount(codes, weights=values) / np.bincount(codes), span)
    value, half = float(values.mean()), t_quantile(spread.n_clusters) * spread.error
    return Interval(max(-span, value - half), min(span, value + half), "cluster t")


def _plus_two_interval(values: FloatArray, span: float) -> Interval:
    """Agresti and Min (2005): half a pair added to each cell of the 2 × 2 table keeps the width above zero.

    For values that are not binary the added halves lie at the ends of the scale.
    """
    if values.size < 2:
        return Interval(None, None, "none")
    n_added = values.size + 2
    centre = float(values.sum()) / n_added
    variance = (float((values**2).sum()) + span**2) / n_added - centre**2
    half = t_quantile(values.size) * (variance / n_added) ** 0.5
    value = float(values.mean())
    return Interval(max(-span, min(value, centre - half)), min(span, max(value, centre + half)), "plus two")


def _pooled(filled: Sequence[Differences], n_unpaired: int) -> Differences:
    """All seeds' pairs in one; with several seeds, what shares a cluster (or a position) shares it across seeds too."""
    if not filled:
        return Differences(np.empty(0), None, n_unpaired)
    if len(filled) == 1:
        return filled[0]._replace(n_unpaired=n_unpaired)
    clusters: list[Hashable | None] = []
    for pairs in filled:
        names = pairs.clusters or [None] * pairs.values.size
        clusters.extend(("position", i) if name is None else name for i, name in enumerate(names))
    return Differences(np.concatenate([pairs.values for pairs in filled]), clusters, n_unpaired)
