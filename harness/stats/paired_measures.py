"""Differences of measures that are no mean over items: balanced accuracy, F1 and AUC.

Both sides are about the same items, so what they share cancels. With two training seeds or more the seeds count as
drawn too (`harness.stats.measure_levels`). The p value is the one that belongs to the interval. Accuracy and recall are
means over items; for these use `harness.stats.paired`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.scores import Comparison
from harness.stats.classification import Answers, Joint
from harness.stats.levels import measure_law
from harness.stats.measure_levels import difference_over_seeds, is_defined, n_known, without
from harness.stats.paired import Alternative, by_law
from harness.stats.two_way import TwoWay


def measure_difference(
    kind: Joint, first: Answers, second: Answers, *, alternative: Alternative = "two-sided"
) -> Comparison:
    """First minus second on the items that neither side lost, of one training seed; see the next."""
    return measure_difference_over_seeds(kind, [(first, second)], alternative=alternative)


def measure_difference_over_seeds(
    kind: Joint, per_seed: Sequence[tuple[Answers, Answers]], *, alternative: Alternative = "two-sided"
) -> Comparison:
    """First minus second over training seeds and prompts, both drawn; with one seed, over prompts.

    Where all seeds answered the same they count as one.

    Args:
        kind: Which measure.
        per_seed: Both sides in each seed, on the same items in the same order everywhere.
        alternative: ``greater`` tests whether the first side is higher.

    Raises:
        ValueError: The two sides do not have the same items.
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
    equal = len(defined) > 1 and all(pair == defined[0] for pair in defined[1:])
    first, second = zip(*(defined[:1] if equal else defined), strict=True)
    told = _told(plain, difference_over_seeds(kind, first, second, paired_seeds=True))
    return told.model_copy(update={"test": f"{told.test}, {len(defined)} equal seeds"}) if equal else told


def measure_difference_of_seeds(kind: Joint, first: Sequence[Answers], second: Sequence[Answers]) -> Comparison:
    """First minus second over seeds that do not correspond, each side's own, and prompts, which are the same.

    Args:
        kind: Which measure.
        first: The first side in each of its seeds.
        second: The second side in each of its own, on the same items in the same order.
    """
    sides = [[one for one in side if is_defined(kind, one)] for side in (first, second)]
    n_pairs = min((sum(n_known(kind, one) for one in side) for side in sides), default=0)
    plain = Comparison(difference=None, n_pairs=n_pairs, n_seeds=min(map(len, sides)))
    return _told(plain, difference_over_seeds(kind, *sides, paired_seeds=False)) if all(sides) else plain


def _told(plain: Comparison, found: TwoWay) -> Comparison:
    plain = plain.model_copy(update={"difference": found.value})
    if found.halves is None:
        return plain.model_copy(update={"test": "none: one cluster of all, or of a class"})
    return by_law(plain, measure_law(found))


def _both_known(kind: Joint, first: Answers, second: Answers) -> tuple[Answers, Answers]:
    """Both sides with the items lost that either lost; all items stay, in order."""
    if list(first.targets) != list(second.targets):
        raise ValueError("a paired difference needs the same items in the same order on both sides")
    lost = _lost(first, kind) | _lost(second, kind)
    return without(first, lost), without(second, lost)


def _n_unpaired(kind: Joint, first: Answers, second: Answers) -> int:
    return int((_lost(first, kind) ^ _lost(second, kind)).sum())


def _lost(items: Answers, kind: Joint) -> NDArray[np.bool_]:
    values = items.margins if kind == "auc" and items.margins is not None else items.answers
    return np.array([value is None for value in values], dtype=bool)
