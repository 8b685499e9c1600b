"""Two measures of the same models together: how their errors hang together, and who is off the Pareto front.

A model is shown to be off the front where some other is better in both measures and paired tests say so in both at once
(the larger p value counts: an intersection-union test), Holm-adjusted over all pairs that were tested. One that lies
below the front without such a test is open: neither on it nor shown to be off.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.scores import ALPHA
from harness.stats.core import FLAT, FloatArray, IntArray
from harness.stats.levels import t_law
from harness.stats.paired import holm
from harness.stats.two_way import Table, TwoWay, two_way

Standing = Literal["front", "open", "off"]
Point = tuple[float, float]
FEWEST_SEEDS = 3
"""Fewer show no correlation: two points always lie on a line."""


class Values(NamedTuple):
    """Item values of one measure in one seed, shape ``(n,)``, and the unit of each (a cluster, a prompt)."""

    values: FloatArray
    units: Sequence[Hashable]


class Correlation(NamedTuple):
    """Of the errors of two means; ``None`` where one of them shows no spread.

    Attributes:
        value: -1 to 1.
        level: ``seeds`` or ``units``.
        n: Seeds, or units that have items of both measures.
    """

    value: float | None
    level: Literal["seeds", "units"]
    n: int


def correlation(first: Sequence[Values], second: Sequence[Values]) -> Correlation:
    """How the errors of two means over the same seeds hang together.

    With three seeds or more that of the seed means; with fewer that of the units' influence on the means, which is zero
    where the two measures share no units.

    Args:
        first: One measure, an entry a seed.
        second: The other, the same seeds.
    """
    pairs = [(one, two) for one, two in zip(first, second, strict=True) if one.values.size and two.values.size]
    if len(pairs) >= FEWEST_SEEDS:
        means = np.array([(one.values.mean(), two.values.mean()) for one, two in pairs])
        centred = means - means.mean(axis=0)
        return Correlation(_cosine(centred[:, 0], centred[:, 1]), "seeds", len(pairs))
    codes: dict[Hashable, int] = {}
    for one, two in pairs:
        for unit in (*one.units, *two.units):
            codes.setdefault(unit, len(codes))
    sides = [_influence([pair[side] for pair in pairs], codes) for side in (0, 1)]
    return Correlation(_cosine(*sides), "units", int(((sides[0] != 0) & (sides[1] != 0)).sum()))


def standings(points: Mapping[str, Point], p_value: Callable[[str, str], float]) -> dict[str, Standing]:
    """Where each model stands to the front.

    Args:
        points: Model → its two means, turned so that more is better.
        p_value: Of the test that the first model is better than the second in both measures; asked only where it is so
            in the means.
    """
    tested = [(a, b) for a in points for b in points if points[a][0] > points[b][0] and points[a][1] > points[b][1]]
    adjusted = holm([p_value(a, b) for a, b in tested])
    off = {b for (_, b), p in zip(tested, adjusted, strict=True) if p is not None and p <= ALPHA}
    below = {b for b in points if any(_dominates(points[a], points[b]) for a in points)}
    return {name: "off" if name in off else "open" if name in below else "front" for name in points}


def p_greater(first: FloatArray, second: FloatArray, codes: IntArray) -> float:
    """One-sided p value that the first model is higher on the same items, over seeds and prompts (see `levels`).

    Where all differences are equal they show no spread, and the exact sign-flip test's smallest p value counts.

    Args:
        first: Item values, shape ``(n_seeds, n_items)``, NaN where lost.
        second: The same of the other model.
        codes: Cluster number of each item, shape ``(n_items,)`` (see `harness.stats.core.cluster_codes`).
    """
    found = _paired(first - second, codes)
    if found is None:
        return 1.0
    if found.error <= FLAT:
        return 0.5**found.n_clusters if found.value > 0 else 1.0
    return t_law(found, 1.0, codes.size).p_beyond(0.0, 1.0) if found.n_clusters > 1 else 0.5


def _paired(differences: FloatArray, codes: IntArray) -> TwoWay | None:
    known = ~np.isnan(differences)
    kept = np.flatnonzero(known.any(axis=1))
    if not kept.size:
        return None
    n_clusters = int(codes.max()) + 1
    sums = [np.bincount(codes[known[s]], differences[s][known[s]], n_clusters) for s in kept]
    counts = [np.bincount(codes[known[s]], minlength=n_clusters).astype(np.float64) for s in kept]
    return two_way(Table(np.stack(sums, axis=1), np.stack(counts, axis=1)))


def _dominates(one: Point, other: Point) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


def _influence(seeds: Sequence[Values], codes: Mapping[Hashable, int]) -> FloatArray:
    """What each unit adds to the error of the mean over seeds, shape ``(n_units,)``."""
    total = np.zeros(len(codes))
    for values, units in seeds:
        places = np.array([codes[unit] for unit in units])
        total += np.bincount(places, weights=(values - values.mean()) / values.size, minlength=len(codes))
    return total


def _cosine(first: FloatArray, second: FloatArray) -> float | None:
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return None if length <= FLAT else float(np.clip(first @ second / length, -1.0, 1.0))
