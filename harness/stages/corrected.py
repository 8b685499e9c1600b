"""Rates as people would have found them: beside a judge's rate the one that its calibration corrects.

Reads the calibrations that the recipe names and those that stand in judges' folders. A correction holds for one judge
key only, and where the run's ledger names served models for those alone that were calibrated; one that cannot be given
is told with its reason, never replaced by the judge's own rate.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.calibration.calls import served_models
from harness.calibration.correct import corrected_rate
from harness.calibration.records import load, load_calibrations, panel_key
from harness.config import RunConfig
from harness.content import find
from harness.judging import Panel
from harness.judging.judge_file import PATTERN
from harness.records import Call, Verdict
from harness.scores import MetricInfo, ScoreRow
from harness.store import Run, latest, read

FILE = "calibration.json"
SUFFIX = "_corrected"


class Corrected(NamedTuple):
    """Further metrics with their estimates, and what there is to say about them."""

    metrics: list[MetricInfo]
    estimates: list[ScoreRow]
    notes: list[str]


def corrected(
    config: RunConfig,
    judges: Mapping[str, Panel],
    metrics: Sequence[MetricInfo],
    estimates: Sequence[ScoreRow],
    include_paths: Sequence[Path] = (),
    run: Run | None = None,
) -> Corrected:
    """The corrected twins of all rates whose judge is calibrated.

    Args:
        config: The run's configuration.
        judges: Name → whose verdicts count.
        metrics: What is measured.
        estimates: What came out.
        include_paths: Further content folders.
        run: Whose ledger tells which models were served.

    Raises:
        UserError: A calibration that the recipe names is missing or not as it should be.
    """
    found = Corrected([], [], [])
    calibrations = load_calibrations([*map(Path, config.judging.calibrations), *_beside(judges, include_paths)])
    known = {one.judge for one in calibrations.values()}
    served = cache(lambda name: _served(run, judges[name]))
    for metric in metrics:
        panel = judges.get(metric.judge or "")
        if panel is None or metric.kind != "rate" or metric.judge not in known:
            continue
        twin = metric.model_copy(update={"name": metric.name + SUFFIX, "label": f"{metric.label}, corrected"})
        rows = [row for row in estimates if row.metric == metric.name]
        how = (metric.rate_label or "", metric.judge, panel_key(panel), calibrations, served(metric.judge))
        results = [(row, corrected_rate(row.estimate, *how)) for row in rows]
        kept = [(row, result.estimate) for row, result in results if result.estimate is not None]
        if kept:
            found.metrics.append(twin)
        found.estimates.extend(
            row.model_copy(update={"metric": twin.name, "estimate": estimate}) for row, estimate in kept
        )
        notes = dict.fromkeys(result.note for _, result in results if result.note)
        found.notes.extend(f"{twin.label}: {note}." for note in notes)
    rated = {metric.judge for metric in metrics if metric.kind == "rate" and metric.judge in judges}
    found.notes.extend(_idle(config.judging.calibrations, judges, rated))
    return found


def _served(run: Run | None, panel: Panel) -> tuple[str, ...]:
    """What servers called the models behind the verdicts that count."""
    if run is None:
        return ()
    members = {spec.key for spec in panel.members}
    verdicts = latest(read(run.verdicts_file, Verdict).records).values()
    return served_models(read(run.calls_file, Call).records, [v for v in verdicts if v.judge_key in members])


def _idle(files: Sequence[str], judges: Mapping[str, Panel], rated: Container[str | None]) -> Iterator[str]:
    """A sentence for each calibration that the recipe names and that no metric of this run could ask for."""
    for file in files:
        name = load(Path(file)).judge
        if name not in judges:
            yield f"{file} corrects nothing: it is of {name}, which does not judge in this run."
        elif name not in rated:
            yield f"{file} corrects nothing: no metric of this run is a rate of {name}."


def _beside(judges: Mapping[str, Panel], include_paths: Sequence[Path]) -> list[Path]:
    """The calibrations that stand in the folders of these judges."""
    folders = find("judges", PATTERN, include_paths)
    files = [folders[name].parent / FILE for name in judges if name in folders]
    return [file for file in files if file.is_file()]
