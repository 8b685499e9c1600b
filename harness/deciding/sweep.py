"""A metric over checkpoints, and the best of them named honestly.

Reads loaded runs, gives a `Sweep` record and writes nothing. Items are split in two by a seeded hash of their cluster:
the best checkpoint is chosen on the dev half, where the items that it lacks count worst, and reported on the test half,
beside what choosing and reporting on the same items would have said. Tied with it are all that were tested against it
on the test half (paired, Holm) and not told from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from harness.deciding.compare import chosen_metrics, over_seeds
from harness.deciding.gate_filled import End, filled, n_lost, planned_by
from harness.deciding.mismatch import RECORDED, allowed, mismatches, remarks
from harness.deciding.pairing import difference, paired_values
from harness.deciding.sides import Side, open_sides, restricted, subjects_of, unversioned, without_version
from harness.errors import UserError
from harness.methods import method_trains
from harness.records import Finite, Record, Sample, content_hash
from harness.scores import Comparison, Estimate, MetricInfo
from harness.stats.selection import told_apart
from harness.store import Run

NUMBERED = re.compile(r"(?:checkpoint|global_step|step)[-_]?(\d+)/?$")
"""How trainers call the folder of a checkpoint."""


class Point(Record):
    """One checkpoint.

    Attributes:
        step: Training steps.
        label: Label of the side.
        run: Name of the run's folder.
        subject: Name of its subject.
        all_items: The metric on all items.
        dev: On the half that the best is chosen on.
        test: On the half that it is reported on.
        to_best: Paired difference to the chosen checkpoint on the test half, Holm over the points.
        tied: Whether that does not tell it from the chosen one, which is tied with itself; ``None`` without a test.
    """

    step: Finite
    label: str
    run: str
    subject: str
    all_items: Estimate
    dev: Estimate
    test: Estimate
    to_best: Comparison | None = None
    tied: bool | None = None


class Sweep(Record):
    """A metric over checkpoints.

    Attributes:
        metric: The metric.
        points: By step.
        best: Label of the checkpoint that is best on the dev half; ``None`` where none can be named.
        same_items: Label of the one that is best on all items, whose value there is too good.
        split_seed: Seed of the split.
        caveats: Mismatches that were allowed.
        remarks: What a reader has to know besides.
    """

    metric: MetricInfo
    points: tuple[Point, ...]
    best: str | None = None
    same_items: str | None = None
    split_seed: int = 0
    caveats: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def point(self, label: str | None) -> Point | None:
        """A point by its label."""
        return next((point for point in self.points if point.label == label), None)


class Stop(NamedTuple):
    """A side and how many steps it was trained."""

    step: float
    side: Side


def open_sweep(names: Sequence[str], include_paths: Sequence[Path] = ()) -> list[Stop]:
    """Opens the checkpoints of a sweep, by step.

    Args:
        names: ``runs/x``, for all subjects of the run, or ``runs/x:subject``; with ``@200`` for the step. Without it
            the step is the one in the name of the checkpoint, or the number of steps that the subject was trained.
        include_paths: Further content folders.

    Raises:
        UserError: A side or its step cannot be found, or two stand at one step.
    """
    steps: dict[str, float | None] = {}
    for name in names:
        place, step = _parts(name)
        of_run = [place] if step is not None else subjects_of(place)
        steps |= dict.fromkeys(of_run, step)
    if len(steps) < 2:
        raise UserError("a sweep needs two checkpoints or more: harness sweep runs/a@100 runs/b@200")
    sides = open_sides(list(steps), include_paths)
    stops = [
        Stop(_step(name, side) if step is None else step, side)
        for (name, step), side in zip(steps.items(), sides, strict=True)
    ]
    _refuse_doubles(stops)
    return sorted(stops, key=lambda stop: stop.step)


def sweep(stops: Sequence[Stop], metric_name: str | None = None, allow: Sequence[str] = (), *, seed: int = 0) -> Sweep:
    """Measures a metric at each step and chooses the best.

    Args:
        stops: Two checkpoints or more, by step.
        metric_name: The metric; may be left out where the runs share one alone.
        allow: Kinds of mismatch that are told instead of refused.
        seed: Seed of the split.

    Raises:
        UserError: No such metric, several and none is named, or a mismatch that is not allowed.
    """
    sides = [stop.side for stop in stops]
    metric = _metric(sides, metric_name)
    couples = list(combinations(sides, 2))  # each: recorded answers are comparable with anything, as far as is known
    against = [one for pair in couples for one in mismatches(*pair, metric)]
    caveats = allowed(against, allow)
    of_task = [sample for side in sides for sample in side.loaded.samples if sample.task == metric.task]
    keys = {sample.key for sample in of_task if in_dev(sample, seed)}
    dev = [restricted(side, lambda sample: sample.key in keys) for side in sides]
    test = [restricted(side, lambda sample: sample.key not in keys) for side in sides]
    if any(one.kind == "task" for one in against):
        sides, dev, test = ([without_version(side) for side in each] for each in (sides, dev, test))
    points = [_point(stop, metric, *each) for stop, *each in zip(stops, dev, test, strict=True)]
    told = dict.fromkeys(one for pair in couples for one in remarks(*pair, [metric.task]))
    further = (*_lacking(sides, metric), *told)
    found = Sweep(metric=metric, points=tuple(points), split_seed=seed, caveats=tuple(caveats), remarks=further)
    if metric.higher_is_better is None:
        remark = f"{metric.name} has no direction: no checkpoint is best"
        return found.model_copy(update={"remarks": (remark, *further)})
    chosen = _best(points, dev, metric)
    if chosen is None or chosen.test.value is None:
        remark = "the items cannot be split in two halves with values in both: no checkpoint is named best"
        return found.model_copy(update={"remarks": (remark, *further)})
    same_items = _best(points, sides, metric)
    changes = {
        "points": tuple(_with_ties(points, test, chosen, metric)),
        "best": chosen.label,
        "same_items": same_items and same_items.label,
    }
    return found.model_copy(update=changes)


def in_dev(sample: Sample, seed: int) -> bool:
    """Whether an item is in the dev half; items of one cluster are in one half, and so is an item in all versions."""
    name = [seed, sample.cluster] if sample.cluster is not None else [seed, None, unversioned(sample).key]
    return int(content_hash(name)[:8], 16) % 2 == 0


def _parts(name: str) -> tuple[str, float | None]:
    """The side and the step that stands behind ``@``; a folder whose own name has one wins."""
    place, at, step = name.rpartition("@")
    if not at or Run(Path(name)).manifest_file.is_file():
        return name, None
    if not re.fullmatch(r"\d+(\.\d+)?", step):
        raise UserError(f"{name}: '{step}' is no number of steps; write {place}@200")
    return place, float(step)


def _step(name: str, side: Side) -> float:
    """The step that the checkpoint's name gives, or how long its subject was trained."""
    config, subject = side.loaded.config, side.loaded.config.subject(side.subject)
    own = [subject.base] if subject.base else list(config.base) if not method_trains(subject.method) else []
    for text in (subject.name, subject.label, *own, side.loaded.run.path.name):
        if text is not None and (found := NUMBERED.search(text)):
            return float(found[1])
    trained = _trained_steps(side, subject.weights_of or subject.name)
    if len(trained) == 1:
        return trained.pop()
    if not method_trains(subject.method) and subject.method != RECORDED and subject.base is None:
        return 0.0
    why = "its seeds were trained for different numbers of steps" if trained else "nothing says its training step"
    raise UserError(f"{name}: {why}; give it as {name}@200")


def _trained_steps(side: Side, owner: str) -> set[float]:
    found = [side.loaded.run.checkpoint(owner, seed) for seed in side.seeds]
    return {steps for one in found if one is not None and (steps := one.metrics.get("n_steps")) is not None}


def _refuse_doubles(stops: Sequence[Stop]) -> None:
    known: dict[float, str] = {}
    for step, side in stops:
        if step in known:
            raise UserError(
                f"{known[step]} and {side.label} both stand at step {step:g}: a sweep follows one training, so "
                "name its checkpoints alone, as runs/x:subject@200 (methods side by side: harness compare)"
            )
        known[step] = side.label


def _metric(sides: Sequence[Side], name: str | None) -> MetricInfo:
    metrics = chosen_metrics(sides, [] if name is None else [name])
    if len(metrics) > 1:
        raise UserError(f"which metric? --metric NAME: {', '.join(metric.name for metric in metrics)}")
    return metrics[0]


def _point(stop: Stop, metric: MetricInfo, dev: Side, test: Side) -> Point:
    return Point(
        step=stop.step,
        label=stop.side.label,
        run=stop.side.loaded.run.path.name,
        subject=stop.side.subject,
        all_items=over_seeds(stop.side, metric),
        dev=over_seeds(dev, metric),
        test=over_seeds(test, metric),
    )


def _best(points: Sequence[Point], sides: Sequence[Side], metric: MetricInfo) -> Point | None:
    """The first of those that are best on these items, where all that any side planned and one lacks count worst."""
    wanted = planned_by(sides, metric)
    end: End = "high" if metric.higher_is_better is False else "low"
    sign = -1.0 if end == "high" else 1.0
    known = []
    for point, side in zip(points, sides, strict=True):
        worst = over_seeds(filled(side, metric, wanted, end), metric).value
        if worst is not None and n_lost(side, metric, wanted) < len(wanted) * len(side.seeds):
            known.append((point, sign * worst))
    return max(known, key=lambda one: one[1])[0] if known else None


def _lacking(sides: Sequence[Side], metric: MetricInfo) -> tuple[str, ...]:
    """A sentence on the sides that lack values of items that any side planned, if there are any."""
    wanted, told = planned_by(sides, metric), []
    for side in sides:
        n_planned, lost = len(wanted) * len(side.seeds), n_lost(side, metric, wanted)
        told += [f"{side.label} on {n_planned - lost} of {n_planned}"] if lost else []
    if not told:
        return ()
    return (f"not measured on all items: {', '.join(told)}; in the choice the others count as worst",)


def _with_ties(points: Sequence[Point], test: Sequence[Side], chosen: Point, metric: MetricInfo) -> list[Point]:
    """The points with their difference to the chosen one on the test half, and whether they are tied with it."""
    best = next(side for side in test if side.label == chosen.label)
    found = {side.label: difference(paired_values(side, best, metric.name)) for side in test if side is not best}
    told = told_apart({label: one.p_value for label, one in found.items()})
    updated = []
    for point in points:
        if point is chosen:
            updated.append(point.model_copy(update={"tied": True}))
            continue
        compared = found[point.label].model_copy(update={"p_adjusted": told.adjusted[point.label]})
        tied = None
        if compared.p_adjusted is not None and compared.decision != "not measured":
            tied = point.label not in told.apart
        updated.append(point.model_copy(update={"to_best": compared, "tied": tied}))
    return updated
