"""Seeded bootstraps of means: BCa intervals, paired differences, and differences over seeds and prompts.

Reads item values, NaN or absent where an item was lost, and their clusters; whole clusters are resampled. A resample is
a row of weights, so that 10,000 of them are matrix products. Scores, which pile up at an end of their scale, get the
bias-corrected accelerated interval (Efron 1987). Over few seeds a bootstrap is too narrow; there the draws keep their
shape, and take their spread from `two_way` and their tails from Student's t.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.scores import Comparison, Estimate
from harness.stats import intervals
from harness.stats.core import CONFIDENCE, FLAT, Clusters, FloatArray, IntArray, as_floats, cluster_codes, t_quantile
from harness.stats.levels import t_law
from harness.stats.paired import Differences, compare_items, pair_aligned
from harness.stats.resample import bootstrap_p, cluster_weights, draws_of_counts
from harness.stats.two_way import Table, TwoWay, two_way

N_RESAMPLES = 10_000


def bca_mean(
    values: ArrayLike,
    n_total: int,
    bounds: tuple[float, float],
    clusters: Clusters | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    higher_is_better: bool | None = True,
) -> Estimate:
    """Mean score with a BCa interval, which follows a skewed distribution; flat values get the interval of `mean`.

    Args:
        values: Score of each scored item, shape ``(n_scored,)``.
        n_total: Items planned.
        bounds: Smallest and largest possible score.
        clusters: Cluster of each scored item.
        n_resamples: Resamples.
        seed: Seed of the resampling.
        higher_is_better: Which end of the scale a lost item is worst at.

    Raises:
        ValueError: A score is outside its scale, or more items were scored than planned.
    """
    plain = intervals.mean(values, n_total, bounds, clusters, higher_is_better=higher_is_better)
    array = as_floats(values)
    codes = cluster_codes(clusters, array.size)
    found = _resampled(array, codes, n_resamples, seed, accelerated=True) if array.size else None
    if found is None:
        return plain
    name = "BCa bootstrap" if found.n_clusters == array.size else "cluster BCa bootstrap"
    return plain.model_copy(update={"low": found.low, "high": found.high, "method": name})


def bootstrap_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """First minus second on the same items, with a percentile interval and the p value at which it would touch zero.

    Not BCa: on differences, which scatter to both sides, that covers less often (87-93 % of the time at 20 items, where
    percentiles cover 93-94 %). Differences that are all equal leave nothing to resample; they get the permutation test
    and the interval of `compare_items`.

    Args:
        first: Values of the first side, shape ``(n,)``, NaN where lost.
        second: Values of the second side, shape ``(n,)``, NaN where lost.
        clusters: Cluster of each item, length ``n``.
        n_resamples: Resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: The lengths differ.
    """
    pairs = pair_aligned(first, second, clusters)
    codes = cluster_codes(pairs.clusters, pairs.values.size)
    found = _resampled(pairs.values, codes, n_resamples, seed, accelerated=False) if pairs.values.size else None
    if found is None:
        span = float(np.abs(pairs.values).max(initial=0.0)) or 1.0
        return compare_items(pairs, binary=False, span=span, seed=seed)
    return Comparison(
        difference=float(pairs.values.mean()),
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        test="paired bootstrap" + ("" if found.n_clusters == pairs.values.size else " by cluster"),
        n_pairs=pairs.values.size,
        n_unpaired=pairs.n_unpaired,
    )


def hierarchical_difference(
    first: Mapping[int, ArrayLike],
    second: Mapping[int, ArrayLike],
    clusters: Clusters | None = None,
    *,
    paired_seeds: bool,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    span: float = 1.0,
) -> Comparison:
    """First minus second over training seeds and prompts, both resampled: training again, on prompts like these.

    Args:
        first: Training seed → item values of the first side, shape ``(n_items,)``, NaN where lost.
        second: The same of the second side, items in the same order.
        clusters: Cluster of each item, length ``n_items``.
        paired_seeds: Equal seeds of the two sides belong together (they share data order or initialisation) and are
            resampled jointly; a seed of one side alone drops out. Otherwise each side's seeds are resampled alone.
        n_resamples: Resamples.
        seed: Seed of the resampling.
        span: Largest possible difference; the interval is clipped to it.

    Raises:
        ValueError: The arrays or their clusters differ in length, or no seed is paired.
    """
    one, two = _matrix(first), _matrix(second)
    if one.shape[0] != two.shape[0]:
        raise ValueError(f"{one.shape[0]} items on the first side, {two.shape[0]} on the second")
    shared = sorted(first.keys() & second.keys())
    if paired_seeds and not shared:
        raise ValueError("the two sides share no training seed")
    paired = [_matrix({s: as_floats(first[s]) - as_floats(second[s]) for s in shared})] if paired_seeds else []
    sides = paired or [one, two]
    both = np.all([_scored(side) for side in sides], axis=0)
    n_unpaired = int(((_scored(one) | _scored(two)) & ~both).sum())
    n_pairs = int(sum((~np.isnan(side[both])).sum() for side in sides) / len(sides))
    if not n_pairs:
        return Comparison(difference=None, n_pairs=0, n_unpaired=n_unpaired)
    codes = np.unique(cluster_codes(clusters, one.shape[0])[both], return_inverse=True)[1]
    tables = [_table(side[both], codes) for side in sides]
    return _over_levels(tables, n_pairs, n_unpaired, n_resamples, seed, span)


class _Resampled(NamedTuple):
    low: float
    high: float
    p_value: float
    n_clusters: int


def _resampled(
    values: FloatArray, codes: IntArray, n_resamples: int, seed: int, *, accelerated: bool
) -> _Resampled | None:
    """Interval of a mean over clusters; ``None`` for one cluster, or where all values or all resamples are the same.

    Expanded for small samples (Hesterberg 2015): t quantiles, and the factor n / (n - 1) that a bootstrap lacks.
    """
    from scipy.stats import norm, t

    value, n_clusters = float(values.mean()), int(codes.max()) + 1
    columns = np.column_stack([values - value, np.ones_like(values)])
    draws = draws_of_counts(columns, codes, lambda sums: sums[:, 0] / sums[:, 1], seed, n_resamples)
    if n_clusters < 2 or np.ptp(values) == 0 or np.ptp(draws) <= FLAT * np.ptp(values):
        return None
    bias = float(norm.ppf(_share_below(draws, 0.0))) if accelerated else 0.0
    acceleration = _acceleration(columns, codes) if accelerated else 0.0
    expansion = (n_clusters / (n_clusters - 1)) ** 0.5
    ends = bias + expansion * t_quantile(n_clusters) * np.array([-1.0, 1.0])
    low, high = np.quantile(draws, norm.cdf(bias + ends / (1 - acceleration * ends))) + value
    at_zero = float(norm.ppf(_share_below(draws, -value))) - bias
    below = float(t.cdf((at_zero / (1 + acceleration * at_zero) - bias) / expansion, n_clusters - 1))
    return _Resampled(float(low), float(high), min(1.0, 2 * min(below, 1 - below)), n_clusters)


def _acceleration(columns: FloatArray, codes: IntArray) -> float:
    """From the jackknife over clusters (Efron 1987); columns are the centred values and ones."""
    sums, sizes = (np.bincount(codes, weights=column) for column in columns.T)
    left_out = -sums / (len(columns) - sizes)
    pull = left_out.mean() - left_out
    return float((pull**3).sum() / (6 * (pull**2).sum() ** 1.5))


def _share_below(draws: FloatArray, value: float) -> float:
    """Share of draws below a value, ties counting half, one of two further draws on each side: never 0 or 1."""
    below = float((draws < value).sum()) + float((draws == value).sum()) / 2
    return (below + 1) / (draws.size + 2)


def _matrix(per_seed: Mapping[int, ArrayLike]) -> FloatArray:
    """Item values of all seeds, shape ``(n_items, n_seeds)``."""
    columns = [as_floats(per_seed[seed]) for seed in sorted(per_seed)]
    if len({column.size for column in columns}) != 1:
        raise ValueError("every seed needs a value, or NaN, for every item")
    return np.column_stack(columns)


def _scored(values: FloatArray) -> NDArray[np.bool_]:
    """Whether each item has a value in any seed, shape ``(n_items,)``."""
    return np.asarray(~np.isnan(values).all(axis=1))


def _table(values: FloatArray, codes: IntArray) -> Table:
    values = values[:, ~np.isnan(values).all(axis=0)]
    known = ~np.isnan(values)
    return Table(_by_cluster(np.where(known, values, 0.0), codes), _by_cluster(known, codes))


def _by_cluster(columns: NDArray[Any], codes: IntArray) -> FloatArray:
    return np.stack([as_floats(np.bincount(codes, weights=column)) for column in columns.T], axis=1)


def _over_levels(
    tables: list[Table], n_pairs: int, n_unpaired: int, n_resamples: int, seed: int, span: float
) -> Comparison:
    found = two_way(*tables)
    n_seeds = "+".join(str(table.counts.shape[1]) for table in tables)
    plain = Comparison(difference=found.value, n_pairs=n_pairs, n_unpaired=n_unpaired, n_seeds=found.n_seeds)
    if found.n_clusters < 2:
        return plain
    draws = _stretched(_draws(tables, n_resamples, seed), found)
    if found.error <= FLAT * span or np.ptp(draws) <= FLAT * span:
        return _flat(tables, plain, span)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    test = f"hierarchical bootstrap ({n_seeds} seeds, {found.units})"
    law = t_law(found, span, n_pairs)  # never surer than it: an error that is small by chance misleads both
    bounds = law.bounds((1 - CONFIDENCE) / 2)
    ends = {"low": max(-span, min(float(low), bounds[0])), "high": min(span, max(float(high), bounds[1]))}
    p_value = max(bootstrap_p(draws, "two-sided") or 0.0, law.p_value("two-sided"))
    return plain.model_copy(update={**ends, "p_value": p_value, "test": test})


def _flat(tables: list[Table], plain: Comparison, span: float) -> Comparison:
    """All seeds and clusters differ by the same: as `compare_items` has it for one difference a cluster."""
    with np.errstate(invalid="ignore"):
        means = [np.nanmean(table.sums / table.counts, axis=1) for table in tables]
    values = means[0] if len(means) == 1 else means[0] - means[1]
    found = compare_items(Differences(values), binary=False, span=span)
    return found.model_copy(update={name: getattr(plain, name) for name in ("n_pairs", "n_unpaired", "n_seeds")})


def _draws(tables: list[Table], n_resamples: int, seed: int) -> FloatArray:
    """The difference in each resample of clusters (jointly for both sides) and seeds (each side's own)."""
    rng = np.random.default_rng([seed, 1])
    columns = np.hstack([part for table in tables for part in table])
    n_clusters = len(columns)
    resampled = np.concatenate(
        [weights @ columns for weights in cluster_weights(n_clusters, n_clusters, seed, n_resamples)]
    )
    total, start = np.zeros(n_resamples), 0
    for sign, table in zip((1.0, -1.0), tables, strict=False):
        n_seeds = table.counts.shape[1]
        sums, counts = resampled[:, start : start + n_seeds], resampled[:, start + n_seeds : start + 2 * n_seeds]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / counts
        drawn = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples)
        total += sign * (drawn * means).sum(axis=1) / n_seeds + _smoothing(table) * rng.normal(size=n_resamples)
        start += 2 * n_seeds
    return total


def _smoothing(table: Table) -> float:
    """SD of the noise that smooths a bootstrap over seeds (Silverman and Young 1987): two or three seeds are lumps."""
    n_seeds = table.counts.shape[1]
    if n_seeds < 2:
        return 0.0
    means = table.sums.sum(axis=0) / table.counts.sum(axis=0)
    return float(means.std(ddof=1) * n_seeds**-0.7)


def _stretched(draws: FloatArray, found: TwoWay) -> FloatArray:
    """Draws about the value, with its standard error for their spread and Student's tails for the normal ones."""
    from scipy.stats import norm, t

    known = np.sort(draws[~np.isnan(draws)])
    place = (np.arange(known.size) + 0.5) / max(known.size, 1)
    normal = norm.ppf(place)
    ratio = np.divide(t.ppf(place, found.df), normal, out=np.ones_like(place), where=np.abs(normal) > FLAT)
    spread = float(known.std())
    return np.asarray(found.value + ratio * (known - known.mean()) * (found.error / spread if spread > 0 else 0.0))
