"""Whether the records of a side are what was scored, and agree with each other.

Reads the run's files. A contradiction (changed bytes, other samples than were frozen, a final record that was replaced,
whatever `gate_derived` finds) is told with its file and, where it can be found, its line. Where a run was not scored or
not sealed nothing can be said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.deciding.sides import Side
from harness.importing import imported
from harness.records import Call, Cell, Completion, Record, Sample, Verdict, content_hash
from harness.stages.seal import Changed, Sealed, changed, grown, read_seal, seal_file
from harness.store import Run

KINDS: dict[str, type[Record]] = {
    "samples.jsonl": Sample,
    "cells.jsonl": Cell,
    "completions.jsonl": Completion,
    "verdicts.jsonl": Verdict,
    "calls.jsonl": Call,
}
FEW = 3
"""Lines of a changed file that are told."""


class Fault(NamedTuple):
    """A contradiction: ``verdicts.jsonl:17``, or the file alone, and what is wrong with it."""

    place: str
    what: str


class Line(NamedTuple):
    """A line of a record file: its number from 1, the byte at which it begins, and its JSON if it is an object."""

    number: int
    offset: int
    row: dict[str, Any] | None


class FileCheck(NamedTuple):
    """What the files of a run say.

    Attributes:
        faults: Contradictions.
        changed: Files whose bytes are not those that were sealed, which most often follows from another contradiction.
        unknown: Why it cannot be said that the records are what was scored, where it cannot.
        notes: What a reader has to know.
    """

    faults: list[Fault]
    changed: list[Fault]
    unknown: list[str]
    notes: list[str]


def check_files(side: Side) -> FileCheck:
    """Compares the files of a side's run with what was frozen at its start and sealed when it was scored."""
    run = side.loaded.run
    found = FileCheck(list(_other_samples(side)), [], [], [])
    if not imported(run) and "samples" not in run.manifest():
        found.unknown.append("its manifest does not say which samples were frozen")
    try:
        sealed = read_seal(run)
    except ValueError as error:
        found.faults.append(Fault(seal_file(run).name, str(error)))
        return found
    if sealed is None or not run.scores_file.exists():
        found.unknown.append("nothing says which records it was scored from; harness score seals them")
        return found
    for one in changed(run, sealed):
        if one.file == run.judging_file.name:  # a rule of how to judge, no record: nothing that was measured changed
            found.unknown.append(f"{one.file} {one.how}, so other verdicts may count now")
        else:
            found.changed.extend(_located(side, one))
    names = grown(run, sealed)
    if names:
        found.notes.append(f"{run.path.name}: {', '.join(names)} grew since harness score; scored again here")
    for name in names:
        found.faults.extend(_no_records(run.path / name, sealed.files[name].n_bytes))
        if _torn(run.path / name):
            found.notes.append(f"{run.path.name}: the last line of {name} is torn; its record is owed again")
    found.faults.extend(_replaced(side, sealed))
    return found


def lines(path: Path) -> Iterator[Line]:
    """The lines of a record file, whole or not."""
    if path.exists():
        found = path.stat()
        yield from _lines(path, found.st_size, found.st_mtime_ns)


@lru_cache(8)  # the files of two runs; both sides are often of one, and each is gone through several times
def _lines(path: Path, n_bytes: int, changed_at: int) -> tuple[Line, ...]:
    found, offset = [], 0
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            found.append(Line(number, offset, _row(data)))
            offset += len(data)
    return tuple(found)


def _row(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _no_records(path: Path, end: int) -> Iterator[Fault]:
    """Whole lines after so many bytes that hold no record; the last one may be torn."""
    kind, found = KINDS.get(path.name), list(lines(path))
    for line in found[:-1] if _torn(path) else found:
        if line.offset < end:
            continue
        if line.row is None or (kind is not None and not _valid(kind, line.row)):
            yield Fault(f"{path.name}:{line.number}", "holds no record, and was written since the run was scored")


def _torn(path: Path) -> bool:
    """Whether the last line has no end: a process died while writing it."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _other_samples(side: Side) -> Iterator[Fault]:
    """Of a run that was made here, the samples are those that its manifest was sealed with."""
    sealed = side.loaded.run.manifest().get("samples", {})
    by_task: dict[str, list[str]] = {}
    for sample in side.loaded.samples:
        by_task.setdefault(sample.task, []).append(sample.key)
    for task, was in sealed.items():
        if content_hash(by_task.get(task, [])) != was:
            yield Fault("samples.jsonl", f"the samples of {task} are not those that the manifest was sealed with")


def _located(side: Side, one: Changed) -> Iterator[Fault]:
    """A changed file, with the lines that no longer belong to the rest of the run."""
    suspects = list(_strangers(side, one.file)) if one.file in KINDS else []
    shown = suspects[:FEW] if len(suspects) <= FEW else []  # a lost neighbour makes strangers of many
    yield from (Fault(f"{one.file}:{number}", f"{why}; the file {one.how}") for number, why in shown)
    if not shown:
        yield Fault(one.file, one.how)


def _strangers(side: Side, file: str) -> Iterator[tuple[int, str]]:
    """Lines that cannot be read, or speak of what the run does not have."""
    run = side.loaded.run
    known = _known(run, file)
    for line in lines(run.path / file):
        if line.row is None or not _valid(KINDS[file], line.row):
            yield line.number, "cannot be read"
        elif file == "samples.jsonl" and known and Sample.model_validate(line.row).key not in known:
            yield line.number, "no answer belongs to this sample"
        elif file == "completions.jsonl" and line.row["sample_key"] not in known:
            yield line.number, "answers no sample of the run"
        elif file == "verdicts.jsonl" and line.row["completion_key"] not in known:
            yield line.number, "judges no answer of the run"


def _known(run: Run, file: str) -> set[str]:
    """What the lines of a file refer to, or are referred to by."""
    if file == "samples.jsonl":
        return {str(line.row.get("sample_key")) for line in lines(run.completions_file) if line.row}
    if file == "completions.jsonl":
        return {
            Sample.model_validate(one.row).key for one in lines(run.samples_file) if one.row and _valid(Sample, one.row)
        }
    if file == "verdicts.jsonl":
        rows = (line.row for line in lines(run.completions_file) if line.row and _valid(Completion, line.row))
        return {Completion.model_validate(row).key for row in rows}
    return set()


def _valid(kind: type[Record], row: dict[str, Any]) -> bool:
    try:
        kind.model_validate(row)
    except ValueError:
        return False
    return True


def _replaced(side: Side, sealed: Sealed) -> Iterator[Fault]:
    """Final records, written since the run was scored, that contradict one that was there: none is ever owed again."""
    run, counting = side.loaded.run, judge_keys(side)
    for path, fields in (
        (run.cells_file, ("subject", "seed", "task")),
        (run.completions_file, ("sample_key", "model_key", "repeat")),
        (run.verdicts_file, ("completion_key", "text_hash", "judge_key", "seat")),
    ):
        end = sealed.files[path.name].n_bytes
        if not path.exists() or path.stat().st_size <= end:
            continue
        first: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line in lines(path):
            row = line.row
            if row is None or row.get("outcome") == "error" or row.get("judge_key", "") not in (*counting, ""):
                continue
            was = first.setdefault(tuple(row.get(field) for field in fields), row)
            if line.offset >= end and was != row:
                yield Fault(f"{path.name}:{line.number}", "replaces a record that was final when the run was scored")


def judge_keys(side: Side) -> set[str]:
    """The judges whose verdicts count."""
    return {spec.key for panel in side.loaded.judges.values() for spec in panel.members}


def told(faults: Sequence[Fault]) -> str:
    """The first few faults in a sentence."""
    shown = "; ".join(f"{fault.place}: {fault.what}" for fault in faults[:FEW])
    return f"{shown}; and {len(faults) - FEW} more" if len(faults) > FEW else shown
