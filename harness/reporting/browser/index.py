"""The browser's index: all that samples can be filtered by, as columns, and nothing that a model or a prompt says.

Reads a `LoadedRun` and its grids; gives one JSON value. Its codes are positions in its own lists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.judging import Panel
from harness.records import Sample, Verdict, VerdictOutcome, content_hash
from harness.reporting.browser.categories import categories, is_sensitive
from harness.reporting.browser.columns import column
from harness.reporting.browser.declared import declared_labels, shown
from harness.reporting.browser.grid import Axes, Grid
from harness.reporting.browser.values import given_answers, metric_values
from harness.scores import MetricInfo, Scores
from harness.stages.gather import ITEM_MEANS, Item
from harness.stages.loading import LoadedRun

MISSING = "missing"
"""Outcome of a sample that nobody has answered yet."""


def build_index(
    loaded: LoadedRun,
    scores: Scores,
    on: Axes,
    grids: Sequence[Grid],
    include_paths: Sequence[Path] = (),
    *,
    redact: bool,
) -> dict[str, Any]:
    """The index without its list of text parts.

    Args:
        loaded: The run.
        scores: Its scores, for what things are called.
        on: Its subjects and seeds.
        grids: Its rows by task.
        include_paths: The user's content folders.
        redact: Leaves out categories that repeat words of a prompt, and names no label or target but declared ones.
    """
    labels = {subject.name: subject.label for subject in scores.subjects}
    twins: dict[Any, int] = {}
    prompts: dict[str, int] = {}
    return {
        "run": scores.run,
        "subjects": [{"name": name, "label": labels.get(name, name)} for name in on.subjects],
        "seeds": on.seeds,
        "redacted": redact,
        "metrics": [_metric(metric) for metric in loaded.metrics],
        "aliases": _aliases(loaded.metrics, scores.metrics),
        "tasks": [
            {**_task(loaded, grid, declared), **_of_samples(grid.samples, twins, prompts, declared)}
            for grid in grids
            for declared in [_declared(loaded, grid, include_paths) if redact else None]
        ],
    }


def _declared(loaded: LoadedRun, grid: Grid, include_paths: Sequence[Path]) -> Collection[str]:
    return declared_labels([one for one in loaded.metrics if one.task == grid.task], grid.samples, include_paths)


def _metric(metric: MetricInfo) -> dict[str, Any]:
    return {
        "name": metric.name,
        "label": metric.label,
        "task": metric.task,
        "higher": metric.higher_is_better,
        "binary": metric.kind != "score",
        "mean": metric.kind in ITEM_MEANS,
    }


def _aliases(measured: Sequence[MetricInfo], reported: Sequence[MetricInfo]) -> dict[str, str]:
    """Derived metric (such as a corrected rate) → the measured one that rests on the same samples."""
    names = {metric.name for metric in measured}
    same = {(m.task, m.judge, m.kind, m.rate_label): m.name for m in measured}
    pairs = ((m.name, same.get((m.task, m.judge, m.kind, m.rate_label))) for m in reported if m.name not in names)
    return {name: base for name, base in pairs if base is not None}


def _task(loaded: LoadedRun, grid: Grid, declared: Collection[str] | None) -> dict[str, Any]:
    metrics = [metric for metric in loaded.metrics if metric.task == grid.task]
    items = list(grid.rows())
    judges = list(dict.fromkeys(name for item in items if item is not None for name in item.verdicts))
    reading = next((metric for metric in metrics if metric.kind not in ("score", "rate")), None)
    return {
        "name": grid.task,
        "samples": len(grid.samples),
        "sensitive": is_sensitive([grid.task, *_names(metrics), *(s.target for s in grid.samples[:1])]),
        "outcome": column(_outcome(item) for item in items),
        "judges": {name: _judge(name, items, loaded.judges, declared) for name in judges},
        "metrics": _once({metric.name: column(_by_row(grid, metric_values, metric)) for metric in metrics}),
        "answer": None if reading is None else column(_by_row(grid, given_answers, reading)),
    }


def _once(columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The columns, with the first one's name in place of an equal one."""
    firsts: dict[str, str] = {}
    first_of = {name: firsts.setdefault(content_hash(column), name) for name, column in columns.items()}
    return {name: columns[name] if first == name else first for name, first in first_of.items()}


def _names(metrics: Sequence[MetricInfo]) -> list[str | None]:
    return [name for metric in metrics for name in (metric.name, metric.label, metric.judge, metric.rate_label)]


def _outcome(item: Item | None) -> str | None:
    if item is None:
        return None
    return MISSING if item.completion is None else str(item.completion.outcome)


def _judge(
    name: str, items: Sequence[Item | None], judges: Mapping[str, Panel], declared: Collection[str] | None
) -> dict[str, Any]:
    verdicts = [None if item is None else item.verdicts.get(name) for item in items]
    panel = judges.get(name)
    return {
        "label": column(_label(verdict, declared) for verdict in verdicts),
        "score": column(None if one is None or one.score is None else round(one.score, 4) for one in verdicts),
        "seats": 1 if panel is None else len(panel.members) * panel.n_seats,
    }


def _label(verdict: Verdict | None, declared: Collection[str] | None) -> str | None:
    if verdict is None:
        return None
    return shown(verdict.label, declared) if verdict.outcome is VerdictOutcome.OK else f"({verdict.outcome})"


def _by_row(grid: Grid, read: Any, metric: MetricInfo) -> list[Any]:
    """What a function reads from the items of each cell, in the order of the rows."""
    read_cells = [{} if cell is None else read(metric, list(cell.values())) for cell in grid.cells]
    return [cell.get(sample.key) for sample in grid.samples for cell in read_cells]


def _of_samples(
    samples: Sequence[Sample], twins: dict[Any, int], prompts: dict[str, int], declared: Collection[str] | None
) -> dict[str, Any]:
    """Columns with a row a sample; equal ``twin`` means the same turns, equal ``prompt`` the same prompt."""
    turns = [tuple((message.role, message.content) for message in sample.messages) for sample in samples]
    asked = [Item(sample, None, {}).prompt for sample in samples]
    return {
        "target": column(shown(sample.target, declared) for sample in samples),
        "style": column(sample.style for sample in samples),
        "twin": column(twins.setdefault(one, len(twins)) for one in turns),
        "prompt": column(prompts.setdefault(one, len(prompts)) for one in asked),
        "categories": {
            name: column(values) for name, values in categories(samples, redact=declared is not None).items()
        },
    }
