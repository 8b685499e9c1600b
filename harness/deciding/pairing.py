"""Two sides on one metric: item values paired by content key, what has no partner, and the difference.

Reads loaded runs, computes and writes nothing else. Seeds are paired where both sides have the same ones, or one each;
otherwise each side's seeds are a level of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.deciding.sides import Side
from harness.errors import UserError
from harness.scores import Comparison, MetricInfo
from harness.stages.gather import ITEM_MEANS, Item, answers, item_values
from harness.stages.loading import unknown_metric
from harness.stats.classification import Answers
from harness.stats.paired import Differences, pair_by_key, paired_over_seeds
from harness.stats.paired_measures import measure_difference_of_seeds, measure_difference_over_seeds

Alternative = Literal["two-sided", "greater"]
Values = dict[int, dict[str, float]]
"""Training seed → content key → value."""


class Unmatched(NamedTuple):
    """Items without a partner.

    Attributes:
        only_first: Keys that the first side alone planned, in its order.
        only_second: Keys that the second side alone planned.
        lost_first: Seed of the first side → keys that both planned and that the first side has no value of.
        lost_second: Seed of the second side → the same of the second.
    """

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    lost_first: Mapping[int, tuple[str, ...]]
    lost_second: Mapping[int, tuple[str, ...]]

    @property
    def n_lost(self) -> tuple[int, int]:
        """Items that the first and the second side lost, over their seeds."""
        first, second = (sum(map(len, lost.values())) for lost in (self.lost_first, self.lost_second))
        return first, second


class Pairs(NamedTuple):
    """One metric of two sides, item by item.

    Attributes:
        metric: The metric, as the first side has it.
        seeds: Pairs of training seeds (first side's, second side's); empty where the sides' seeds do not correspond.
        per_seed: First minus second of each of ``seeds``, in metric's unit; of a measure that is no mean over items,
            the differences of being right (1) and not (0).
        first: Values of the first side, scored items only.
        second: Values of the second side.
        unmatched: Items without a partner.
        clusters: Content key → cluster, of the items that both planned.
        measured: Training seed → what each side said, on the items that both planned in one order; for balanced
            accuracy, F1 and AUC alone.
    """

    metric: MetricInfo
    seeds: list[tuple[int, int]]
    per_seed: list[Differences]
    first: Values
    second: Values
    unmatched: Unmatched
    clusters: dict[str, str | None]
    measured: tuple[dict[int, Answers], dict[int, Answers]] = ({}, {})


def paired_values(first: Side, second: Side, metric_name: str) -> Pairs:
    """Pairs a metric of two sides.

    Args:
        first: The side whose values count positive.
        second: The side that is subtracted.
        metric_name: Name of a metric that both have.

    Raises:
        UserError: One of the sides does not have the metric, or it is another quantity there.
    """
    metric = _metric(first, second, metric_name)
    ours, theirs = planned(first, metric), planned(second, metric)
    shared = [key for key in ours if key in theirs]
    values = [
        {seed: item_values(metric, side.items(metric.task, seed)) for seed in side.seeds} for side in (first, second)
    ]
    seeds = corresponding(first.seeds, second.seeds)
    clusters = {key: ours[key].sample.cluster for key in shared}
    per_seed = [_differences(values[0][one], values[1][two], clusters) for one, two in seeds]
    unmatched = Unmatched(
        tuple(key for key in ours if key not in theirs),
        tuple(key for key in theirs if key not in ours),
        *({seed: tuple(key for key in shared if key not in each[seed]) for seed in each} for each in values),
    )
    measured: tuple[dict[int, Answers], dict[int, Answers]] = ({}, {})
    if metric.kind not in ITEM_MEANS:
        measured = _said(first, metric, shared), _said(second, metric, shared)
    return Pairs(metric, seeds, per_seed, values[0], values[1], unmatched, clusters, measured)


def planned(side: Side, metric: MetricInfo) -> dict[str, Item]:
    """Content key → item of one seed, for every item that the metric could sum up, in the run's order."""
    items = (item for seed in side.seeds for item in side.items(metric.task, seed))
    counts = metric.kind != "recall"
    return {item.sample.key: item for item in items if counts or item.sample.target == metric.rate_label}


def corresponding(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of training seeds: equal ones where both sides have the same, or the only one of each; else none."""
    if set(first) == set(second):
        return [(seed, seed) for seed in first]
    return [(first[0], second[0])] if len(first) == len(second) == 1 else []


def difference(pairs: Pairs, *, alternative: Alternative = "two-sided") -> Comparison:
    """First minus second with its interval and p value, over all seeds and prompts, which both count as drawn.

    Seeds that do not correspond are drawn on each side alone; the p value is two-sided there.
    """
    low, high = pairs.metric.bounds
    unplanned = (len(pairs.unmatched.only_first) + len(pairs.unmatched.only_second)) * max(1, len(pairs.seeds))
    if pairs.metric.kind not in ITEM_MEANS:
        found = _measure_difference(pairs, alternative)
        return found.model_copy(update={"n_unpaired": found.n_unpaired + unplanned})
    if not pairs.seeds:
        return _unpaired_seeds(pairs, unplanned)
    found = paired_over_seeds(
        pairs.per_seed, binary=pairs.metric.kind != "score", alternative=alternative, span=high - low
    )
    return found.model_copy(update={"n_unpaired": found.n_unpaired + unplanned})


def _metric(first: Side, second: Side, name: str) -> MetricInfo:
    one, two = (_metric_of(side, name) for side in (first, second))
    for what in ("task", "kind", "rate_label", "bounds", "higher_is_better"):
        if getattr(one, what) != getattr(two, what):
            raise UserError(
                f"metric '{name}' is not one quantity: its {what} is {getattr(one, what)} in {first.label} and "
                f"{getattr(two, what)} in {second.label}"
            )
    return one


def _metric_of(side: Side, name: str) -> MetricInfo:
    found = side.loaded.metric(name)
    if found is None:
        raise UserError(f"{side.label}: {unknown_metric(name, [one.name for one in side.loaded.metrics])}")
    return found


def _differences(
    first: Mapping[str, float], second: Mapping[str, float], clusters: Mapping[str, str | None]
) -> Differences:
    """Over the items that both planned; those that one side did not plan are counted apart."""
    one, two = ({key: each[key] for key in clusters if key in each} for each in (first, second))
    return pair_by_key(one, two, clusters)


def _said(side: Side, metric: MetricInfo, shared: Sequence[str]) -> dict[int, Answers]:
    found = {}
    for seed in side.seeds:
        items = {item.sample.key: item for item in side.items(metric.task, seed)}
        found[seed] = answers(metric, [items[key] for key in shared])
    return found


def _unpaired_seeds(pairs: Pairs, unplanned: int) -> Comparison:
    from harness.stats.bootstrap import hierarchical_difference

    low, high = pairs.metric.bounds
    keys = list(pairs.clusters)
    first, second = (
        {seed: np.array([values.get(key, np.nan) for key in keys]) for seed, values in side.items()}
        for side in (pairs.first, pairs.second)
    )
    found = hierarchical_difference(first, second, list(pairs.clusters.values()), paired_seeds=False, span=high - low)
    return found.model_copy(update={"n_unpaired": found.n_unpaired + unplanned})


def _measure_difference(pairs: Pairs, alternative: Alternative) -> Comparison:
    kind = pairs.metric.kind
    assert kind in ("balanced_accuracy", "f1", "auc")
    first, second = pairs.measured
    if pairs.seeds:
        per_seed = [(first[one], second[two]) for one, two in pairs.seeds]
        return measure_difference_over_seeds(kind, per_seed, alternative=alternative)
    return measure_difference_of_seeds(kind, list(first.values()), list(second.values()))
