"""What an imported run measures: the task's own metrics, and the same ones as a recorded judge saw them.

A task whose metric asks the judge ``imported`` is measured by the verdicts that came with the answers. Of any other
task, recorded verdicts stand in for its first judge: each metric of that judge gets a twin, named after the recorded
one. Recorded verdicts have identities of their own and never count as those of a judge of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from harness.importing.log import Import, imports_of, layout_file
from harness.records import JudgeSpec, content_hash
from harness.scores import MetricInfo
from harness.store import Run, write_atomic
from harness.tasks import TaskSpec

IMPORTED = "imported"
"""The judge folder that stands for whoever judged; also the name of a recorded judge that nobody names."""


class Measures(NamedTuple):
    """Metrics, and for each task the recorded judges by the name that metrics use."""

    metrics: list[MetricInfo]
    judges: dict[str, dict[str, JudgeSpec]]


def recorded_judge(name: str) -> JudgeSpec:
    """The identity of a judge of which the name is all we know."""
    return JudgeSpec(name=name, version=IMPORTED, content=content_hash([IMPORTED, name]))


def own_judges(spec: TaskSpec) -> list[str]:
    """The judges of a task that judge themselves."""
    return [name for name in spec.judges if name != IMPORTED]


def imported_measures(run: Run, specs: Iterable[TaskSpec]) -> Measures:
    """What a run's imports measure.

    Args:
        run: The run.
        specs: Its tasks.
    """
    imports = imports_of(run)
    metrics: list[MetricInfo] = []
    judges: dict[str, dict[str, JudgeSpec]] = {}
    for spec in specs:
        own = [one for one in imports if one.task == spec.name and one.judge is not None]
        judges[spec.name] = {_called(one.judge): one.judge for one in own if one.judge is not None}
        for one in own:
            spec = _answered(spec, one)
        metrics += spec.metrics
        for name in dict.fromkeys(judges[spec.name]):
            metrics += _twins(spec, [one for one in own if one.judge and _called(one.judge) == name])
    return Measures(metrics, judges)


def summed_up(spec: TaskSpec) -> list[MetricInfo]:
    """The metrics of a task that recorded verdicts feed, directly or through twins."""
    stands_for = IMPORTED if IMPORTED in spec.judges else next(iter(spec.judges), None)
    return [metric for metric in spec.metrics if metric.judge is not None and metric.judge == stands_for]


def _answered(spec: TaskSpec, one: Import) -> TaskSpec:
    """The task with a recorded judge in the place of ``imported``."""
    assert one.judge is not None
    name = _called(one.judge)
    metrics = [m.model_copy(update={"judge": name}) if m.judge == IMPORTED else m for m in spec.metrics]
    return spec.model_copy(update={"metrics": tuple(metrics)})


def _twins(spec: TaskSpec, imports: Sequence[Import]) -> list[MetricInfo]:
    if IMPORTED in spec.judges or imports[0].judge is None:
        return []
    judge = imports[0].judge
    labelled, scored = any(one.labelled for one in imports), any(one.scored for one in imports)
    return [
        metric.model_copy(
            update={
                "name": f"{metric.name}_by_{re.sub('[^A-Za-z0-9]+', '_', judge.name).strip('_')}",
                "label": f"{metric.label}, by {judge.name}",
                "judge": _called(judge),
            }
        )
        for metric in summed_up(spec)
        if (scored if metric.kind == "score" else labelled)
    ]


def _called(judge: JudgeSpec) -> str:
    """A name that no judge folder has."""
    return f"{judge.name} (recorded)"


def write_layouts(run: Run, metrics: Sequence[MetricInfo]) -> None:
    """Writes a table for each task, of the metrics that no built-in layout is made for; derived, like the scores."""
    import yaml

    imports = imports_of(run)
    built_in = {layout for one in imports for layout in one.layouts}
    for task in dict.fromkeys(one.task for one in imports):
        rest = [metric for metric in metrics if metric.task == task and metric.name not in built_in]
        if rest:
            layout = _layout([one for one in imports if one.task == task], rest)
            write_atomic(layout_file(run, task), yaml.safe_dump(layout, sort_keys=False, allow_unicode=True))


def _layout(imports: Sequence[Import], metrics: Sequence[MetricInfo]) -> dict[str, Any]:
    subjects = list(dict.fromkeys(one.subject for one in imports))
    layout: dict[str, Any] = {
        "title": f"Recorded answers to {imports[0].task}",
        "caption": "Answers that were recorded elsewhere, judged here and by whoever judged them there.",
        "groups": ["label"],
        "rows": [{"subject": name} for name in subjects],
        "columns": [_column(metric) for metric in metrics],
    }
    return {**layout, "baseline": {"subject": subjects[0]}} if len(subjects) > 1 else layout


def _column(metric: MetricInfo) -> dict[str, Any]:
    percent = metric.bounds == (0.0, 1.0) and metric.kind != "auc"
    digits = 1 if percent else 3 if metric.kind == "auc" else 2
    return {"metric": metric.name, "unit": "percent" if percent else "plain", "digits": digits}
