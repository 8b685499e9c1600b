"""Tests and intervals over training seeds and prompts, both drawn, on the standard errors of `two_way`.

A difference is rejected only where two tests agree: the one on the error over seeds and prompts, and Student's t on the
error that the seeds alone show. The first by itself rejects too often where seeds differ much (7 % of the time with
three seeds, 12 % with two, at a nominal 5 %), because an error that came out small by chance also has too many degrees
of freedom; the second by itself says nothing about other prompts. Intervals are the differences that are not rejected.
Where seeds hardly differ the two together are conservative: in simulations of two equally good methods, at a nominal
5 %, they reject between 0.4 and 4 % of the time, so a real difference there takes more seeds or prompts to show.
Differences of rates are tested by Tango's score statistic (1998), which holds its level where pairs hardly differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from harness.stats.core import CONFIDENCE, FLAT, Differences, normal_quantile, wilson
from harness.stats.item_tests import Alternative, effective_pairs, reached, tango
from harness.stats.two_way import TwoWay, satterthwaite, table_of, two_way


class _Test(NamedTuple):
    """The test statistic of a supposed difference, approximately t: falls as the supposed difference grows."""

    statistic: Callable[[float], float]
    df: float


class Law(NamedTuple):
    """What is known of a difference, as tests that have to agree.

    Attributes:
        value: The observed difference.
        tests: One or two.
        span: Largest possible difference.
        name: Of the first test, which names the levels too.
    """

    value: float
    tests: tuple[_Test, ...]
    span: float
    name: str

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Differences that are not rejected at ``alpha`` on either side."""
        from scipy.stats import t

        lows, highs = [], []
        for test in self.tests:
            quantile = float(t.ppf(1 - alpha, test.df))
            lows.append(reached(test.statistic, quantile, self.value, -self.span))
            highs.append(reached(test.statistic, -quantile, self.value, self.span))
        return min(lows), max(highs)

    def p_beyond(self, edge: float, sign: float) -> float:
        """Of the difference being at an edge or beyond it, where ``sign`` says on which side the hypothesis lies."""
        from scipy.stats import t

        if abs(edge) > self.span:
            return 0.0
        return max(float(t.sf(sign * test.statistic(edge), test.df)) for test in self.tests)

    def p_value(self, alternative: Alternative) -> float:
        """Of no difference."""
        greater = self.p_beyond(0.0, 1.0)
        return greater if alternative == "greater" else min(1.0, 2 * min(greater, self.p_beyond(0.0, -1.0)))


def paired_law(per_seed: Sequence[Differences], *, binary: bool, span: float) -> Law | None:
    """What paired differences say; ``None`` for one cluster, which says nothing about others.

    Args:
        per_seed: The differences of each seed, at least one of them filled; empty seeds drop out.
        binary: The item values are 0 and 1.
        span: Largest possible difference.

    Raises:
        ValueError: A binary difference is not -1, 0 or 1.
    """
    found = two_way(table_of(per_seed))
    values = np.concatenate([pairs.values for pairs in per_seed])
    if binary and not np.isin(values, (-1.0, 0.0, 1.0)).all():
        raise ValueError("a difference of binary values is -1, 0 or 1")
    if found.n_clusters < 2:
        return None
    return _rate_law(found, float(np.abs(values).mean()), values.size) if binary else t_law(found, span, values.size)


def t_law(found: TwoWay, span: float, n_items: int) -> Law:
    """Student's t; where nothing differs half an item is added at each end of the scale (Agresti and Min 2005).

    Args:
        found: The difference, of two clusters or more.
        span: Largest possible difference.
        n_items: Items behind it, of all seeds.
    """
    centre, error, name = found.value, found.error, "t"
    if error <= FLAT * span:
        n_added = found.n_clusters + 2
        centre = found.value * found.n_clusters / n_added
        error = ((found.n_clusters * found.value**2 + span**2) / n_added - centre**2) ** 0.5 / n_added**0.5
        name = "t on plus two"
    if found.n_seeds > 1 or found.n_clusters < n_items:
        name = f"{name} {found.levels}"
    test = _Test(lambda at: (centre - at) / error, found.df)
    return Law(found.value, (test, *_seed_test(found, span)), span, name)


def measure_law(found: TwoWay) -> Law:
    """Of a measure with halves, which may be unequal: they are widened by Student's t where the seeds count as drawn.

    Args:
        found: A measure or a difference of two, with its halves, of two clusters or more.
    """
    down, up = found.halves or (found.error, found.error)
    quantile = normal_quantile()

    def statistic(at: float) -> float:
        half = down if at < found.value else up
        return (found.value - at) / max(half, FLAT) * quantile

    several = found.n_seeds > 1
    name = f"MOVER {found.levels}" if several or found.clustered else "MOVER"
    test = _Test(statistic, found.df if several else float("inf"))
    return Law(found.value, (test, *_seed_test(found, 1.0)), 1.0, name)


def share_interval(found: TwoWay, bounds: tuple[float, float], n_items: int) -> tuple[float, float]:
    """Interval of a mean that can only lie between bounds: Wilson's, on as many items as have the error found.

    Wilson's keeps within the bounds and has width where all items are equal; joined with the t interval of the seeds
    alone, clipped to the bounds.

    Args:
        found: The mean, of two clusters or more.
        bounds: Smallest and largest value of an item.
        n_items: Items behind it, of all seeds.
    """
    from scipy.stats import t

    low, width = bounds[0], bounds[1] - bounds[0]
    share = min(max((found.value - low) / width, 0.0), 1.0)
    size, df = _effective_size(share * (1 - share), found, width, n_items)
    ends = wilson(share, size, float(t.ppf(0.5 + CONFIDENCE / 2, df)))
    half = float(t.ppf(0.5 + CONFIDENCE / 2, found.seed_df)) * found.seed_error / width
    return low + max(0.0, min(ends[0], share - half)) * width, low + min(1.0, max(ends[1], share + half)) * width


def _rate_law(found: TwoWay, discordant: float, n_pairs: int) -> Law:
    """Tango's statistic on as many independent pairs as have the standard error found."""
    independent = found.n_seeds == 1 and found.n_clusters == n_pairs
    n_effective, df = float(n_pairs), float("inf")
    if found.n_seeds > 1:
        n_effective, df = _effective_size(max(discordant - found.value**2, 0.0), found, 1.0, n_pairs)
    elif not independent:
        n_effective = effective_pairs(found.value, discordant, found.error, n_pairs, found.n_clusters)
        df = found.df
    n_first = n_effective * max(discordant + found.value, 0.0) / 2
    n_second = n_effective * max(discordant - found.value, 0.0) / 2
    test = _Test(lambda at: tango(n_first, n_second, n_effective, at), df)
    name = "Tango's score test" if independent else f"Tango's score test {found.levels}"
    return Law(found.value, (test, *_seed_test(found, 1.0)), 1.0, name)


def _effective_size(variance: float, found: TwoWay, span: float, n_items: int) -> tuple[float, float]:
    """Independent items that have the standard error found, never more than there are, and its degrees of freedom.

    One prompt is added that came out the other way in every seed. So where hardly anything differs, and the error says
    next to nothing, the prompts count and not the answers to them: 600 equal answers to 200 prompts are worth 200.

    Args:
        variance: Of one item, on a scale of one.
        found: The mean with its error.
        span: Length of the scale of the mean.
        n_items: Items of all seeds.
    """
    error = found.error / span
    added = 1 / found.n_clusters
    total, df = satterthwaite([(error**2, found.df), (added**2, found.n_clusters - 1.0)], found.n_clusters - 1.0)
    return max(1.0, min(float(n_items), (variance + added) / total**2)), df


def _seed_test(found: TwoWay, span: float) -> tuple[_Test, ...]:
    if found.seed_error <= FLAT * span:
        return ()
    return (_Test(lambda at: (found.value - at) / found.seed_error, found.seed_df),)
