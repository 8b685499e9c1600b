"""Score a run from its folder alone: the stored configuration, the sealed samples, today's judges.

Of an imported run the recorded judges count too, and the tables of its metrics are laid out besides the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.importing import imported, imported_measures, own_judges, write_layouts
from harness.judging import load_judge
from harness.records import JudgeSpec, Sample
from harness.scores import MetricInfo, Scores
from harness.stages.plan import stored_config
from harness.stages.score import score
from harness.store import Run, read
from harness.tasks import TaskSpec, load_spec


class Measures(NamedTuple):
    """What a run measures: its metrics, and for each task the judges that count, by the name that metrics use."""

    metrics: list[MetricInfo]
    judges: dict[str, dict[str, JudgeSpec]]

    def by_name(self) -> dict[str, JudgeSpec]:
        """The judges of all tasks."""
        return {name: spec for judges in self.judges.values() for name, spec in judges.items()}


def rescore(run: Run, include_paths: Sequence[Path] = ()) -> Scores:
    """Computes and writes the scores of a run, finished or not."""
    config = stored_config(run)
    specs = [load_spec(name, include_paths) for name in config.tasks]
    found = measures(run, specs, include_paths)
    if imported(run):
        write_layouts(run, found.metrics)
    return score(run, config, read(run.samples_file, Sample).records, found.metrics, found.by_name())


def measures(run: Run, specs: Sequence[TaskSpec], include_paths: Sequence[Path] = ()) -> Measures:
    """The metrics of a run's tasks, and the judges whose verdicts count, as they are today."""
    recorded = imported_measures(run, specs) if imported(run) else None
    judges: dict[str, dict[str, JudgeSpec]] = {}
    for spec in specs:
        names = spec.judges if recorded is None else own_judges(spec)
        judges[spec.name] = {name: load_judge(name, include_paths).spec for name in names}
    if recorded is None:
        return Measures([metric for spec in specs for metric in spec.metrics], judges)
    return Measures(recorded.metrics, {task: {**own, **recorded.judges[task]} for task, own in judges.items()})
