"""Estimates with error bars and coverage: rates, mean scores, and both over training seeds.

Reads the values of the scored items and the number planned; a lost item is never a value. Rates get Wilson intervals,
scores t intervals, both cluster-robust where items share a cluster. Lost items give the bounds ``worst`` and ``best``:
the estimate had they all come out at the bad or the good end of the scale. Nothing scored gives ``None``, not a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from harness.scores import Estimate
from harness.stats.core import (
    CONFIDENCE,
    FLAT,
    Clusters,
    FloatArray,
    IntArray,
    Interval,
    Spread,
    as_floats,
    cluster_codes,
    robust_spread,
    t_quantile,
    wilson,
)
from harness.stats.levels import measure_law, share_interval, t_law
from harness.stats.two_way import TwoWay

UNIT = (0.0, 1.0)


def rate(
    values: ArrayLike, n_total: int, clusters: Clusters | None = None, *, higher_is_better: bool | None = True
) -> Estimate:
    """Share of ones, with Wilson's interval.

    With clusters of several items the number of items is deflated by the design effect, that is to the number of
    independent items with the same CR1 variance (never more than there are), and the quantile is Student's t on G-1
    degrees of freedom (Korn and Graubard 1998 do the same with exact limits). A share of 0 or 1 shows no variance: the
    clusters count there, not the items.

    Args:
        values: 0 or 1 for each scored item, shape ``(n_scored,)``.
        n_total: Items planned.
        clusters: Cluster of each scored item, shape ``(n_scored,)``.
        higher_is_better: Which end of the scale a lost item is worst at.

    Raises:
        ValueError: A value is neither 0 nor 1, or more items were scored than planned.
    """
    array = as_floats(values)
    if not np.isin(array, UNIT).all():
        raise ValueError("a rate takes values of 0 and 1 only; a lost item is left out, not given a number")
    if array.size == 0:
        return _unmeasured(n_total, UNIT, higher_is_better)
    interval = _rate_interval(array, cluster_codes(clusters, array.size))
    return _estimate(array, n_total, UNIT, interval, higher_is_better)


def mean(
    values: ArrayLike,
    n_total: int,
    bounds: tuple[float, float],
    clusters: Clusters | None = None,
    *,
    higher_is_better: bool | None = True,
) -> Estimate:
    """Mean score, with a t interval clipped to the scale.

    Where all values are equal the data show no spread; the interval is then Wilson's on the scale (a bounded variable
    varies at most as much as a coin with the same mean), which is wide rather than zero.

    Args:
        values: Score of each scored item, shape ``(n_scored,)``.
        n_total: Items planned.
        bounds: Smallest and largest possible score.
        clusters: Cluster of each scored item, shape ``(n_scored,)``.
        higher_is_better: Which end of the scale a lost item is worst at.

    Raises:
        ValueError: A score is outside its scale, or more items were scored than planned.
    """
    array = as_floats(values)
    if not ((array >= bounds[0]) & (array <= bounds[1])).all():
        raise ValueError(f"a score lies outside its scale {bounds[0]:g}–{bounds[1]:g}")
    if array.size == 0:
        return _unmeasured(n_total, bounds, higher_is_better)
    spread = robust_spread(array, cluster_codes(clusters, array.size))
    return _estimate(array, n_total, bounds, _mean_interval(float(array.mean()), spread, bounds), higher_is_better)


def over_seeds(per_seed: Sequence[Estimate], bounds: tuple[float, float], joint: TwoWay | None = None) -> Estimate:
    """Mean of the seed means, with an interval over seeds and prompts, which both count as drawn.

    Args:
        per_seed: One estimate a training seed; a seed without a value counts in coverage and bounds only.
        bounds: Smallest and largest value that the metric can have.
        joint: The mean with its error over seeds and prompts. Without it each seed's own error counts as if all of it
            came from the prompts that the seeds share: then the interval is too wide rather than too narrow.

    Raises:
        ValueError: No seed at all.
    """
    if not per_seed:
        raise ValueError("an estimate over seeds needs at least one seed")
    if len(per_seed) == 1:
        return per_seed[0]
    measured = [estimate for estimate in per_seed if estimate.value is not None]
    seed_means = np.array([estimate.value for estimate in measured], dtype=np.float64)
    interval = _over_seeds(measured, seed_means, bounds, joint)
    value = _within(float(seed_means.mean()), bounds) if measured else None
    return Estimate(
        value=value,
        low=None if interval.low is None or value is None else min(interval.low, value),
        high=None if interval.high is None or value is None else max(interval.high, value),
        confidence=CONFIDENCE,
        method=interval.method,
        n_scored=sum(estimate.n_scored for estimate in per_seed),
        n_total=sum(estimate.n_total for estimate in per_seed),
        worst=_average([estimate.worst for estimate in per_seed]),
        best=_average([estimate.best for estimate in per_seed]),
        n_seeds=len(measured),
    )


def coverage_bounds(
    total: float, n_scored: int, n_total: int, bounds: tuple[float, float], higher_is_better: bool | None
) -> tuple[float, float]:
    """Worst and best mean that the lost items allow.

    Args:
        total: Sum over the scored items.
        n_scored: Items scored.
        n_total: Items planned, at least one.
        bounds: Smallest and largest possible item value.
        higher_is_better: ``False`` turns the two around.
    """
    n_lost = n_total - n_scored
    low, high = (_within((total + n_lost * extreme) / n_total, bounds) for extreme in bounds)
    return (high, low) if higher_is_better is False else (low, high)


def _rate_interval(values: FloatArray, codes: IntArray) -> Interval:
    share = float(values.mean())
    if np.unique(codes).size == values.size:
        return Interval(*wilson(share, values.size), "wilson")
    spread = robust_spread(values, codes)
    if spread.n_clusters < 2:
        return Interval(None, None, "one cluster")
    n_effective: float = spread.n_clusters
    if 0 < share < 1:
        n_effective = min(values.size, share * (1 - share) / max(spread.error, FLAT) ** 2)
    return Interval(*wilson(share, n_effective, t_quantile(spread.n_clusters)), "cluster wilson")


def _mean_interval(value: float, spread: Spread, bounds: tuple[float, float]) -> Interval:
    if spread.n_clusters < 2:
        return Interval(None, None, "one cluster" if spread.clustered else "one item")
    low, high = bounds
    quantile = t_quantile(spread.n_clusters)
    if spread.error <= FLAT * (high - low):
        ends = wilson((value - low) / (high - low), spread.n_clusters, quantile)
        first, last = (_within(low + end * (high - low), bounds) for end in ends)
        return Interval(first, last, "bounded wilson")
    half = quantile * spread.error
    method = "cluster t" if spread.clustered else "t"
    return Interval(max(low, value - half), min(high, value + half), method)


def _over_seeds(
    measured: Sequence[Estimate], seed_means: FloatArray, bounds: tuple[float, float], joint: TwoWay | None
) -> Interval:
    if not measured:
        return Interval(None, None, "none")
    if len(measured) == 1:
        return Interval(measured[0].low, measured[0].high, f"{measured[0].method}, one seed measured")
    if joint is None:
        return _by_seeds(measured, seed_means, bounds)
    if joint.n_clusters < 2:
        return Interval(None, None, "one cluster")
    found = _by_levels(joint, bounds, sum(estimate.n_scored for estimate in measured))
    own = _average([item.low for item in measured]), _average([item.high for item in measured])
    if np.ptp(seed_means) > FLAT * (bounds[1] - bounds[0]) or None in own:
        return found
    lows, highs = ([end for end in ends if end is not None] for ends in zip(found[:2], own, strict=True))
    return Interval(min(lows), max(highs), found.method)


def _by_levels(joint: TwoWay, bounds: tuple[float, float], n_items: int) -> Interval:
    """Measures have halves of their own; rates keep to Wilson's; scores that differ at all to Student's t."""
    span = bounds[1] - bounds[0]
    if joint.halves is not None:
        low, high = measure_law(joint).bounds((1 - CONFIDENCE) / 2)
        return Interval(max(bounds[0], low), min(bounds[1], high), f"halves {joint.levels}")
    if bounds == UNIT or joint.error <= FLAT * span:
        return Interval(*share_interval(joint, bounds, n_items), f"wilson {joint.levels}")
    above = joint._replace(value=joint.value - bounds[0])
    low, high = (bounds[0] + end for end in t_law(above, span, n_items).bounds((1 - CONFIDENCE) / 2))
    return Interval(max(bounds[0], low), min(bounds[1], high), f"t {joint.levels}")


def _by_seeds(measured: Sequence[Estimate], seed_means: FloatArray, bounds: tuple[float, float]) -> Interval:
    """The seeds' t interval and the mean of their own, their halves added in squares."""
    low, high = _average([item.low for item in measured]), _average([item.high for item in measured])
    if low is None or high is None:
        return Interval(None, None, "none: a seed has no interval")
    value = float(seed_means.mean())
    half = t_quantile(len(measured)) * float(seed_means.std(ddof=1)) / len(measured) ** 0.5
    down, up = (float(np.hypot(half, value - end)) for end in (low, high))
    return Interval(max(bounds[0], value - down), min(bounds[1], value + up), f"over {len(measured)} seeds, wide")


def _estimate(
    values: FloatArray, n_total: int, bounds: tuple[float, float], interval: Interval, higher_is_better: bool | None
) -> Estimate:
    if values.size > n_total:
        raise ValueError(f"{values.size} items scored, but only {n_total} planned")
    value = _within(float(values.mean()), bounds)
    worst, best = coverage_bounds(float(values.sum()), values.size, n_total, bounds, higher_is_better)
    return Estimate(
        value=value,
        low=None if interval.low is None else min(interval.low, value),
        high=None if interval.high is None else max(interval.high, value),
        confidence=CONFIDENCE,
        method=interval.method,
        n_scored=values.size,
        n_total=n_total,
        worst=worst,
        best=best,
    )


def _unmeasured(n_total: int, bounds: tuple[float, float], higher_is_better: bool | None) -> Estimate:
    if n_total == 0:
        return Estimate(value=None, n_scored=0, n_total=0)
    worst, best = coverage_bounds(0.0, 0, n_total, bounds, higher_is_better)
    return Estimate(value=None, n_scored=0, n_total=n_total, worst=worst, best=best)


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
