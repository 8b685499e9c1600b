"""Compare two sides or more on every metric that they share: paired differences, flipped items, tied sets.

Reads loaded runs, gives a `Compared` record and writes nothing. Every two sides are paired by content key; p values are
adjusted over the whole table (Holm, and Benjamini and Hochberg). Sides are tied on a metric when no test, Holm-adjusted
over that metric's pairs, tells them apart. Mismatched judges, prompts, decoding or tasks are refused unless allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from harness.deciding.flips import Flip, flips
from harness.deciding.mismatch import allowed, mismatches, remarks, seed_remarks
from harness.deciding.pairing import Pairs, corresponding, difference, paired_values
from harness.deciding.sides import Side, shared_metrics, without_version
from harness.errors import UserError
from harness.records import Record
from harness.scores import Comparison, Estimate, MetricInfo, ScoreRow
from harness.stages.loading import unknown_metric
from harness.stages.score import Cells, estimate_over_seeds
from harness.stats.core import FLAT, FloatArray
from harness.stats.family import as_family
from harness.stats.selection import ALPHA as ALPHA
from harness.stats.selection import tied_sets, told_apart

Outcome = Literal["better", "worse", "higher", "lower", "no difference", "not measured"]


class SideInfo(Record):
    """A side: its label, the run's folder, its subject there and its training seeds."""

    label: str
    run: str
    subject: str
    seeds: tuple[int, ...]


class DifferenceRow(Record):
    """One metric of two sides.

    Attributes:
        metric: Name of the metric.
        first: Label of the side that counts positive.
        second: Label of the side that is subtracted.
        comparison: First minus second; Holm and Benjamini–Hochberg over all rows.
        outcome: What the interval says of the first side: ``better`` or ``worse`` where the metric has a direction.
        wins: Items on which the first side is better (higher, without a direction); ``None`` of the AUC, which
            belongs to no item. Over all seeds, or the seeds' means where seeds do not correspond.
        losses: Items on which it is worse.
        ties: Items on which both are alike.
        n_flips: Items that the two sides do not have the same value of.
    """

    metric: str
    first: str
    second: str
    comparison: Comparison
    outcome: Outcome
    wins: int | None = None
    losses: int | None = None
    ties: int | None = None
    n_flips: int = 0

    @property
    def holds(self) -> bool:
        """Whether a difference stands after Holm's correction."""
        return self.comparison.holds


class TiedSets(Record):
    """The largest groups of sides that one metric does not tell apart, best first; a side may be in several."""

    metric: str
    sets: tuple[tuple[str, ...], ...]


class UnmatchedItems(Record):
    """Items of one metric without a partner: keys that one side alone planned, and keys that one side lost, by seed."""

    metric: str
    first: str
    second: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    lost_first: dict[int, tuple[str, ...]]
    lost_second: dict[int, tuple[str, ...]]


class Compared(Record):
    """Everything that a comparison says.

    Attributes:
        sides: What was compared, in the order given.
        metrics: On what.
        estimates: Each side by itself, over its seeds; ``subject`` is the side's label.
        rows: Every two sides on every metric.
        tied: Of three sides or more, by metric.
        unmatched: Where items have no partner.
        flips: The flipped items of each row, those of the largest difference first.
        caveats: Mismatches that were allowed.
        remarks: What a reader has to know besides.
    """

    sides: tuple[SideInfo, ...]
    metrics: tuple[MetricInfo, ...]
    estimates: tuple[ScoreRow, ...]
    rows: tuple[DifferenceRow, ...]
    tied: tuple[TiedSets, ...] = ()
    unmatched: tuple[UnmatchedItems, ...] = ()
    flips: tuple[Flip, ...] = ()
    caveats: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def estimate(self, label: str, metric: str) -> Estimate:
        """One side by itself."""
        return next(row.estimate for row in self.estimates if (row.subject, row.metric) == (label, metric))

    def flips_of(self, row: DifferenceRow) -> list[Flip]:
        """The flipped items of a row."""
        place = (row.metric, row.first, row.second)
        return [flip for flip in self.flips if (flip.metric, flip.first.label, flip.second.label) == place]


class _Pair(NamedTuple):
    """One metric of two sides, before the p values are adjusted."""

    sides: tuple[Side, Side]
    pairs: Pairs
    comparison: Comparison


def compare(sides: Sequence[Side], metric_names: Sequence[str] = (), allow: Sequence[str] = ()) -> Compared:
    """Compares every two of the sides.

    Args:
        sides: Two or more.
        metric_names: The metrics; all that the sides share if none is given.
        allow: Kinds of mismatch that are told instead of refused: ``judge``, ``prompt``, ``decoding``, ``task``.

    Raises:
        UserError: Fewer than two sides, one that has answered nothing, no such metric, or a mismatch not allowed.
    """
    if len(sides) < 2:
        raise UserError("a comparison needs two sides: harness compare runs/a runs/b, or runs/a:sft runs/a:vanilla")
    for side in sides:
        if not _begun(side):
            raise UserError(f"{side.label}: nothing has been answered yet; harness run goes on where it is")
    metrics = chosen_metrics(sides, metric_names)
    couples = list(combinations(sides, 2))
    against = [one for pair in couples for metric in metrics for one in mismatches(*pair, metric)]
    caveats = allowed(against, allow)
    if any(one.kind == "task" for one in against):
        sides = [without_version(side) for side in sides]
        couples = list(combinations(sides, 2))
    found = [_pair(couple, metric) for metric in metrics for couple in couples]
    estimates = list(_estimates(sides, metrics))
    return Compared(
        sides=tuple(side_info(side) for side in sides),
        metrics=tuple(metrics),
        estimates=tuple(estimates),
        rows=_rows(found),
        tied=tuple(_tied(metric, found, estimates) for metric in metrics) if len(sides) > 2 else (),
        unmatched=tuple(one for pair in found if (one := _unmatched(pair)) is not None),
        flips=tuple(flip for pair in found for flip in flips(*pair.sides, pair.pairs)),
        caveats=tuple(caveats),
        remarks=tuple(_remarks(couples, metrics)),
    )


def _begun(side: Side) -> bool:
    """Whether any model was ever asked as this subject."""
    own = [items for (subject, _, _), items in side.loaded.items.items() if subject == side.subject]
    asked = any(subject == side.subject for subject, _, _ in side.loaded.cells)
    return asked or any(item.completion is not None for items in own for item in items)


def chosen_metrics(sides: Sequence[Side], names: Sequence[str]) -> list[MetricInfo]:
    """The metrics that are named, or all that the sides share.

    Raises:
        UserError: A side does not have one, or they share none.
    """
    shared = {metric.name: metric for metric in shared_metrics(sides)}
    for name in names:
        if name not in shared:
            lacking = next((side for side in sides if side.loaded.metric(name) is None), sides[0])
            raise UserError(f"{lacking.label}: {unknown_metric(name, shared)}")
    if not shared:
        raise UserError(f"{', '.join(side.label for side in sides)} have no metric in common: their tasks differ")
    return [shared[name] for name in dict.fromkeys(names)] or list(shared.values())


def side_info(side: Side) -> SideInfo:
    """A side as outputs tell it."""
    return SideInfo(label=side.label, run=side.loaded.run.path.name, subject=side.subject, seeds=side.seeds)


def outcome(comparison: Comparison, higher_is_better: bool | None) -> Outcome:
    """What the interval says of the first side, in the direction of the metric."""
    found = comparison.decision
    if higher_is_better is None or found not in ("higher", "lower"):
        return found
    return "better" if (found == "higher") == higher_is_better else "worse"


def over_seeds(side: Side, metric: MetricInfo, cells: Cells | None = None) -> Estimate:
    """A side's own estimate of a metric, over its seeds."""
    return estimate_over_seeds(metric, side.subject, side.seeds, cells or Cells(side.loaded.items))


def _pair(couple: tuple[Side, Side], metric: MetricInfo) -> _Pair:
    pairs = paired_values(*couple, metric.name)
    return _Pair(couple, pairs, difference(pairs))


def _estimates(sides: Sequence[Side], metrics: Sequence[MetricInfo]) -> Iterator[ScoreRow]:
    for side in sides:
        cells = Cells(side.loaded.items)
        for metric in metrics:
            found = over_seeds(side, metric, cells)
            yield ScoreRow(subject=side.label, metric=metric.name, seed=None, estimate=found)


def _rows(found: Sequence[_Pair]) -> tuple[DifferenceRow, ...]:
    adjusted = as_family([one.comparison for one in found])
    return tuple(_row(one, comparison) for one, comparison in zip(found, adjusted, strict=True))


def _row(one: _Pair, comparison: Comparison) -> DifferenceRow:
    metric = one.pairs.metric
    sign = -1.0 if metric.higher_is_better is False else 1.0
    items = sign * _item_differences(one.pairs)
    n_wins, n_losses = int((items > FLAT).sum()), int((items < -FLAT).sum())
    counted = metric.kind != "auc"
    return DifferenceRow(
        metric=metric.name,
        first=one.sides[0].label,
        second=one.sides[1].label,
        comparison=comparison,
        outcome=outcome(comparison, metric.higher_is_better),
        wins=n_wins if counted else None,
        losses=n_losses if counted else None,
        ties=items.size - n_wins - n_losses if counted else None,
        n_flips=n_wins + n_losses if counted and one.pairs.seeds else 0,
    )


def _item_differences(pairs: Pairs) -> FloatArray:
    """First minus second of every pair; where seeds do not correspond, of the means over each side's seeds."""
    if pairs.seeds:
        return np.concatenate([each.values for each in pairs.per_seed])
    first, second = (_means(values) for values in (pairs.first, pairs.second))
    return np.array([first[key] - second[key] for key in first if key in second])


def _means(values: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for each in values.values():
        for key, value in each.items():
            found.setdefault(key, []).append(value)
    return {key: sum(each) / len(each) for key, each in found.items()}


def _tied(metric: MetricInfo, found: Sequence[_Pair], estimates: Sequence[ScoreRow]) -> TiedSets:
    own = [one for one in found if one.pairs.metric.name == metric.name]
    apart = told_apart({frozenset(side.label for side in one.sides): one.comparison.p_value for one in own}).apart
    values = [(row.subject, row.estimate.value) for row in estimates if row.metric == metric.name]
    known = [(label, value) for label, value in values if value is not None]
    order = sorted(known, key=lambda one: one[1], reverse=metric.higher_is_better is not False)
    groups = tied_sets([label for label, _ in order], apart)
    return TiedSets(metric=metric.name, sets=tuple(tuple(group) for group in groups))


def _unmatched(one: _Pair) -> UnmatchedItems | None:
    missing = one.pairs.unmatched
    if not (missing.only_first or missing.only_second or any(missing.n_lost)):
        return None
    return UnmatchedItems(
        metric=one.pairs.metric.name,
        first=one.sides[0].label,
        second=one.sides[1].label,
        only_first=missing.only_first,
        only_second=missing.only_second,
        lost_first={seed: keys for seed, keys in missing.lost_first.items() if keys},
        lost_second={seed: keys for seed, keys in missing.lost_second.items() if keys},
    )


def _remarks(couples: Sequence[tuple[Side, Side]], metrics: Sequence[MetricInfo]) -> list[str]:
    tasks = list(dict.fromkeys(metric.task for metric in metrics))
    told = [line for pair in couples for line in (*remarks(*pair, tasks), *seed_remarks(*pair))]
    if any(not corresponding(first.seeds, second.seeds) for first, second in couples):
        told.append("no flipped items are listed of sides whose seeds are not paired")
    return list(dict.fromkeys(told))
