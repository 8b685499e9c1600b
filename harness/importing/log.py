"""What was imported into a run: ``imports.jsonl``, one record a file, and the configuration that follows from it.

An imported run has no recipe: its subjects are those of its imports, in the order in which they first came, and its
tasks are theirs. The first subject is the one that the others are compared with.
"""

from __future__ import annotations

import platform
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

import harness
from harness.blocks import SubjectConfig, TaskConfig
from harness.config import RunConfig
from harness.records import JudgeSpec, Record, content_hash
from harness.store import Run, latest, read
from harness.trainers import TrainerSettings


class Import(Record):
    """One imported file.

    Attributes:
        task: The task whose items were answered.
        subject: The row of the tables that the answers belong to.
        label: What the user calls it, ``None`` where only the file names it.
        name: Who answered, as the model specification has it.
        generator: Who answered, as the file has it.
        file: Name of the file.
        sha256: Hash of the file.
        format: ``rows``, ``lm-eval`` or ``alpaca-eval``.
        items: Whose the items are: the ``task``'s own, or those of the imported ``rows``.
        judge: Who gave the verdicts of the file, ``None`` where there are none.
        labelled: Whether any verdict is a label.
        scored: Whether any verdict is a score.
        against: The other sides of a pairwise preference.
        layouts: Built-in tables for the task's metrics.
        n_answers: Items that the file answers.
        dropped: Rows of the file that answered nothing, and further answers in a row, by reason.
        warnings: Sentences for the report.
    """

    task: str
    subject: str
    label: str | None = None
    name: str
    generator: str
    file: str
    sha256: str
    format: str
    items: Literal["task", "rows"]
    judge: JudgeSpec | None = None
    labelled: bool = False
    scored: bool = False
    against: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    n_answers: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """SHA-256 of what was imported as what."""
        identity = [self.task, self.subject, self.label, self.name, self.sha256, self.format]
        return content_hash([*identity, self.judge and self.judge.key])

    @property
    def final(self) -> bool:
        """An import that is written is whole."""
        return True


def manifest() -> dict[str, Any]:
    """The manifest of an imported run, the same for all: what was imported stands in its records."""
    return {
        "schema_version": 1,
        "imported": True,
        "environment": {"harness": harness.__version__, "python": platform.python_version()},
    }


def imported(run: Run) -> bool:
    """Whether a run's answers were imported; a folder without a manifest is no run yet."""
    return run.manifest_file.exists() and run.manifest().get("imported") is True


def imports_file(run: Run) -> Path:
    """Where the imports of a run stand."""
    return run.path / "imports.jsonl"


def layout_file(run: Run, task: str) -> Path:
    """Where the table of a task's metrics is laid out."""
    return run.path / "layouts" / f"{task}.yaml"


def imports_of(run: Run) -> list[Import]:
    """Everything that was imported into a run, in order."""
    return list(latest(read(imports_file(run), Import).records).values())


def imported_config(run: Run) -> RunConfig:
    """The configuration of an imported run; what a recipe says of training and preparing is never read of it."""
    imports = imports_of(run)
    subjects = [_subject(name, imports) for name in dict.fromkeys(one.subject for one in imports)]
    tasks = dict.fromkeys(one.task for one in imports)
    own = [str(path) for task in tasks if (path := layout_file(run, task)).exists()]
    return RunConfig(
        name=run.path.resolve().name,
        description="answers that were recorded elsewhere",
        subjects=tuple(subjects),
        trainer=TrainerSettings(steps=1),
        tasks={task: TaskConfig() for task in tasks},
        baselines=(subjects[0].name,) if len(subjects) > 1 else (),
        layouts=(*dict.fromkeys(layout for one in imports for layout in one.layouts), *own),
        notes=tuple(note for one in imports for note in (_note(one), *one.warnings)),
    )


def _subject(name: str, imports: list[Import]) -> SubjectConfig:
    own = [one for one in imports if one.subject == name]
    label = next((one.label for one in reversed(own) if one.label is not None), own[0].name)
    return SubjectConfig(name=name, label=label, method="recorded")


def _note(one: Import) -> str:
    parts = [f"{one.subject}: {one.n_answers} recorded answers to {one.task} from {one.file}"]
    if one.judge is not None:
        parts.append(f"with verdicts of {one.judge.name}")
    if one.against:
        parts.append(f"against {', '.join(one.against)}")
    dropped = ", ".join(f"{count} {reason}" for reason, count in one.dropped.items())
    return " ".join(parts) + (f"; rows not used: {dropped}" if dropped else "") + "."
