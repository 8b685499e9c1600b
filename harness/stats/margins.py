"""Non-inferiority and equivalence: is a paired difference within a margin, by the one-sided 95 % bounds?

Reads the paired differences of each training seed (candidate less baseline). The answer is *yes* when the interval lies
inside the margin, *no* when all of it lies beyond, else *unclear*. Rates are tested by Tango's score statistic (1998),
which holds its level where pairs hardly differ; scores by Student's t. Clusters and seeds enter through their robust
standard error (`two_way`): it gives the independent pairs that the data are worth, and the degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.stats.core import FLAT
from harness.stats.item_tests import effective_pairs, reached, tango
from harness.stats.paired import Differences
from harness.stats.two_way import TwoWay, table_of, two_way

Decision = Literal["yes", "no", "unclear"]


class MarginTest(NamedTuple):
    """Whether a difference keeps within a margin.

    Attributes:
        difference: First minus second in the metric's own unit; ``None`` where nothing is paired.
        bound: The end of the interval that decides, one-sided 95 %: of a non-inferiority test the bad end, of an
            equivalence test the end farther from zero; ``None`` where none can be given.
        margin: The margin, above zero.
        p_value: One-sided, of the hypothesis that the difference is at the margin or beyond.
        decision: ``yes`` within the margin, ``no`` when the whole two-sided 90 % interval lies beyond it.
        test: Name of the test.
    """

    difference: float | None
    bound: float | None
    margin: float
    p_value: float | None
    decision: Decision
    test: str


class _Law(NamedTuple):
    """The test statistic of a supposed difference, approximately t: falls as the supposed difference grows."""

    value: float
    statistic: Callable[[float], float]
    df: float
    span: float
    name: str


def non_inferior(
    per_seed: Sequence[Differences],
    margin: float,
    *,
    binary: bool,
    higher_is_better: bool = True,
    span: float = 1.0,
    alpha: float = 0.05,
) -> MarginTest:
    """Whether the first side is worse than the second by less than the margin.

    Args:
        per_seed: First minus second of each training seed.
        margin: How much worse is still accepted, above zero, in the metric's unit.
        binary: The item values are 0 and 1.
        higher_is_better: Which direction is worse.
        span: Largest possible difference.
        alpha: Error rate of each bound.

    Raises:
        ValueError: The margin is not above zero, or a binary difference is not -1, 0 or 1.
    """
    law = _law(per_seed, margin, binary, span)
    if isinstance(law, MarginTest):
        return law
    low, high = _bounds(law, alpha)
    sign = 1.0 if higher_is_better else -1.0
    worst, mildest = (low, high) if higher_is_better else (high, low)
    decision: Decision = "unclear"
    if sign * worst > -margin:
        decision = "yes"
    elif sign * mildest < -margin:
        decision = "no"
    return MarginTest(law.value, worst, margin, _p_beyond(law, -sign * margin, sign), decision, law.name)


def equivalent(
    per_seed: Sequence[Differences],
    margin: float,
    *,
    binary: bool,
    higher_is_better: bool = True,
    span: float = 1.0,
    alpha: float = 0.05,
) -> MarginTest:
    """Whether the two sides differ by less than the margin in either direction (two one-sided tests).

    Takes what `non_inferior` takes; ``higher_is_better`` does not matter here.
    """
    law = _law(per_seed, margin, binary, span)
    if isinstance(law, MarginTest):
        return law
    low, high = _bounds(law, alpha)
    decision: Decision = "unclear"
    if -margin < low and high < margin:
        decision = "yes"
    elif high < -margin or low > margin:
        decision = "no"
    p_value = max(_p_beyond(law, -margin, 1.0), _p_beyond(law, margin, -1.0))
    return MarginTest(law.value, max(low, high, key=abs), margin, p_value, decision, f"two one-sided: {law.name}")


def _law(per_seed: Sequence[Differences], margin: float, binary: bool, span: float) -> _Law | MarginTest:
    """The test statistic; where there is none, the answer that nothing can be said, and why."""
    if not margin > 0:
        raise ValueError("a margin is above zero")
    filled = [pairs for pairs in per_seed if pairs.values.size]
    if not filled:
        return MarginTest(None, None, margin, None, "unclear", "none: no pairs")
    table = table_of(filled)
    found = two_way(table)
    if found.n_clusters < 2:
        return MarginTest(found.value, None, margin, None, "unclear", "none: one cluster")
    values = np.concatenate([pairs.values for pairs in filled])
    if not binary:
        return _score_law(found, values.size, span)
    if not np.isin(values, (-1.0, 0.0, 1.0)).all():
        raise ValueError("a difference of binary values is -1, 0 or 1")
    independent = found.n_clusters == values.size
    return _rate_law(found, float(np.abs(values).mean()), values.size, independent)


def _rate_law(found: TwoWay, discordant: float, n_pairs: int, independent: bool) -> _Law:
    """Tango's statistic on as many independent pairs as have the standard error found, never more than there are."""
    n_effective, df = float(n_pairs), float("inf")
    if not independent:
        n_effective = effective_pairs(found.value, discordant, found.error, n_pairs, found.n_clusters)
        df = found.df
    n_first = n_effective * (discordant + found.value) / 2
    n_second = n_effective * (discordant - found.value) / 2
    name = "Tango's score test" if independent else f"Tango's score test{_levels(found)}"
    return _Law(found.value, lambda at: tango(n_first, n_second, n_effective, at), df, 1.0, name)


def _score_law(found: TwoWay, n_pairs: int, span: float) -> _Law:
    centre, error, name = found.value, found.error, "t"
    if error <= FLAT * span:
        n_added = found.n_clusters + 2
        centre = found.value * found.n_clusters / n_added
        error = ((found.n_clusters * found.value**2 + span**2) / n_added - centre**2) ** 0.5 / n_added**0.5
        name = "t on plus two"
    if found.n_seeds > 1 or found.n_clusters < n_pairs:
        name += _levels(found)
    return _Law(found.value, lambda at: (centre - at) / error, found.df, span, name)


def _levels(found: TwoWay) -> str:
    return f" over {found.n_seeds} seeds and {found.n_clusters} prompts" if found.n_seeds > 1 else " by cluster"


def _bounds(law: _Law, alpha: float) -> tuple[float, float]:
    """Differences that the test does not reject at ``alpha`` on either side."""
    from scipy.stats import t

    quantile = float(t.ppf(1 - alpha, law.df))
    return reached(law.statistic, quantile, law.value, -law.span), reached(
        law.statistic, -quantile, law.value, law.span
    )


def _p_beyond(law: _Law, edge: float, sign: float) -> float:
    """Of the difference being at an edge or beyond it, where ``sign`` says on which side the hypothesis lies."""
    from scipy.stats import t

    return float(t.sf(sign * law.statistic(edge), law.df)) if abs(edge) <= law.span else 0.0
