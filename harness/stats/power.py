"""What a run can detect before it is run, and how many items it needs: paired and unpaired, rates and scores.

Two-sided tests. Items that share clusters are worth fewer: ``design_effect`` says how many times (Kish 1965). Paired
rates are compared by McNemar's test, unpaired ones by Cohen's h, scores by t tests.
"""

from __future__ import annotations

import math
from bisect import bisect_left

POWER, ALPHA = 0.8, 0.05


def detectable_rate_difference(
    n_items: int,
    share_discordant: float = 0.2,
    power: float = POWER,
    alpha: float = ALPHA,
    *,
    design_effect: float = 1.0,
) -> float:
    """Smallest difference of two rates that a paired test on the same items finds.

    The normal approximation to McNemar's test (Miettinen 1968): the difference has variance ``share_discordant / n``
    at most.

    Args:
        n_items: Items that both sides answer.
        share_discordant: Share of items on which the two sides differ.
        power: Probability of finding it.
        alpha: Two-sided error rate.
        design_effect: How many times more items the clusters cost.

    Returns:
        The difference as a share, at most 1.
    """
    return min(1.0, _quantiles(power, alpha) * math.sqrt(share_discordant * design_effect / n_items))


def detectable_score_difference(
    n_items: int, sd: float, power: float = POWER, alpha: float = ALPHA, *, design_effect: float = 1.0
) -> float:
    """Smallest difference of two mean scores that a paired test finds, given the SD of the items' differences."""
    return _quantiles(power, alpha) * sd * math.sqrt(design_effect / n_items)


def over_seeds_factor(n_seeds: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """How many times the difference that one seed's items show has to be there to be found over several seeds.

    Over seeds a difference has to stand by Student's t on the seeds' own differences too (`harness.stats.levels`); this
    is that test where nothing but chance tells the seeds apart. Trainings that differ need a larger difference.

    Args:
        n_seeds: Training seeds, two or more.
        power: Probability of finding it.
        alpha: Two-sided error rate.

    Raises:
        ValueError: Fewer than two seeds.
    """
    from statsmodels.stats.power import TTestPower

    if n_seeds < 2:
        raise ValueError("one seed has no spread over seeds")
    size = TTestPower().solve_power(effect_size=None, nobs=n_seeds, alpha=alpha, power=power)
    return float(size) / _quantiles(power, alpha)


def detectable_unpaired_rate(
    n_items: int, baseline: float, power: float = POWER, alpha: float = ALPHA, *, design_effect: float = 1.0
) -> float:
    """Smallest rise above a baseline rate that two samples of different items show, each of ``n_items``.

    The smallest fall below it is ``detectable_unpaired_rate(n_items, 1 - baseline)``.

    Returns:
        The difference as a share; where no rate would be high enough, what is left to 1.
    """
    shift = _quantiles(power, alpha) * math.sqrt(2 * design_effect / n_items)
    return math.sin(min(_angle(baseline) + shift, math.pi) / 2) ** 2 - baseline


def needed_items_paired_rate(
    difference: float,
    share_discordant: float = 0.2,
    power: float = POWER,
    alpha: float = ALPHA,
    *,
    design_effect: float = 1.0,
) -> int:
    """Items that both sides must answer for a paired test to find a difference of rates.

    Raises:
        ValueError: The difference is zero, or larger than the share of items that differ at all.
    """
    if not 0 < abs(difference) <= share_discordant:
        raise ValueError("a difference of rates lies between zero and the share of items on which the sides differ")
    return math.ceil(design_effect * share_discordant * (_quantiles(power, alpha) / difference) ** 2)


def needed_items_unpaired_rate(
    first: float, second: float, power: float = POWER, alpha: float = ALPHA, *, design_effect: float = 1.0
) -> int:
    """Items of each of two different samples for a test to tell one rate from the other.

    Raises:
        ValueError: The rates are equal.
    """
    if first == second:
        raise ValueError("equal rates cannot be told apart")
    return math.ceil(2 * design_effect * (_quantiles(power, alpha) / (_angle(first) - _angle(second))) ** 2)


def needed_items_score(
    difference: float,
    sd: float,
    power: float = POWER,
    alpha: float = ALPHA,
    *,
    paired: bool = True,
    design_effect: float = 1.0,
) -> int:
    """Items for a t test to find a difference of mean scores; of each sample, where they are not paired.

    Args:
        difference: The difference on the scale of the scores.
        sd: SD of the items' differences; unpaired, of the items' scores.
        power: Probability of finding it.
        alpha: Two-sided error rate.
        paired: Both sides answer the same items.
        design_effect: How many times more items the clusters cost.

    Raises:
        ValueError: The difference is zero.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower

    if difference == 0:
        raise ValueError("a difference of zero cannot be found")
    test = TTestPower() if paired else TTestIndPower()
    size, most = abs(difference) / sd, 4
    while test.power(size, most, alpha) < power:
        most *= 2
    n_items = 2 + bisect_left(range(2, most), power, key=lambda n: test.power(size, n, alpha))
    return math.ceil(design_effect * n_items)


def _angle(rate: float) -> float:
    """A rate on the scale on which Cohen's h is a difference."""
    return 2 * math.asin(math.sqrt(rate))


def _quantiles(power: float, alpha: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - alpha / 2)) + float(norm.ppf(power))
