"""The sides of a comparison: a run folder ``runs/x``, or a subject of one, ``runs/x:subject``.

Reads each run once, however many of its subjects are compared. Labels are the shortest that tell the sides apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, unknown_name
from harness.records import Sample
from harness.scores import MetricInfo
from harness.stages.gather import Item
from harness.stages.loading import LoadedRun, load
from harness.stages.plan import stored_config
from harness.store import Run


class Side(NamedTuple):
    """One subject of one run.

    Attributes:
        label: What outputs call it; unique among the sides that were opened together.
        loaded: The run.
        subject: Name of the subject in it.
    """

    label: str
    loaded: LoadedRun
    subject: str

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its training seeds, in order."""
        return self.loaded.config.seeds

    def items(self, task: str, seed: int) -> Sequence[Item]:
        """Every planned sample of a task with what became of it; none where the run has no such task."""
        return self.loaded.items.get((self.subject, seed, task), ())


def open_sides(names: Sequence[str], include_paths: Sequence[Path] = ()) -> list[Side]:
    """Opens sides in the order given.

    Args:
        names: Run folders, each with ``:subject`` where the run has several.
        include_paths: Further content folders.

    Raises:
        UserError: A folder is no run, a subject is not in it, several are and none is named, or a side stands twice.
    """
    once = cache(lambda folder: load(Run.open(folder), include_paths))
    found = []
    for name in names:
        folder, subject = _parts(name)
        loaded = once(folder)
        found.append(Side(name, loaded, _subject(name, loaded, subject)))
    _refuse_twins(names, found)
    return [side._replace(label=label) for side, label in zip(found, _labels(names, found), strict=True)]


def subjects_of(name: str) -> list[str]:
    """A name as it is where it names a subject, else one such name for each subject of the run."""
    folder, subject = _parts(name)
    if subject is not None:
        return [name]
    return [f"{name}:{one.name}" for one in stored_config(Run.open(folder)).subjects]


def restricted(side: Side, keep: Callable[[Sample], bool]) -> Side:
    """The side on a part of its items."""
    items = {cell: [item for item in each if keep(item.sample)] for cell, each in side.loaded.items.items()}
    return side._replace(loaded=side.loaded._replace(items=items))


def without_version(side: Side) -> Side:
    """The side with the version taken out of its items' keys, so that equal items of two versions of a task pair."""
    items = {
        cell: [item._replace(sample=unversioned(item.sample)) for item in each]
        for cell, each in side.loaded.items.items()
    }
    return side._replace(loaded=side.loaded._replace(items=items))


def unversioned(sample: Sample) -> Sample:
    """The sample as any version of its task has it; its key is the same in all of them."""
    return Sample.model_validate({**sample.model_dump(), "task_version": "any"})  # a copy would keep the cached key


def shared_metrics(sides: Sequence[Side]) -> list[MetricInfo]:
    """The metrics that all sides have, as the first side has them, in its order."""
    others = [{(metric.name, metric.task) for metric in side.loaded.metrics} for side in sides[1:]]
    return [one for one in sides[0].loaded.metrics if all((one.name, one.task) in other for other in others)]


def _parts(name: str) -> tuple[Path, str | None]:
    """Folder and subject; a folder whose own name holds a colon wins."""
    folder, colon, subject = name.rpartition(":")
    if not colon or Run(Path(name)).manifest_file.is_file():
        return Path(name).resolve(), None
    return Path(folder).resolve(), subject


def _subject(name: str, loaded: LoadedRun, subject: str | None) -> str:
    known = [one.name for one in loaded.config.subjects]
    if subject is not None and subject not in known:
        raise UserError(f"{name}: {unknown_name('subject', subject, known)}")
    if subject is None and len(known) != 1:
        raise UserError(f"{name}: the run has {len(known)} subjects; name one as {name}:SUBJECT ({', '.join(known)})")
    return known[0] if subject is None else subject


def _refuse_twins(names: Sequence[str], sides: Sequence[Side]) -> None:
    places = [(side.loaded.run.path, side.subject) for side in sides]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UserError(f"{names[i]}: is the same side as {names[places.index(place)]}; give each side once")


def _labels(names: Sequence[str], sides: Sequence[Side]) -> list[str]:
    subjects = [side.subject for side in sides]
    runs = [side.loaded.run.path.name for side in sides]
    both = [f"{run}:{subject}" for run, subject in zip(runs, subjects, strict=True)]
    return next((each for each in (subjects, runs, both) if len(set(each)) == len(each)), list(names))
