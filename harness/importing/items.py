"""Which item of a task a recorded answer belongs to.

Where the task's own items can be had, an answer belongs to those that ask the same thing, word for word: an item
without an answer stays in the denominator, an answer without an item is told and left out. Where they cannot, every
question of the file is an item, and nobody can tell what the file left out. The first import decides it for the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from harness.errors import UserError
from harness.importing.answers import RecordedAnswer
from harness.importing.log import Import, imports_of
from harness.records import Message, Sample
from harness.store import Run, read
from harness.tasks import TaskSpec, load_task


class OwnItems(NamedTuple):
    """The task's own items, or none and why."""

    samples: list[Sample]
    missing: str | None


def own_items(run: Run, spec: TaskSpec, data: str | None, from_rows: bool, include_paths: Sequence[Path]) -> OwnItems:
    """The items that the task brings itself.

    Args:
        run: The run; what its first import decided holds.
        spec: The task.
        data: A file that the task makes its items from, if the user named one.
        from_rows: An item is more than what was asked (a baseline's answer), so the file alone has the items.
        include_paths: Further content folders.

    Raises:
        UserError: The data that the user named are not as they should be, or not those of the run.
    """
    earlier = [one for one in imports_of(run) if one.task == spec.name]
    if data is None and (from_rows or earlier):
        return _frozen(run, spec, earlier)
    try:
        samples = load_task(spec.name, include_paths, {} if data is None else {"data": data}).samples
    except UserError as error:
        if data is not None:
            raise
        return OwnItems([], str(error))
    if data is not None and (from_rows or earlier):
        _refuse_other_items(run, spec, samples, earlier)
    return OwnItems(samples, None)


def _frozen(run: Run, spec: TaskSpec, earlier: Sequence[Import]) -> OwnItems:
    if not earlier or earlier[0].items == "rows":
        return OwnItems([], None)
    return OwnItems(samples_of(run, spec.name), None)


def _refuse_other_items(run: Run, spec: TaskSpec, samples: Sequence[Sample], earlier: Sequence[Import]) -> None:
    if not earlier or earlier[0].items == "rows":
        raise UserError(f"--data: the items of {spec.name} come with the answers here; leave --data out")
    if {sample.key for sample in samples} != {sample.key for sample in samples_of(run, spec.name)}:
        raise UserError(f"--data: other items than those that {run.path} holds; import into a folder of its own")


def samples_of(run: Run, task: str) -> list[Sample]:
    """The samples of one task that a run holds."""
    found: Iterable[Sample] = read(run.samples_file, Sample).records
    return [sample for sample in found if sample.task == task]


class Items:
    """Finds the items that an answer belongs to.

    Args:
        spec: The task.
        own: Its own items, empty where an item is made of every question.
    """

    def __init__(self, spec: TaskSpec, own: Sequence[Sample]) -> None:
        self.spec = spec
        self.kind: Literal["task", "rows"] = "task" if own else "rows"
        self.samples = {sample.key: sample for sample in own}
        self._asking: dict[tuple[Message, ...], list[Sample]] = {}
        for sample in own:
            self._asking.setdefault(sample.messages, []).append(sample)

    def of(self, answer: RecordedAnswer) -> list[Sample]:
        """The items that ask what was answered; none, where the task asks nothing of the kind."""
        if self.kind == "task":
            return self._asking.get(answer.asked, [])
        sample = self._made(answer)
        return [self.samples.setdefault(sample.key, sample)]

    def _made(self, answer: RecordedAnswer) -> Sample:
        labels = self.spec.labels
        if labels and answer.target is None:
            raise UserError(f"{answer.source}: no 'target', which {self.spec.name} compares answers with")
        if labels and answer.target not in labels:
            raise UserError(f"{answer.source}: the target '{answer.target}' is none of {', '.join(labels)}")
        try:
            sample = Sample(
                task=self.spec.name,
                task_version=self.spec.version,
                messages=answer.asked,
                style=self.spec.style,
                choices=self.spec.choices,
                target=answer.target,
                labels=answer.labels,
                cluster=answer.cluster,
                source=answer.source,
            )
            assert sample.key  # which JSON must be able to hold
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(f"{answer.source}: no item can be made of it ({reason})") from None
        return sample
