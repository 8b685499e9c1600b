"""Score a run: verdicts to estimates, paired comparisons and claims.

Reads the sealed samples, the completions and the verdicts; writes ``scores.json`` and the seal of what it was made
from, which can both be deleted and made again. Every number carries its interval, how many items it rests on and how
many were planned. Comparisons are paired by sample within a seed; over several seeds both they and the prompts count as
drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.blocks import ClaimConfig
from harness.config import RunConfig
from harness.errors import UserError, unknown_name
from harness.scores import (
    Claim,
    Comparison,
    ComparisonRow,
    ConfusionRow,
    Decision,
    Estimate,
    MetricInfo,
    PreparationRow,
    ScoreRow,
    Scores,
    SubjectInfo,
)
from harness.stages.corrected import corrected
from harness.stages.gather import ITEM_MEANS as ITEM_MEANS
from harness.stages.gather import CellId, Item, answers, clusters, item_values
from harness.stages.length_control import length_controlled
from harness.stages.loading import LoadedRun, unknown_metric
from harness.stages.plan import trained_subjects
from harness.stages.reliability import judge_rows
from harness.stages.seal import write_seal
from harness.stats import classification, intervals, measure_levels, paired, paired_measures
from harness.stats.bootstrap import bca_mean
from harness.stats.classification import Answers
from harness.stats.family import as_family
from harness.stats.paired import Alternative
from harness.stats.two_way import TwoWay, table_of, two_way
from harness.store import Run, write_atomic


class Cells:
    """The items of every subject, seed and task, with what metrics read from them, computed once."""

    def __init__(self, items: Mapping[CellId, Sequence[Item]]) -> None:
        self._items = items
        self.values = cache(self._values)
        self.answers = cache(self._answers)

    def items(self, metric: MetricInfo, subject: str, seed: int) -> Sequence[Item]:
        """The items that a metric sums up."""
        return self._items[subject, seed, metric.task]

    def _values(self, metric: MetricInfo, subject: str, seed: int) -> dict[str, float]:
        return item_values(metric, self.items(metric, subject, seed))

    def _answers(self, metric: MetricInfo, subject: str, seed: int) -> Answers:
        return answers(metric, self.items(metric, subject, seed))


def score(loaded: LoadedRun, include_paths: Sequence[Path] = ()) -> Scores:
    """Computes and writes a run's scores.

    Args:
        loaded: The run.
        include_paths: Further content folders.
    """
    run, config, metrics = loaded.run, loaded.config, loaded.metrics
    judged = tuple(judge_rows(run, config, loaded.judges, loaded.items))
    cells = Cells(loaded.items)
    preparations = tuple(_preparations(run, config))
    estimates = _estimates(config, metrics, cells)
    twins = corrected(config, loaded.judges, metrics, estimates, include_paths, run)
    controlled = length_controlled(config, loaded.judges, metrics, loaded.items)
    scores = Scores(
        run=config.name,
        subjects=subject_infos(config),
        metrics=(*metrics, *twins.metrics, *controlled.metrics),
        estimates=(*estimates, *twins.estimates, *controlled.estimates),
        comparisons=tuple(_comparisons(config, metrics, cells)),
        claims=_claims(config, metrics, cells),
        confusions=tuple(_confusions(config, metrics, cells)),
        preparations=preparations,
        judges=judged,
        notes=(*config.notes, *loaded.notes, *twins.notes, *_warnings(config, preparations)),
    )
    write_atomic(run.scores_file, json.dumps(scores.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
    write_seal(run)
    return scores


def subject_infos(config: RunConfig) -> tuple[SubjectInfo, ...]:
    """The rows of the tables."""
    return tuple(
        SubjectInfo(
            name=s.name,
            method=s.method,
            label=s.label,
            mistakes=s.mistakes,
            analysis=s.analyst,
            style=s.answer_style,
            seeds=config.seeds,
        )
        for s in config.subjects
    )


def _estimates(config: RunConfig, metrics: Sequence[MetricInfo], cells: Cells) -> list[ScoreRow]:
    rows = []
    for subject in config.subjects:
        for metric in metrics:
            found = [(seed, estimate(metric, subject.name, seed, cells)) for seed in config.seeds]
            joint = _together([one for _, one in found], metric, subject.name, config.seeds, cells)
            pairs: list[tuple[int | None, Estimate]] = [*found, (None, joint)]
            rows += [ScoreRow(subject=subject.name, metric=metric.name, seed=s, estimate=e) for s, e in pairs]
    return rows


def estimate(metric: MetricInfo, subject: str, seed: int, cells: Cells) -> Estimate:
    """One metric of one subject and seed."""
    if metric.kind != "score" and metric.kind != "rate":
        return classification.measure(metric.kind, cells.answers(metric, subject, seed), metric.rate_label)
    items = cells.items(metric, subject, seed)
    values = cells.values(metric, subject, seed)
    kept = [item.sample.cluster for item in items if item.sample.key in values]
    if metric.kind == "rate":
        return intervals.rate(list(values.values()), len(items), kept, higher_is_better=metric.higher_is_better)
    return bca_mean(list(values.values()), len(items), metric.bounds, kept, higher_is_better=metric.higher_is_better)


def estimate_over_seeds(metric: MetricInfo, subject: str, seeds: Sequence[int], cells: Cells) -> Estimate:
    """One metric of one subject over its seeds: both they and the prompts count as drawn."""
    return _together([estimate(metric, subject, seed, cells) for seed in seeds], metric, subject, seeds, cells)


def _together(
    per_seed: Sequence[Estimate], metric: MetricInfo, subject: str, seeds: Sequence[int], cells: Cells
) -> Estimate:
    joint = _over_levels(metric, subject, seeds, cells) if len(seeds) > 1 else None
    return intervals.over_seeds(per_seed, metric.bounds, joint)


def _over_levels(metric: MetricInfo, subject: str, seeds: Sequence[int], cells: Cells) -> TwoWay | None:
    if metric.kind not in ITEM_MEANS:
        kind = metric.kind
        assert kind in ("balanced_accuracy", "f1", "auc")
        return measure_levels.measure_over_seeds(kind, [cells.answers(metric, subject, seed) for seed in seeds])
    items = [cells.items(metric, subject, seed) for seed in seeds]
    values = [cells.values(metric, subject, seed) for seed in seeds]
    per_seed = [paired.by_key(one, _cluster_of(each)) for one, each in zip(values, items, strict=True)]
    return two_way(table_of(per_seed)) if any(values) else None


def _comparisons(config: RunConfig, metrics: Sequence[MetricInfo], cells: Cells) -> list[ComparisonRow]:
    """Every subject against every baseline; p values are as tested, for the family is the table that prints them."""
    return [
        ComparisonRow(
            subject=subject.name,
            baseline=baseline,
            metric=metric.name,
            comparison=_compare(metric, subject.name, baseline, config.seeds, cells),
        )
        for baseline in config.baselines
        for subject in config.subjects
        if subject.name != baseline
        for metric in metrics
    ]


def _compare(
    metric: MetricInfo,
    first: str,
    second: str,
    seeds: Sequence[int],
    cells: Cells,
    alternative: Alternative = "two-sided",
) -> Comparison:
    if metric.kind in ITEM_MEANS:
        per_seed = [
            paired.pair_by_key(
                cells.values(metric, first, seed),
                cells.values(metric, second, seed),
                _cluster_of(cells.items(metric, first, seed)),
            )
            for seed in seeds
        ]
        span = metric.bounds[1] - metric.bounds[0]
        return paired.paired_over_seeds(per_seed, binary=metric.kind != "score", alternative=alternative, span=span)
    kind = metric.kind
    assert kind in ("balanced_accuracy", "f1", "auc")
    measured = [(cells.answers(metric, first, seed), cells.answers(metric, second, seed)) for seed in seeds]
    return paired_measures.measure_difference_over_seeds(kind, measured)


def _cluster_of(items: Sequence[Item]) -> dict[str, str | None]:
    return {item.sample.key: cluster for item, cluster in zip(items, clusters(items), strict=True)}


class _Side(NamedTuple):
    """One of the two measures of a claim."""

    subject: str
    metric: MetricInfo


def _claims(config: RunConfig, metrics: Sequence[MetricInfo], cells: Cells) -> tuple[Claim, ...]:
    """The claims of the run, whose p values are one family, and so are those of the opposite claims."""
    sides = [[_side(claim, side, config, metrics) for side in (claim.first, claim.second)] for claim in config.claims]
    found = as_family([_claimed(first, second, config.seeds, cells) for first, second in sides])
    opposite = as_family([_claimed(second, first, config.seeds, cells) for first, second in sides])
    return tuple(
        Claim(
            name=claim.name,
            text=claim.text,
            subject=first.subject,
            first=claim.first,
            second=claim.second,
            comparison=one,
            decision=_decision(one, other),
        )
        for claim, (first, _), one, other in zip(config.claims, sides, found, opposite, strict=True)
    )


def _claimed(first: _Side, second: _Side, seeds: Sequence[int], cells: Cells) -> Comparison:
    """First minus second, scaled to 0–1: of one metric as every comparison has it, of two metrics paired by prompt."""
    if first.metric == second.metric:
        low, high = first.metric.bounds
        found = _compare(first.metric, first.subject, second.subject, seeds, cells, "greater")
        return _scaled(found, 1 / (high - low))
    items = [[cells.items(side.metric, side.subject, seed) for side in (first, second)] for seed in seeds]
    binary = all(side.metric.kind != "score" for side in (first, second))
    binary = binary and all(len({item.prompt for item in each}) == len(each) for pair in items for each in pair)
    per_seed = []
    for ours, theirs in items:
        (one, groups), (two, _) = _by_prompt(first.metric, ours), _by_prompt(second.metric, theirs)
        per_seed.append(paired.pair_by_key(one, two, groups))
    return paired.paired_over_seeds(per_seed, binary=binary, alternative="greater")


def _scaled(comparison: Comparison, factor: float) -> Comparison:
    ends = {name: getattr(comparison, name) for name in ("difference", "low", "high")}
    return comparison.model_copy(update={name: end * factor for name, end in ends.items() if end is not None})


def _decision(found: Comparison, opposite: Comparison) -> Decision:
    """What the interval says, and whether it stands after Holm's correction."""
    if found.decision == "higher":
        return "supported" if found.holds else "supported (not after Holm)"
    if found.decision == "lower":
        return "contradicted" if opposite.holds else "contradicted (not after Holm)"
    return found.decision


def _side(claim: ClaimConfig, side: str, config: RunConfig, metrics: Sequence[MetricInfo]) -> _Side:
    subject, _, name = side.partition(".")
    subjects = [s.name for s in config.subjects]
    if subject not in subjects:
        raise UserError(f"claim '{claim.name}': {unknown_name('subject', subject, subjects)}")
    known = {metric.name: metric for metric in metrics if metric.kind in ITEM_MEANS}
    if name not in known:
        raise UserError(f"claim '{claim.name}': {unknown_metric(name, known)}")
    return _Side(subject, known[name])


def check_claims(config: RunConfig, metrics: Sequence[MetricInfo]) -> None:
    """Raises a `UserError` for a claim about a subject or metric that the run does not have."""
    for claim in config.claims:
        for side in (claim.first, claim.second):
            _side(claim, side, config, metrics)


def _by_prompt(metric: MetricInfo, items: Sequence[Item]) -> tuple[dict[str, float], dict[str, str | None]]:
    """Prompt → mean over its items of the metric, scaled to 0–1, and prompt → cluster."""
    low, high = metric.bounds
    values = item_values(metric, items)
    found: dict[str, list[float]] = {}
    groups: dict[str, str | None] = {}
    for item in items:
        if item.sample.key in values:
            found.setdefault(item.prompt, []).append((values[item.sample.key] - low) / (high - low))
            groups[item.prompt] = item.sample.cluster
    return {prompt: sum(each) / len(each) for prompt, each in found.items()}, groups


def _confusions(config: RunConfig, metrics: Sequence[MetricInfo], cells: Cells) -> list[ConfusionRow]:
    firsts = {metric.task: metric for metric in reversed(metrics) if metric.kind not in ("score", "rate")}
    rows = []
    for subject in config.subjects:
        for task, metric in sorted(firsts.items()):
            for seed in config.seeds:
                found = classification.confusion(cells.answers(metric, subject.name, seed))
                rows.append(
                    ConfusionRow(
                        subject=subject.name, seed=seed, task=task, counts=found.counts, n_invalid=found.n_invalid
                    )
                )
    return rows


def _preparations(run: Run, config: RunConfig) -> list[PreparationRow]:
    rows = []
    for subject in trained_subjects(config):
        for seed in config.seeds:
            folder = run.path / "train" / subject.name / str(seed)
            counts, checkpoint = folder / "counts.json", run.checkpoint(subject.name, seed)
            if counts.exists():
                training = {} if checkpoint is None else checkpoint.metrics
                rows.append(
                    PreparationRow(
                        subject=subject.name, seed=seed, counts=json.loads(counts.read_text()), training=training
                    )
                )
    return rows


def _warnings(config: RunConfig, preparations: Sequence[PreparationRow]) -> list[str]:
    """A sentence for every subject that learned from nothing that its method is about."""
    own = {"critique_revise": "revision", "chain_of_hindsight": "hindsight", "mistake_analysis": "analysis"}
    found = []
    for row in preparations:
        kind = own.get(config.subject(row.subject).method)
        if kind is not None and not row.counts.get(f"records: {kind}"):
            found.append(
                f"{row.subject}, seed {row.seed}: no {kind} record came out, so it learned nothing that its method is "
                f"about and its row says nothing about the method (why: train/{row.subject}/{row.seed}/rows.jsonl)"
            )
    return found
