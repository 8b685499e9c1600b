"""Paired differences: two subjects on the same items, one training seed or several; corrections of p values.

Two intervals are never compared; items are paired, by sample key, and the differences are tested. Intervals are
two-sided 95 % whatever the alternative of the p value, because the decision is read off the interval. With two seeds or
more both seeds and prompts count as drawn; with one, the items or their clusters do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from harness.scores import Comparison
from harness.stats.core import (
    CONFIDENCE,
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
from harness.stats.core import Differences as Differences
from harness.stats.item_tests import Alternative as Alternative
from harness.stats.item_tests import effective_pairs, mcnemar_mid_p, sign_flip, tango_interval
from harness.stats.levels import Law, paired_law


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


def by_key(values: Mapping[str, float], clusters: Mapping[str, Hashable | None] | None = None) -> Differences:
    """The values of one side alone, as `pair_by_key` has the differences of two."""
    return pair_by_key(values, dict.fromkeys(values, 0.0), clusters)


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
    """First minus second over training seeds and prompts, both drawn (see `harness.stats.levels`).

    With one seed that has pairs the items decide, and so they do where all seeds say the same of every item: more of
    the same seed is no more knowledge.

    Args:
        per_seed: The differences of each seed.
        binary: The item values are 0 and 1.
        alternative: ``greater`` tests whether the first side is higher; the interval is two-sided all the same.
        span: Largest possible difference.
        seed: Seed of the sign-flip permutation.
    """
    filled = [pairs for pairs in per_seed if pairs.values.size]
    plain = Comparison(
        difference=float(np.mean([pairs.values.mean() for pairs in filled])) if filled else None,
        alternative=alternative,
        n_pairs=sum(pairs.values.size for pairs in filled),
        n_unpaired=sum(pairs.n_unpaired for pairs in per_seed),
        n_seeds=len(filled),
    )
    if not filled:
        return plain
    if all(same_differences(filled[0], other) for other in filled[1:]):
        found = compare_items(filled[0], binary=binary, alternative=alternative, span=span, seed=seed)
        counts = {name: getattr(plain, name) for name in ("n_pairs", "n_unpaired", "n_seeds")}
        test = found.test if len(filled) == 1 else f"{found.test}, {len(filled)} equal seeds"
        return found.model_copy(update={**counts, "test": test})
    return by_law(plain, paired_law(filled, binary=binary, span=span))


def by_law(plain: Comparison, law: Law | None) -> Comparison:
    """A difference with its interval, p value and test; as it is, with the reason, where there is one cluster."""
    if law is None:
        return plain.model_copy(update={"test": "none: one cluster"})
    low, high = law.bounds((1 - CONFIDENCE) / 2)
    update = {"low": min(low, law.value), "high": max(high, law.value), "p_value": law.p_value(plain.alternative)}
    return plain.model_copy(update={**update, "test": law.name})


def same_differences(one: Differences, other: Differences) -> bool:
    """Whether two seeds say the same of the same items."""
    same_items = list(one.clusters or ()) == list(other.clusters or ())
    return same_items and np.array_equal(one.values, other.values)


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
