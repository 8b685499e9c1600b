"""Correction for testing several comparisons: those that a reader sees together are one family."""

from __future__ import annotations

from collections.abc import Sequence

from harness.scores import Comparison
from harness.stats.paired import benjamini_hochberg, holm


def as_family(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's adjusted p values and Benjamini and Hochberg's q values over all of them.

    One without a p value gets neither and does not count.
    """
    p_values = [one.p_value for one in comparisons]
    return [
        one.model_copy(update={"p_adjusted": p_adjusted, "q_value": q_value})
        for one, p_adjusted, q_value in zip(comparisons, holm(p_values), benjamini_hochberg(p_values), strict=True)
    ]
