"""Win rates as if both answers were equally long: beside a pairwise judge's metric its length-controlled twin.

Reads preferences and the lengths of both answers, of every subject that was compared. Judges like long answers; the
regression of AlpacaEval 2 takes out what length explains (see `harness.stats.pairwise`). Over several seeds both they
and the prompts count as drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.config import RunConfig
from harness.judging import Panel
from harness.records import JUDGED
from harness.scores import Estimate, MetricInfo, ScoreRow
from harness.stages.gather import CellId, Item, item_values
from harness.stats.core import Differences
from harness.stats.intervals import UNIT, over_seeds
from harness.stats.paired import by_key
from harness.stats.pairwise import length_controlled_win_rate
from harness.stats.two_way import table_of, two_way

SUFFIX = "_length_controlled"


class Controlled(NamedTuple):
    """Further metrics with their estimates."""

    metrics: list[MetricInfo]
    estimates: list[ScoreRow]


class _Fitted(NamedTuple):
    """The win rate of one seed, and what each comparison adds to it."""

    estimate: Estimate
    effects: Differences


def length_controlled(
    config: RunConfig,
    judges: Mapping[str, Panel],
    metrics: Sequence[MetricInfo],
    items: Mapping[CellId, Sequence[Item]],
) -> Controlled:
    """The length-controlled twins of all metrics of pairwise judges.

    Args:
        config: The run's configuration.
        judges: Name → whose verdicts count.
        metrics: What is measured.
        items: (subject, seed, task) → its items.
    """
    found = Controlled([], [])
    for metric in metrics:
        panel = judges.get(metric.judge or "")
        if panel is None or not panel.pairwise or metric.kind != "score" or metric.bounds != UNIT:
            continue
        twin = metric.model_copy(update={"name": metric.name + SUFFIX, "label": f"{metric.label}, length-controlled"})
        rows = [
            ScoreRow(subject=subject.name, metric=twin.name, seed=seed, estimate=one)
            for subject in config.subjects
            for seed, one in _of_subject(metric, subject.name, config.seeds, items)
        ]
        if rows:
            found.metrics.append(twin)
            found.estimates.extend(rows)
    return found


def _of_subject(
    metric: MetricInfo, subject: str, seeds: Sequence[int], items: Mapping[CellId, Sequence[Item]]
) -> list[tuple[int | None, Estimate]]:
    """Each seed's and all seeds'; nothing for the subject that the others are compared with."""
    fitted = [(seed, _fit(metric, items.get((subject, seed, metric.task), ()))) for seed in seeds]
    known = [one for _, one in fitted if one is not None]
    if not known:
        return []
    effects = [one.effects for one in known]
    joint = two_way(table_of(effects)) if any(one.values.size for one in effects) else None
    rows = [
        (seed, _lost(items.get((subject, seed, metric.task), ())) if one is None else one.estimate)
        for seed, one in fitted
    ]
    return [*rows, (None, over_seeds([one for _, one in rows], UNIT, joint))]


def _lost(items: Sequence[Item]) -> Estimate:
    """A seed in which nothing was compared."""
    return Estimate(value=None, n_scored=0, n_total=len(items))


def _fit(metric: MetricInfo, items: Sequence[Item]) -> _Fitted | None:
    if all(item.reference_length is None for item in items):
        return None
    compared = [item for item in items if item.reference_length is not None and _answered(item)]
    values = item_values(metric, compared)
    preferences = [values.get(item.sample.key, float("nan")) for item in compared]
    lengths = [len(item.completion.text) if item.completion else 0 for item in compared]
    others = [item.reference_length or 0 for item in compared]
    names = [item.sample.cluster for item in compared]
    found = length_controlled_win_rate(preferences, lengths, others, clusters=names)
    keys = [item.sample.key for item in compared if item.sample.key in values]
    clusters = {item.sample.key: item.sample.cluster for item in compared}
    effects = by_key(dict(zip(keys, found.effects.tolist(), strict=True)), clusters)
    n_lost = len(items) - len(compared)
    update = {"n_total": found.win_rate.n_total + n_lost, "worst": None, "best": None}
    return _Fitted(found.win_rate.model_copy(update=update), effects)


def _answered(item: Item) -> bool:
    """A failed answer has no length."""
    return item.completion is not None and item.completion.outcome in JUDGED
