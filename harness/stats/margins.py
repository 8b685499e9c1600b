"""Non-inferiority and equivalence: is a paired difference within a margin, by the one-sided 95 % bounds?

Reads the paired differences of each training seed (candidate less baseline). The answer is *yes* when the interval lies
inside the margin, *no* when all of it lies beyond, else *unclear*. Rates are tested by Tango's score statistic (1998),
which holds its level where pairs hardly differ; scores by Student's t. Clusters and seeds enter through their robust
standard error (see `harness.stats.levels`, which has the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.stats.core import Differences
from harness.stats.levels import Law, paired_law

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
    low, high = law.bounds(alpha)
    sign = 1.0 if higher_is_better else -1.0
    worst, mildest = (low, high) if higher_is_better else (high, low)
    decision: Decision = "unclear"
    if sign * worst > -margin:
        decision = "yes"
    elif sign * mildest < -margin:
        decision = "no"
    return MarginTest(law.value, worst, margin, law.p_beyond(-sign * margin, sign), decision, law.name)


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
    low, high = law.bounds(alpha)
    decision: Decision = "unclear"
    if -margin < low and high < margin:
        decision = "yes"
    elif high < -margin or low > margin:
        decision = "no"
    p_value = max(law.p_beyond(-margin, 1.0), law.p_beyond(margin, -1.0))
    return MarginTest(law.value, max(low, high, key=abs), margin, p_value, decision, f"two one-sided: {law.name}")


def _law(per_seed: Sequence[Differences], margin: float, binary: bool, span: float) -> Law | MarginTest:
    """The tests of a supposed difference; where there are none, the answer that nothing can be said, and why."""
    if not margin > 0:
        raise ValueError("a margin is above zero")
    filled = [pairs for pairs in per_seed if pairs.values.size]
    if not filled:
        return MarginTest(None, None, margin, None, "unclear", "none: no pairs")
    law = paired_law(filled, binary=binary, span=span)
    if law is None:
        value = float(np.mean([pairs.values.mean() for pairs in filled]))
        return MarginTest(value, None, margin, None, "unclear", "none: one cluster")
    return law
