"""Tests and intervals of paired item differences: McNemar's mid-p, the sign-flip permutation, Tango's score interval.

Reads differences, or sums of them by cluster. Of binary pairs only the discordant ones count. Their exact test rejects
too seldom (2-4 % of the time at a nominal 5 % with fewer than 200 discordant pairs); with the mid-p correction it
stays below 5 % and, from twelve discordant pairs on, above 4 % (Fagerland, Lydersen and Laake 2013). Tango's interval
(1998) covers where Wald's does not, at rates near 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from harness.stats.core import FLAT, FloatArray
from harness.stats.resample import BATCH_WEIGHTS

Alternative = Literal["two-sided", "greater"]
N_PERMUTATIONS = 9999


def mcnemar_mid_p(values: FloatArray, alternative: Alternative) -> float:
    """McNemar's exact test less half the chance of what was seen; 1 where no pair differs.

    Args:
        values: Differences of binary values: -1, 0 or 1.
        alternative: ``greater`` tests whether the first side is higher.
    """
    from scipy.stats import binom

    n_first, n_second = int((values > 0).sum()), int((values < 0).sum())
    n_discordant = n_first + n_second
    if n_discordant == 0:
        return 1.0
    if alternative == "greater":
        return float(binom.sf(n_first, n_discordant, 0.5) + binom.pmf(n_first, n_discordant, 0.5) / 2)
    fewer = min(n_first, n_second)
    return min(1.0, float(2 * binom.cdf(fewer, n_discordant, 0.5) - binom.pmf(fewer, n_discordant, 0.5)))


def mcnemar_exact(values: FloatArray, alternative: Alternative) -> float:
    """McNemar's exact test, for whom the level must hold whatever the truth; 1 where no pair differs.

    Comparisons use `mcnemar_mid_p`: at a nominal 5 % the exact test rejects 2-4 % of the time with fewer than 200
    discordant pairs, and so misses differences that the mid-p finds at a level of 5 % too.

    Args:
        values: Differences of binary values: -1, 0 or 1.
        alternative: ``greater`` tests whether the first side is higher.
    """
    from scipy.stats import binomtest

    n_first, n_second = int((values > 0).sum()), int((values < 0).sum())
    n_discordant = n_first + n_second
    return float(binomtest(n_first, n_discordant, alternative=alternative).pvalue) if n_discordant else 1.0


def sign_flip(cluster_sums: FloatArray, alternative: Alternative, seed: int) -> float:
    """Permutation test: each cluster's sum might as well have had the other sign. Sums of zero drop out.

    All 2^n sign patterns where they are at most 9999, else so many random ones and the observed one.

    Args:
        cluster_sums: Sum of the differences of each cluster, or the differences themselves.
        alternative: ``greater`` tests whether the first side is higher.
        seed: Seed of the random patterns.
    """
    sums = cluster_sums[np.abs(cluster_sums) > FLAT]
    observed = float(sums.sum())
    exact = 2**sums.size <= N_PERMUTATIONS
    totals = _all_totals(sums) if exact else _random_totals(sums, seed)
    slack = FLAT * float(np.abs(sums).sum())
    beyond = totals >= observed - slack if alternative == "greater" else np.abs(totals) >= abs(observed) - slack
    n_beyond, n_patterns = int(beyond.sum()), totals.size
    return n_beyond / n_patterns if exact else (n_beyond + 1) / (n_patterns + 1)


def tango(n_first: float, n_second: float, n_pairs: float, difference: float) -> float:
    """Tango's score statistic of a supposed difference of two paired rates (Statistics in Medicine 17, 1998).

    Args:
        n_first: Pairs in which the first side alone is 1; need not be whole.
        n_second: Pairs in which the second side alone is 1.
        n_pairs: All pairs.
        difference: First less second rate, as supposed, -1 to 1.

    Returns:
        Approximately standard normal if the difference is as supposed; infinite where it cannot be.
    """
    a, c = 2 * n_pairs, -n_second * difference * (1 - difference)
    b = -n_first - n_second + (2 * n_pairs - n_first + n_second) * difference
    second = (max(b * b - 4 * a * c, 0.0) ** 0.5 - b) / (2 * a)
    variance = n_pairs * (2 * second + difference * (1 - difference))
    excess = n_first - n_second - n_pairs * difference
    if variance <= FLAT * n_pairs:
        return 0.0 if abs(excess) <= FLAT * n_pairs else float(np.copysign(np.inf, excess))
    return float(excess / variance**0.5)


def tango_interval(n_first: float, n_second: float, n_pairs: float, quantile: float) -> tuple[float, float]:
    """Differences whose score statistic is within a quantile of zero; always contains the observed difference."""

    def statistic(at: float) -> float:
        return tango(n_first, n_second, n_pairs, at)

    value = (n_first - n_second) / n_pairs
    return reached(statistic, quantile, value, -1.0), reached(statistic, -quantile, value, 1.0)


def reached(statistic: Callable[[float], float], level: float, value: float, end: float) -> float:
    """Where a statistic that falls through zero at ``value`` reaches a level on the way to ``end``; else ``end``."""
    from scipy.optimize import brentq

    low, high = min(value, end), max(value, end)
    if low == high or (statistic(end) - level) * level < 0:
        return end
    return float(brentq(lambda at: np.clip(statistic(at) - level, -1e9, 1e9), low, high, xtol=1e-12))


def effective_pairs(value: float, discordant: float, error: float, n_pairs: int, n_clusters: int) -> float:
    """Independent pairs with the robust standard error found, never more than there are.

    Where the differences show no spread the clusters count, not the pairs.

    Args:
        value: Mean difference of binary values.
        discordant: Share of pairs that differ.
        error: Cluster-robust standard error of the mean difference.
        n_pairs: Pairs.
        n_clusters: Clusters.
    """
    variance = discordant - value**2
    if error <= FLAT or variance <= FLAT:
        return float(n_clusters)
    return min(float(n_pairs), variance / error**2)


def _all_totals(sums: FloatArray) -> FloatArray:
    patterns = np.arange(2**sums.size)[:, None] >> np.arange(sums.size) & 1
    return np.asarray((2 * patterns - 1) @ sums)


def _random_totals(sums: FloatArray, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    n_bytes = -(-sums.size // 8)
    batch = max(1, BATCH_WEIGHTS // sums.size)
    totals = []
    for start in range(0, N_PERMUTATIONS, batch):
        n_rows = min(batch, N_PERMUTATIONS - start)
        drawn = np.frombuffer(rng.bytes(n_rows * n_bytes), dtype=np.uint8).reshape(n_rows, n_bytes)
        totals.append(2 * (np.unpackbits(drawn, axis=1, count=sums.size) @ sums) - sums.sum())
    return np.concatenate(totals)
