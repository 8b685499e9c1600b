"""The labels that a redacted report may name: those that a task, its metrics and its judges declare beforehand.

Any other label or target is free text: a recorded verdict may quote an answer, a target may be what a model is to say.
Reads the metrics of a run and the folders of its judges; writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from harness.content import find
from harness.judging.combine import PREFERENCE
from harness.judging.judge_file import PATTERN, read_judge_file
from harness.records import Sample
from harness.scores import MetricInfo
from harness.tasks import LABELS

OTHER = "(other)"


def declared_labels(
    metrics: Sequence[MetricInfo], samples: Sequence[Sample], include_paths: Sequence[Path] = ()
) -> frozenset[str]:
    """What verdicts and targets of one task may say.

    Args:
        metrics: Its metrics.
        samples: Its samples, whose choices are declared.
        include_paths: Further content folders.
    """
    folders = find("judges", PATTERN, include_paths)
    judges = {metric.judge for metric in metrics if metric.judge in folders}
    of_judges = (label for name in judges if name for label in _labels_of(folders[name]))
    counted = (metric.rate_label for metric in metrics if metric.rate_label)
    offered = (choice for sample in samples for choice in sample.choices)
    return frozenset([*LABELS, *PREFERENCE, *counted, *offered, *of_judges])


def shown(label: str | None, declared: Collection[str] | None) -> str | None:
    """A label, or ``(other)`` for one that is not declared; any label where ``declared`` is ``None``."""
    return label if declared is None or label is None or label in declared else OTHER


def _labels_of(path: Path) -> set[str]:
    """The labels of a judge: those of its file and, of a rule, which names none there, those of its gold cases."""
    cases = path.parent / "cases.jsonl"
    lines = cases.read_text("utf-8").splitlines() if cases.is_file() else []
    return {*read_judge_file(path).labels, *(label for line in lines if line.strip() for label in _wanted(line))}


def _wanted(line: str) -> list[str]:
    try:
        label = json.loads(line).get("label")
    except (ValueError, AttributeError):
        return []  # `harness check` tells what is wrong with it
    return [label] if isinstance(label, str) else []
