"""Load what a run measured, from its folder alone: the stored configuration, the sealed samples, today's judges.

Reads everything and writes nothing; works on a half-finished run. What `LoadedRun.items` holds is what scores, paired
comparisons, gates, data frames and the sample browser are all made from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.config import RunConfig
from harness.errors import UserError, unknown_name
from harness.importing import imported, imported_measures, own_judges
from harness.judging import Panel
from harness.records import Cell, Sample
from harness.rows.overlap import TaskOverlap, overlap_notes
from harness.scores import MetricInfo
from harness.stages.corrected import SUFFIX as CORRECTED
from harness.stages.gather import CellId, Item, gather
from harness.stages.judges import Judges
from harness.stages.length_control import SUFFIX as LENGTH_CONTROLLED
from harness.stages.plan import overlap_file, stored_config
from harness.stages.references import References
from harness.stages.self_judging import self_judging_notes
from harness.store import Run, latest, read
from harness.tasks import TaskSpec, load_spec


class Measures(NamedTuple):
    """What a run measures: its metrics, and for each task the judges that count, by the name that metrics use."""

    metrics: list[MetricInfo]
    judges: dict[str, dict[str, Panel]]
    notes: tuple[str, ...] = ()

    def by_name(self) -> dict[str, Panel]:
        """The judges of all tasks."""
        return {name: panel for judges in self.judges.values() for name, panel in judges.items()}


class LoadedRun(NamedTuple):
    """A run as it stands.

    Attributes:
        run: Its folder.
        config: Its stored configuration, judged as it is judged now.
        samples: Its sealed samples.
        metrics: What its tasks measure.
        judges: Judge → whose verdicts count under that name.
        cells: (subject, seed, task) → which model answered; absent where none has begun.
        items: (subject, seed, task) → every planned sample with what became of it, in order; lost ones too.
        notes: What there is to say besides.
    """

    run: Run
    config: RunConfig
    samples: Sequence[Sample]
    metrics: Sequence[MetricInfo]
    judges: Mapping[str, Panel]
    cells: Mapping[CellId, Cell]
    items: Mapping[CellId, Sequence[Item]]
    notes: Sequence[str] = ()

    def metric(self, name: str) -> MetricInfo | None:
        """A metric by its name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


def load(run: Run, include_paths: Sequence[Path] = ()) -> LoadedRun:
    """Reads a run.

    Args:
        run: The run, finished or not.
        include_paths: Further content folders.

    Raises:
        UserError: The folder is no run, its content (a task, a judge) cannot be found, or a verdict's score lies
            outside its metric's scale.
    """
    config = stored_config(run, include_paths)
    specs = [load_spec(name, include_paths) for name in config.tasks]
    found = measures(run, config, specs, include_paths)
    samples = read(run.samples_file, Sample).records
    items = gather(run, samples, found.by_name(), References(run, config.judging.against), found.metrics)
    cells = {(c.subject, c.seed, c.task): c for c in latest(read(run.cells_file, Cell).records).values()}
    return LoadedRun(
        run, config, samples, found.metrics, found.by_name(), cells,
        _with_unanswered(items, config, samples), found.notes,
    )  # fmt: skip


def measures(run: Run, config: RunConfig, specs: Sequence[TaskSpec], include_paths: Sequence[Path] = ()) -> Measures:
    """The metrics of a run's tasks, and the judges whose verdicts count, as they are today."""
    bench = Judges(config, include_paths)
    able = [bench.able(spec) for spec in specs]
    own = {spec.name: {name: bench.panel(name) for name in own_judges(spec)} for spec in able}
    unbound = dict.fromkeys(name for spec in specs for name in bench.unbound(spec))
    notes = (f"Not measured, for want of a judge's model (judging.models): {', '.join(unbound)}.",) if unbound else ()
    overlap = read(overlap_file(run), TaskOverlap).records
    notes = (*notes, *self_judging_notes(config, run), *overlap_notes(overlap))
    if not imported(run):
        return Measures([metric for spec in able for metric in spec.metrics], own, notes)
    recorded = imported_measures(run, able)
    others = {task: {name: Panel((spec,)) for name, spec in each.items()} for task, each in recorded.judges.items()}
    return Measures(recorded.metrics, {task: {**judges, **others[task]} for task, judges in own.items()}, notes)


def unknown_metric(name: str, known: Collection[str]) -> UserError:
    """An error for a metric that does not exist, or that only scores have.

    Args:
        name: What the user wrote.
        known: Every metric that has values of items.
    """
    plain = name.removesuffix(LENGTH_CONTROLLED).removesuffix(CORRECTED)
    if plain == name or plain not in known:
        return unknown_name("metric", name, known)
    return UserError(f"metric '{name}' is made in scoring and has no value of an item: name '{plain}' instead")


def _with_unanswered(
    found: dict[CellId, list[Item]], config: RunConfig, samples: Sequence[Sample]
) -> Mapping[CellId, list[Item]]:
    """The cells, with one of lost items for everything that no model has begun to answer."""
    planned: dict[str, list[Sample]] = {}
    for sample in samples:
        planned.setdefault(sample.task, []).append(sample)
    for subject in config.subjects:
        for seed in config.seeds:
            for task, each in planned.items():
                found.setdefault((subject.name, seed, task), [Item(sample, None, {}) for sample in each])
    return found
