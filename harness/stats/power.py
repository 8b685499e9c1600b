"""What a run can detect, before it is run."""

from __future__ import annotations

import math


def detectable_rate_difference(
    n_items: int, share_discordant: float = 0.2, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Smallest difference of two rates that a paired test on the same items finds.

    The normal approximation to McNemar's test (Miettinen 1968): the difference has variance ``share_discordant / n``
    at most. Independent items; items that share clusters need more.

    Args:
        n_items: Items that both sides answer.
        share_discordant: Share of items on which the two sides differ.
        power: Probability of finding it.
        alpha: Two-sided error rate.

    Returns:
        The difference as a share, at most 1.
    """
    return min(1.0, _quantiles(power, alpha) * math.sqrt(share_discordant / n_items))


def detectable_score_difference(n_items: int, sd: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest difference of two mean scores that a paired test finds, given the SD of the items' differences."""
    return _quantiles(power, alpha) * sd / math.sqrt(n_items)


def _quantiles(power: float, alpha: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - alpha / 2)) + float(norm.ppf(power))
