"""The order of the browser's rows: by task, sample, subject and seed.

Every task has a row for each of its samples, subjects and seeds, so that where a row stands says what it is, and the
answers to one question stand side by side. A place that the run does not plan holds ``None``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.records import Sample
from harness.scores import Scores
from harness.stages.gather import Item
from harness.stages.loading import LoadedRun


class Grid(NamedTuple):
    """All rows of one task.

    Attributes:
        task: Its name.
        samples: Its samples, in order.
        cells: Items by sample key for every subject and seed, in the order of the rows; ``None`` where not planned.
    """

    task: str
    samples: list[Sample]
    cells: list[dict[str, Item] | None]

    def rows(self) -> Iterator[Item | None]:
        """Its items: sample by sample, within one by subject, within that by seed."""
        for sample in self.samples:
            for cell in self.cells:
                yield None if cell is None else cell.get(sample.key)

    def __len__(self) -> int:
        return len(self.samples) * len(self.cells)


class Axes(NamedTuple):
    """The subjects and seeds of a run, in the order of the rows."""

    subjects: list[str]
    seeds: list[int]


def axes(loaded: LoadedRun, scores: Scores) -> Axes:
    """The subjects in the order of the tables, and the seeds."""
    named = [subject.name for subject in scores.subjects]
    subjects = dict.fromkeys([*named, *(subject for subject, _, _ in loaded.items)])
    return Axes(list(subjects), sorted({seed for _, seed, _ in loaded.items}))


def grids(loaded: LoadedRun, on: Axes) -> list[Grid]:
    """The rows of every task, in the order in which the tasks' samples were sealed."""
    by_task: dict[str, dict[str, Sample]] = {}
    for sample in loaded.samples:
        by_task.setdefault(sample.task, {})[sample.key] = sample
    return [Grid(task, list(samples.values()), _cells(loaded, on, task)) for task, samples in by_task.items()]


def _cells(loaded: LoadedRun, on: Axes, task: str) -> list[dict[str, Item] | None]:
    found = [loaded.items.get((subject, seed, task)) for subject in on.subjects for seed in on.seeds]
    return [None if items is None else {item.sample.key: item for item in items} for items in found]
