"""The standard error of a mean over training seeds and prompts, two crossed levels.

Reads one table a side: sums and counts of each cluster of prompts (rows) in each seed (columns). A side's value is the
mean of its seed means; the result is the first side less the second, or one side alone (of paired differences). Seeds
and clusters each add their variance, and what is theirs jointly is counted once (Cameron, Gelbach and Miller 2011; for
balanced tables the mean squares of a two-way layout). Few seeds are few: Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from harness.stats.core import FLAT, FloatArray
from harness.stats.paired import Differences


class Table(NamedTuple):
    """Sums and counts of the scored items, each of shape ``(n_clusters, n_seeds)``; a cell may be empty."""

    sums: FloatArray
    counts: FloatArray


class TwoWay(NamedTuple):
    """A value with its standard error.

    Attributes:
        value: The mean of the seed means, or the difference of two such.
        error: Its standard error; infinite where there is one cluster.
        df: Degrees of freedom of the error, at least 1.
        n_clusters: Clusters of prompts behind it.
        n_seeds: Training seeds of the side that has fewer.
    """

    value: float
    error: float
    df: float
    n_clusters: int
    n_seeds: int


class _Side(NamedTuple):
    """One side: its value, the clusters' influence on it ``(n_clusters,)``, and variances of one seed's mean."""

    value: float
    influence: FloatArray
    seed_variance: float
    joint_variance: float
    n_seeds: int


def table_of(per_seed: Sequence[Differences]) -> Table:
    """Paired differences as a table; items that share a cluster share it in all seeds, others by their position.

    Args:
        per_seed: The differences of each seed, at least one of them filled; empty seeds drop out.
    """
    rows: dict[Hashable, int] = {}
    cells = []
    for column, pairs in enumerate([pairs for pairs in per_seed if pairs.values.size]):
        names = pairs.clusters or [None] * pairs.values.size
        for i, (name, value) in enumerate(zip(names, pairs.values, strict=True)):
            key: Hashable = (True, i) if name is None else (False, name)
            cells.append((rows.setdefault(key, len(rows)), column, value))
    found = np.array(cells, dtype=np.float64)
    shape = (len(rows), int(found[:, 1].max()) + 1)
    place = (found[:, 0].astype(np.int64), found[:, 1].astype(np.int64))
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, place, found[:, 2])
    np.add.at(counts, place, 1.0)
    return Table(sums, counts)


def two_way(*tables: Table) -> TwoWay:
    """The value of one side, or of the first less the second, with its standard error.

    Seeds of two sides are independent, prompts are the same. A side with one seed shows no spread over seeds and takes
    the other side's; where neither has any, the prompts alone count and nothing is said about training again.

    Args:
        tables: One or two; two have the same clusters in the same order.
    """
    sides = [_side(table) for table in tables]
    signs = (1.0, -1.0)
    value = sum(sign * side.value for sign, side in zip(signs, sides, strict=False))
    influence = np.sum([sign * side.influence for sign, side in zip(signs, sides, strict=False)], axis=0)
    n_clusters = int(np.any([table.counts.any(axis=1) for table in tables], axis=0).sum())
    n_seeds = min(side.n_seeds for side in sides)
    if n_clusters < 2:
        return TwoWay(value, float("inf"), 1.0, n_clusters, n_seeds)
    prompts = n_clusters / (n_clusters - 1) * float((influence**2).sum())
    variances = _seed_parts(sides)
    alone = max(prompts - sum(joint for _, joint, _ in variances), 0.0)
    parts = [(max(seeds, joint), df) for seeds, joint, df in variances] + [(alone, n_clusters - 1)]
    total, spread = sum(part for part, _ in parts), sum(part**2 / df for part, df in parts)
    df = total**2 / spread if spread > FLAT**4 else float(n_clusters - 1)
    return TwoWay(value, total**0.5, max(1.0, df), n_clusters, n_seeds)


def _side(table: Table) -> _Side:
    filled = table.counts.sum(axis=0) > 0
    sums, counts = table.sums[:, filled], table.counts[:, filled]
    n_clusters, n_seeds = int(counts.any(axis=1).sum()), sums.shape[1]
    means = sums.sum(axis=0) / counts.sum(axis=0)
    cells = (sums - counts * means) / counts.sum(axis=0)
    influence = cells.mean(axis=1)
    if n_seeds < 2:
        return _Side(float(means.mean()), influence, 0.0, 0.0, n_seeds)
    factor = n_seeds / (n_seeds - 1) * n_clusters / max(n_clusters - 1, 1)
    joint = factor * float(((cells - influence[:, None]) ** 2).sum()) / n_seeds
    return _Side(float(means.mean()), influence, float(means.var(ddof=1)), joint, n_seeds)


def _seed_parts(sides: Sequence[_Side]) -> list[tuple[float, float, int]]:
    """Variance of the seeds, what of it is joint with the prompts, and degrees of freedom."""
    several = [side for side in sides if side.n_seeds > 1]
    if len(several) == len(sides):
        return [(one.seed_variance / one.n_seeds, one.joint_variance / one.n_seeds, one.n_seeds - 1) for one in sides]
    share = sum(1 / side.n_seeds for side in sides)
    return [(one.seed_variance * share, one.joint_variance * share, one.n_seeds - 1) for one in several]
