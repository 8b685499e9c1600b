"""Differences of measures that are no mean over items: balanced accuracy, F1 and AUC.

Both sides are resampled with the same clusters, so what they share cancels. With two training seeds or more the seeds
count as drawn too (`harness.stats.measure_levels`). Accuracy and recall are means over items; for these use
`harness.stats.paired`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.scores import Comparison, Estimate
from harness.stats.classification import Answers, Resampled, draws, measure, restrict
from harness.stats.core import FLAT, Interval
from harness.stats.levels import t_law
from harness.stats.measure_levels import clusters_of, drawn, is_defined, n_known, over_levels, without
from harness.stats.paired import Alternative, by_law
from harness.stats.resample import bootstrap_p, percentile
from harness.stats.two_way import Drawn


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
    """First minus second over training seeds and prompts, both drawn; with one seed, its own comparison.

    Where all seeds answered the same they count as one.

    Args:
        kind: Which measure.
        per_seed: Both sides in each seed, on the same items in the same order everywhere.
        alternative: ``greater`` tests whether the first side is higher.
        seed: Seed of the resampling.
    """
    pairs = [_both_known(kind, *pair) for pair in per_seed]
    defined = [pair for pair in pairs if all(is_defined(kind, one) for one in pair)]
    plain = Comparison(
        difference=None,
        alternative=alternative,
        n_pairs=sum(n_known(kind, one) for one, _ in defined),
        n_unpaired=sum(_n_unpaired(kind, *pair) for pair in per_seed),
        n_seeds=len(defined),
    )
    if not defined:
        return plain
    if all(pair == defined[0] for pair in defined[1:]):
        found = measure_difference(kind, *defined[0], alternative=alternative, seed=seed)
        counts = {name: getattr(plain, name) for name in ("n_pairs", "n_unpaired", "n_seeds")}
        test = found.test if len(defined) == 1 else f"{found.test}, {len(defined)} equal seeds"
        return found.model_copy(update={**counts, "test": test})
    first, second = drawn(kind, [one for one, _ in defined], seed), drawn(kind, [two for _, two in defined], seed)
    difference = Drawn(first.values - second.values, first.draws - second.draws)
    if np.ptp(difference.draws) <= FLAT:
        each = [measure_difference(kind, *pair, alternative=alternative, seed=seed) for pair in defined]
        return _flat(plain, each)
    return _by_levels(plain, [difference], *clusters_of(kind, defined[0][0]))


def measure_difference_of_seeds(
    kind: Resampled, first: Sequence[Answers], second: Sequence[Answers], *, seed: int = 0
) -> Comparison:
    """First minus second over seeds that do not correspond, each side's own, and prompts, which are the same.

    Args:
        kind: Which measure.
        first: The first side in each of its seeds.
        second: The second side in each of its own, on the same items in the same order.
        seed: Seed of the resampling.
    """
    sides = [[one for one in side if is_defined(kind, one)] for side in (first, second)]
    n_pairs = min((sum(n_known(kind, one) for one in side) for side in sides), default=0)
    plain = Comparison(difference=None, n_pairs=n_pairs, n_seeds=min(map(len, sides)))
    if not all(sides):
        return plain
    return _by_levels(plain, [drawn(kind, side, seed) for side in sides], *clusters_of(kind, sides[0][0]))


def _by_levels(plain: Comparison, sides: Sequence[Drawn], n_clusters: int, clustered: bool) -> Comparison:
    found = over_levels(sides, n_clusters, clustered)
    value = sides[0].values.mean() - sum(side.values.mean() for side in sides[1:])
    plain = plain.model_copy(update={"difference": float(value)})
    if found is None:
        return plain.model_copy(update={"test": "none: most resamples lack a class"})
    law = t_law(found, 1.0, plain.n_pairs) if found.n_clusters > 1 else None
    told = by_law(plain, law)
    return told if law is None else told.model_copy(update={"test": f"bootstrap, {told.test}"})


def _flat(plain: Comparison, each: Sequence[Comparison]) -> Comparison:
    """No resample of any seed differs: the seeds' own intervals, which are wide, on average."""
    ends = {name: [getattr(one, name) for one in each] for name in ("difference", "low", "high", "p_value")}
    means = {name: None if None in values else float(np.mean(values)) for name, values in ends.items()}
    return plain.model_copy(update={**means, "test": f"{each[0].test}, {len(each)} seeds without spread"})


def _both_known(kind: Resampled, first: Answers, second: Answers) -> tuple[Answers, Answers]:
    """Both sides with the items lost that either lost; all items stay, in order."""
    if list(first.targets) != list(second.targets):
        raise ValueError("a paired difference needs the same items in the same order on both sides")
    lost = _lost(first, kind) | _lost(second, kind)
    return without(first, lost), without(second, lost)


def _n_unpaired(kind: Resampled, first: Answers, second: Answers) -> int:
    return int((_lost(first, kind) ^ _lost(second, kind)).sum())


def _lost(items: Answers, kind: Resampled) -> NDArray[np.bool_]:
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
