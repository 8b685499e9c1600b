"""Paired differences of measures that are no mean over items: balanced accuracy, F1 and AUC.

Both sides are resampled with the same clusters, so what they share cancels. With two training seeds or more the seeds
are the unit. Accuracy and recall are means over items; for these use `harness.stats.paired`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.scores import Comparison, Estimate
from harness.stats.classification import Answers, Resampled, draws, measure, point, restrict
from harness.stats.core import Interval
from harness.stats.paired import Alternative, compare_seeds
from harness.stats.resample import bootstrap_p, percentile


def measure_difference(
    kind: Resampled, first: Answers, second: Answers, *, alternative: Alternative = "two-sided", seed: int = 0
) -> Comparison:
    """First minus second on the items that neither side lost, of one training seed.

    Args:
        kind: Which measure.
        first: What the first side said.
        second: What the second side said about the same items in the same order.
        alternative: ``greater`` tests whether the first side is higher.
        seed: Seed of the resampling.

    Raises:
        ValueError: The two sides do not have the same items.
    """
    one, two, n_unpaired = _both(kind, first, second)
    found_first, found_second = measure(kind, one, seed=seed), measure(kind, two, seed=seed)
    if found_first.value is None or found_second.value is None:
        return Comparison(difference=None, alternative=alternative, n_pairs=len(one.targets), n_unpaired=n_unpaired)
    resampled = draws(kind, one, seed) - draws(kind, two, seed)
    interval = percentile(resampled, "bootstrap") or _mover(found_first, found_second)
    return Comparison(
        difference=found_first.value - found_second.value,
        low=interval.low,
        high=interval.high,
        p_value=bootstrap_p(resampled, alternative),
        test="paired bootstrap by cluster" if first.clusters is not None else "paired bootstrap",
        alternative=alternative,
        n_pairs=len(one.targets),
        n_unpaired=n_unpaired,
    )


def _both(kind: Resampled, first: Answers, second: Answers) -> tuple[Answers, Answers, int]:
    """The two sides on the items that neither lost, and how many only one has."""
    if list(first.targets) != list(second.targets):
        raise ValueError("a paired difference needs the same items in the same order on both sides")
    lost_first, lost_second = _lost(first, kind), _lost(second, kind)
    both = [int(i) for i in np.flatnonzero(~lost_first & ~lost_second)]
    return restrict(first, both), restrict(second, both), int((lost_first ^ lost_second).sum())


def measure_difference_over_seeds(
    kind: Resampled,
    per_seed: Sequence[tuple[Answers, Answers]],
    *,
    alternative: Alternative = "two-sided",
    seed: int = 0,
) -> Comparison:
    """First minus second over training seeds: a t test on the seeds' differences; with one seed, its own comparison.

    Where all seeds show exactly the same difference the interval and the p value are the means of the seeds' own.
    """
    pairs = [_both(kind, *pair) for pair in per_seed]
    values = [(point(kind, one), point(kind, two), len(one.targets)) for one, two, _ in pairs]
    known = [(one - two, n_pairs) for one, two, n_pairs in values if one is not None and two is not None]
    joint = compare_seeds(
        [difference for difference, _ in known],
        sum(n_pairs for _, n_pairs in known),
        sum(n_unpaired for _, _, n_unpaired in pairs),
        alternative=alternative,
    )
    if joint.low is not None or not known:
        return joint
    each = [measure_difference(kind, *pair, alternative=alternative, seed=seed) for pair in per_seed]
    found = [one for one in each if one.difference is not None]
    if len(found) == 1:
        return found[0]
    means = {name: _mean([getattr(one, name) for one in found]) for name in ("low", "high", "p_value")}
    return joint.model_copy(update={**means, "test": f"{found[0].test}, {len(found)} equal seeds"})


def _lost(items: Answers, kind: Resampled) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    values = items.margins if kind == "auc" and items.margins is not None else items.answers
    return np.array([value is None for value in values], dtype=bool)


def _mover(first: Estimate, second: Estimate) -> Interval:
    """Interval of a difference from the two sides' own, taken as independent: too wide rather than of zero width."""
    ends = (first.value, first.low, first.high, second.value, second.low, second.high)
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return Interval(None, None, "none")
    one, one_low, one_high, two, two_low, two_high = known
    down = ((one - one_low) ** 2 + (two_high - two) ** 2) ** 0.5
    up = ((one_high - one) ** 2 + (two - two_low) ** 2) ** 0.5
    return Interval(max(-1.0, one - two - down), min(1.0, one - two + up), "mover")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
