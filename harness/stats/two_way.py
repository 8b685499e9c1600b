"""The standard error of a mean over training seeds and prompts, two crossed levels that are both drawn.

Reads one table a side: sums and counts of each cluster of prompts (rows) in each seed (columns); or, of a measure that
is no mean over items, its value in each seed and the influence of each cluster on it. A side's value is the mean of its
seeds'; the result is the first side less the second, or one side alone (of paired differences). Seeds and clusters each
add their variance, and what is theirs jointly is counted once (Cameron, Gelbach and Miller 2011; for balanced tables
the mean squares of a two-way layout). Few seeds are few: Satterthwaite's degrees of freedom, and beside them the error
that the seeds alone show, because an error that is small by chance has too many (`harness.stats.levels` asks both).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from harness.stats.core import FLAT, Differences, FloatArray


class Table(NamedTuple):
    """Sums and counts of the scored items, each of shape ``(n_clusters, n_seeds)``; a cell may be empty."""

    sums: FloatArray
    counts: FloatArray


class Influences(NamedTuple):
    """A measure in each seed, shape ``(n_seeds,)``, and each cluster's influence on it, ``(n_clusters, n_seeds)``."""

    values: FloatArray
    cells: FloatArray


class TwoWay(NamedTuple):
    """A value with its standard error.

    Attributes:
        value: The mean of the seed means, or the difference of two such.
        error: Its standard error; infinite where there is one cluster.
        df: Degrees of freedom of the error, at least 1 and fewer than there are clusters.
        n_clusters: Clusters of prompts behind it.
        n_seeds: Training seeds of the side that has fewer.
        seed_error: The standard error that the seeds alone show, as if prompts were fixed; zero with one seed.
        seed_df: Its degrees of freedom, at least 1.
        clustered: Several items of a seed share a cluster.
        halves: How far the 95 % interval of a measure that is no mean over items reaches down and up, if the error were
            known exactly.
    """

    value: float
    error: float
    df: float
    n_clusters: int
    n_seeds: int
    seed_error: float = 0.0
    seed_df: float = 1.0
    clustered: bool = False
    halves: tuple[float, float] | None = None

    @property
    def levels(self) -> str:
        """What was drawn, in words."""
        return f"over {self.n_seeds} seeds and {self.units}" if self.n_seeds > 1 else "by cluster"

    @property
    def units(self) -> str:
        """How many prompts were drawn, or clusters of them, in words."""
        return f"{self.n_clusters} {'clusters of prompts' if self.clustered else 'prompts'}"


class _Side(NamedTuple):
    """One side: its value, and the variance of one seed's value, all of it and what is joint with the prompts."""

    value: float
    seed_variance: float
    joint_variance: float
    n_seeds: int


class _Part(NamedTuple):
    """The variance of a side's seeds, what of it is joint with the prompts, and seeds less one."""

    seeds: float
    joint: float
    df: int


def table_of(per_seed: Sequence[Differences]) -> Table:
    """Items as a table; those that share a cluster share it in all seeds, others by their position.

    Args:
        per_seed: The values of each seed, at least one of them filled; empty seeds drop out.
    """
    rows: dict[Hashable, int] = {}
    filled = [items for items in per_seed if items.values.size]
    places = []
    for items in filled:
        names = items.clusters or [None] * items.values.size
        keys = ((True, i) if name is None else (False, name) for i, name in enumerate(names))
        places.append(np.array([rows.setdefault(key, len(rows)) for key in keys], dtype=np.int64))
    pairs = list(zip(places, filled, strict=True))
    sums = [np.bincount(rows_of, items.values, len(rows)) for rows_of, items in pairs]
    counts = [np.bincount(rows_of, minlength=len(rows)).astype(np.float64) for rows_of, _ in pairs]
    return Table(np.stack(sums, axis=1), np.stack(counts, axis=1))


def two_way(*tables: Table) -> TwoWay:
    """The value of one side, or of the first less the second, with its standard error.

    Seeds of two sides are independent, prompts are the same. A side with one seed shows no spread over seeds and takes
    the other side's; where neither has any, the prompts alone count and nothing is said about training again.

    Args:
        tables: One or two; two have the same clusters in the same order.
    """
    found = [_of_table(table) for table in tables]
    n_clusters = int(np.any([table.counts.any(axis=1) for table in tables], axis=0).sum())
    influence = _signed([influence for _, influence in found])
    prompts = n_clusters / max(n_clusters - 1, 1) * float((influence**2).sum())
    clustered = any(bool((table.counts > 1).any()) for table in tables)
    return _combined([side for side, _ in found], prompts, n_clusters)._replace(clustered=clustered)


def two_way_of(sides: Sequence[Influences], n_clusters: int) -> TwoWay:
    """The same of a measure that is no mean over items, by the influence of the clusters.

    Args:
        sides: One or two, with the same clusters in the same order.
        n_clusters: Clusters that have an item; others have no influence.
    """
    prompts = n_clusters / max(n_clusters - 1, 1) * float((_signed([s.cells.mean(axis=1) for s in sides]) ** 2).sum())
    return _combined([_side_of(*side, n_clusters) for side in sides], prompts, n_clusters)


def _signed(of_sides: Sequence[FloatArray]) -> FloatArray:
    return of_sides[0] if len(of_sides) == 1 else of_sides[0] - of_sides[1]


def _combined(sides: Sequence[_Side], prompts: float, n_clusters: int) -> TwoWay:
    """The error from the variance that the prompts give the mean over seeds, and from the variance of the seeds."""
    value = sides[0].value - sum(side.value for side in sides[1:])
    n_seeds = min(side.n_seeds for side in sides)
    if n_clusters < 2:
        return TwoWay(value, float("inf"), 1.0, n_clusters, n_seeds)
    parts = _seed_parts(sides)
    alone = max(prompts - sum(part.joint for part in parts), 0.0)
    terms = [(alone, n_clusters - 1)]
    terms += [(max(one.seeds, one.joint), one.df * (1 if one.seeds > one.joint else n_clusters - 1)) for one in parts]
    seeds = [(part.seeds, part.df) for part in parts]
    error, df = satterthwaite(terms, float(n_clusters - 1))
    return TwoWay(value, error, min(df, n_clusters - 1.0), n_clusters, n_seeds, *satterthwaite(seeds, 1.0))


def satterthwaite(terms: Sequence[tuple[float, float]], flat: float) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of variances.

    Args:
        terms: Each variance with its degrees of freedom.
        flat: Degrees of freedom where there is no variance.
    """
    total, spread = sum(part for part, _ in terms), sum(part**2 / df for part, df in terms)
    return total**0.5, max(1.0, total**2 / spread) if spread > FLAT**4 else flat


def _of_table(table: Table) -> tuple[_Side, FloatArray]:
    """A side, and the influence of each cluster on its value, shape ``(n_clusters,)``."""
    filled = table.counts.sum(axis=0) > 0
    sums, counts = table.sums[:, filled], table.counts[:, filled]
    means = sums.sum(axis=0) / counts.sum(axis=0)
    cells = (sums - counts * means) / counts.sum(axis=0)
    return _side_of(means, cells, int(counts.any(axis=1).sum())), cells.mean(axis=1)


def _side_of(values: FloatArray, cells: FloatArray, n_clusters: int) -> _Side:
    n_seeds = values.size
    if n_seeds < 2:
        return _Side(float(values.mean()), 0.0, 0.0, n_seeds)
    apart = cells - cells.mean(axis=1, keepdims=True)
    joint = n_clusters / max(n_clusters - 1, 1) * float((apart**2).sum()) / (n_seeds - 1)
    return _Side(float(values.mean()), float(values.var(ddof=1)), joint, n_seeds)


def _seed_parts(sides: Sequence[_Side]) -> list[_Part]:
    """One a side with several seeds; it lends its spread to a side with one."""
    several = [side for side in sides if side.n_seeds > 1]
    lent = len(sides) - len(several)
    shares = [1 / side.n_seeds + lent for side in several]
    return [
        _Part(side.seed_variance * share, side.joint_variance * share, side.n_seeds - 1)
        for side, share in zip(several, shares, strict=True)
    ]
