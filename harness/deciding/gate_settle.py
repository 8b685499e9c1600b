"""What would settle an inconclusive rule: how many items, or seeds and items, if what was seen stays as it is.

An approximation at 80 % power from `harness.stats.power`, the clusters' design effect included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.core import FLAT, Clusters, FloatArray, cluster_codes, robust_spread
from harness.stats.paired import Differences
from harness.stats.power import needed_items_paired_rate, needed_items_score
from harness.stats.two_way import table_of, two_way

MOST = 10_000_000


def for_difference(per_seed: Sequence[Differences], distance: float, *, binary: bool, alpha: float) -> str:
    """Of a paired rule, how many items or seeds.

    Args:
        per_seed: The differences of each training seed.
        distance: From the observed difference to the limit, above zero on the side that passes.
        binary: The item values are 0 and 1.
        alpha: Two-sided error rate; twice the rate of a one-sided bound.
    """
    filled = [pairs for pairs in per_seed if pairs.values.size]
    if not filled:
        return ""
    if distance <= FLAT:
        return "no further items would make it pass, if the difference stays as it is"
    if len(filled) > 1:
        error = two_way(table_of(filled)).error
        if FLAT < error < float("inf"):
            n_seeds = len(filled)
            times = needed_items_score(distance, error * n_seeds**0.5, alpha=alpha) / n_seeds
            more = f"about {max(times, 1.1):.2g} times as many training seeds and items"
            return f"{more}, if what was seen stays as it is"
    pairs = filled[0]
    effect = _design_effect(pairs.values, pairs.clusters)
    if binary:
        discordant = max(float(np.abs(pairs.values).mean()), distance)
        if discordant > 1:
            return ""
        n_needed = needed_items_paired_rate(distance, discordant, alpha=alpha, design_effect=effect)
    else:
        spread = float(pairs.values.std(ddof=1)) if pairs.values.size > 1 else 0.0
        if spread <= FLAT:
            return ""
        n_needed = needed_items_score(distance, spread, alpha=alpha, design_effect=effect)
    return _told(n_needed, pairs.values.size, "items")


def for_level(values: FloatArray, clusters: Clusters, distance: float) -> str:
    """Of a floor or ceiling on one training seed, how many items.

    Args:
        values: The scored items, shape ``(n,)``.
        clusters: Their clusters.
        distance: From the value to the limit, above zero on the side that passes.
    """
    if distance <= FLAT:
        return "no further items would make it pass, if the value stays as it is"
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    if spread <= FLAT:
        return ""
    n_needed = needed_items_score(distance, spread, design_effect=_design_effect(values, clusters))
    return _told(n_needed, values.size, "items")


def _design_effect(values: FloatArray, clusters: Clusters | None) -> float:
    """How many times the variance of the mean is that of independent items."""
    if values.size < 2 or np.ptp(values) <= FLAT:
        return 1.0
    spread = robust_spread(values, cluster_codes(clusters, values.size))
    if spread.n_clusters < 2:
        return 1.0
    return max(1.0, spread.error**2 * values.size / float(values.var(ddof=1)))


def _told(n_needed: int, n_now: int, what: str) -> str:
    if n_needed > MOST:
        return f"more than {MOST:,} {what}: what was seen lies too near the limit"
    return f"about {max(n_needed, n_now + 1):,} {what} instead of {n_now:,}, if what was seen stays as it is"
