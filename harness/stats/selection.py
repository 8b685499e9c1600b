"""Choosing the best of several candidates honestly: pick on dev items, report on test items, name the ties.

Reads one array of item values a candidate, all over the same items in the same order, NaN where lost. Candidates are
tied where a paired test, Holm-adjusted over all that were made, does not tell them apart at 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.scores import Estimate
from harness.stats import intervals
from harness.stats.core import Clusters, FloatArray, as_floats
from harness.stats.paired import holm, paired_difference

ALPHA = 0.05


class Items(NamedTuple):
    """Values of all candidates on the same items.

    Attributes:
        values: Candidate → its item values, shape ``(n,)``, NaN where lost.
        clusters: Cluster of each item, length ``n``.
    """

    values: Mapping[str, ArrayLike]
    clusters: Clusters | None = None


class Selected(NamedTuple):
    """The candidate that was best on the dev items.

    Attributes:
        name: The candidate.
        dev: Its value there, which is too good because it was picked for it.
        test: Its value on the test items, which were not looked at.
        tied: Candidates that the dev items do not tell from it, itself among them, best first.
    """

    name: str
    dev: Estimate
    test: Estimate
    tied: list[str]


def select(
    dev: Items, test: Items, *, binary: bool, bounds: tuple[float, float] = (0.0, 1.0), higher_is_better: bool = True
) -> Selected:
    """Picks the best candidate on the dev items and reports it on the test items.

    Args:
        dev: Values to choose by.
        test: Values to report, of other items.
        binary: The values are 0 and 1.
        bounds: Smallest and largest possible value.
        higher_is_better: Which candidate is best.

    Raises:
        ValueError: No candidate has a dev value, or the chosen one has no test items.
    """
    tied = tied_with_best(dev.values, dev.clusters, binary=binary, higher_is_better=higher_is_better)
    if not tied:
        raise ValueError("no candidate has a value on the dev items")
    name = ranked(dev.values, higher_is_better)[0]
    if name not in test.values:
        raise ValueError(f"{name} is best on the dev items and has no test items")
    found = [_estimate(items, name, binary, bounds, higher_is_better) for items in (dev, test)]
    return Selected(name, found[0], found[1], tied)


def ranked(per_candidate: Mapping[str, ArrayLike], higher_is_better: bool = True) -> list[str]:
    """Candidates with a value, best mean first; equal ones in the order given."""
    means = {name: float(np.nanmean(values)) for name, values in _known(per_candidate).items()}
    return sorted(means, key=lambda name: -means[name] if higher_is_better else means[name])


def tied_with_best(
    per_candidate: Mapping[str, ArrayLike],
    clusters: Clusters | None = None,
    *,
    binary: bool,
    higher_is_better: bool = True,
) -> list[str]:
    """The best candidate and all that a paired test (Holm over the candidates) does not tell from it, best first.

    Args:
        per_candidate: Candidate → item values, shape ``(n,)``, NaN where lost; one without any value drops out.
        clusters: Cluster of each item, length ``n``.
        binary: The values are 0 and 1.
        higher_is_better: Which candidate is best.
    """
    order = ranked(per_candidate, higher_is_better)
    if not order:
        return []
    best, *others = order
    told_apart = _told_apart(per_candidate, [(best, other) for other in others], clusters, binary)
    return [best] + [other for other in others if (best, other) not in told_apart]


def tied_sets(
    per_candidate: Mapping[str, ArrayLike],
    clusters: Clusters | None = None,
    *,
    binary: bool,
    higher_is_better: bool = True,
) -> list[list[str]]:
    """The largest groups whose members cannot be told apart from one another (Holm over all pairs), best first.

    A candidate may be in several groups: a can be tied with b and b with c although a and c differ. One that differs
    from all others is a group of its own. Takes what `tied_with_best` takes.
    """
    order = ranked(per_candidate, higher_is_better)
    told_apart = _told_apart(per_candidate, list(combinations(order, 2)), clusters, binary)
    tied = {name: {other for other in order if not {(name, other), (other, name)} & told_apart} for name in order}
    groups = [sorted(group, key=order.index) for group in _cliques(set(), set(order), set(), tied)]
    return sorted(groups, key=lambda group: [order.index(name) for name in group])


def _told_apart(
    per_candidate: Mapping[str, ArrayLike], pairs: Sequence[tuple[str, str]], clusters: Clusters | None, binary: bool
) -> set[tuple[str, str]]:
    found = [paired_difference(per_candidate[a], per_candidate[b], clusters, binary=binary) for a, b in pairs]
    adjusted = holm([comparison.p_value for comparison in found])
    return {pair for pair, p_value in zip(pairs, adjusted, strict=True) if p_value is not None and p_value <= ALPHA}


def _cliques(chosen: set[str], open_: set[str], done: set[str], tied: Mapping[str, set[str]]) -> list[set[str]]:
    """Largest sets of candidates that are all tied with one another (Bron and Kerbosch 1973)."""
    if not open_:
        return [] if done or not chosen else [chosen]
    found = []
    for name in sorted(open_):
        near = tied[name] - {name}
        found += _cliques(chosen | {name}, open_ & near, done & near, tied)
        open_, done = open_ - {name}, done | {name}
    return found


def _known(per_candidate: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    arrays = {name: as_floats(values) for name, values in per_candidate.items()}
    return {name: values for name, values in arrays.items() if not np.isnan(values).all()}


def _estimate(items: Items, name: str, binary: bool, bounds: tuple[float, float], higher_is_better: bool) -> Estimate:
    values = as_floats(items.values[name])
    scored = ~np.isnan(values)
    clusters = None if items.clusters is None else [items.clusters[int(i)] for i in np.flatnonzero(scored)]
    if binary:
        return intervals.rate(values[scored], values.size, clusters, higher_is_better=higher_is_better)
    return intervals.mean(values[scored], values.size, bounds, clusters, higher_is_better=higher_is_better)
