"""Imports one file into a run: read and check everything, then append what the run does not hold yet.

`prepare_import` reads the file, the task and the run and refuses whatever cannot be imported; it writes nothing.
`write_import` is called while the run is locked: it appends samples, cell, completions, verdicts, and last the import
itself. What dies in between is finished by the same command; the same file twice adds nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.content import find
from harness.errors import UserError
from harness.importing.answers import RecordedAnswer, choose
from harness.importing.formats import RecordedFile, read_recorded
from harness.importing.items import Items, own_items, samples_of
from harness.importing.log import Import, imported, imports_file, imports_of, manifest
from harness.importing.matching import Matched, match
from harness.importing.measures import IMPORTED, recorded_judge, summed_up
from harness.importing.summary import FURTHER_ANSWER, Done, summary_of
from harness.records import Cell, Completion, JudgeSpec, ModelSpec, Sample, Verdict
from harness.store import Keyed, Run, append, latest, read, write_atomic
from harness.tasks import TaskSpec, load_spec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SEED = 0


class Wanted(NamedTuple):
    """What to import as what; ``None`` leaves a name to the file.

    Attributes:
        task: The task that was answered.
        file: The file.
        format: ``auto``, ``rows``, ``lm-eval`` or ``alpaca-eval``.
        subject: Name of the row of the tables.
        label: What the tables call it.
        judge: Name of whoever gave the verdicts in the file.
        data: A file that the task makes its items from.
    """

    task: str
    file: Path
    format: str = "auto"
    subject: str | None = None
    label: str | None = None
    judge: str | None = None
    data: str | None = None


class Prepared(NamedTuple):
    """Everything about an import but what the run holds already."""

    wanted: Wanted
    spec: TaskSpec
    file: RecordedFile
    answers: list[RecordedAnswer]
    left_out: Counter[str]
    model: ModelSpec
    subject: str
    generator: str
    judge: JudgeSpec | None
    own: list[Sample]
    notice: str | None


class _Addition(NamedTuple):
    """What an import brings, and what of it is new to the run."""

    record: Import
    matched: Matched
    new: dict[str, list[Any]]


def prepare_import(run: Run, wanted: Wanted, include_paths: Sequence[Path] = ()) -> Prepared:
    """Reads and checks a file for a run that may not be there yet.

    Raises:
        UserError: The file, the task or the run is not as it should be.
    """
    _refuse_other_runs(run)
    spec = load_spec(wanted.task, include_paths)
    file = read_recorded(wanted.file, spec, wanted.format)
    by_model = choose(file.answers, lambda answer: answer.generator, wanted.subject, "--subject", "models")
    by_judge = choose(by_model.answers, lambda answer: answer.judge, wanted.judge, "--judge", "judges")
    left_out = {
        "of another filter": file.n_rows - len(file.answers),
        "of another model": len(file.answers) - len(by_model.answers),
        FURTHER_ANSWER: sum(answer.n_further for answer in by_model.answers),
    }
    judged = any(answer.verdict is not None for answer in by_judge.answers)
    name = by_model.name or _named_after(file)
    subject = _subject_name(wanted.subject, name)
    name = next((one.name for one in imports_of(run) if one.subject == subject), name)
    with_baseline = file.format == "alpaca-eval" and IMPORTED in spec.judges
    own = own_items(run, spec, wanted.data, with_baseline, include_paths)
    prepared = Prepared(
        wanted=wanted,
        spec=spec,
        file=file,
        answers=_without_other_verdicts(by_model.answers, by_judge.answers),
        left_out=Counter({reason: count for reason, count in left_out.items() if count}),
        model=ModelSpec(backend="recorded", weights=name, templates="recorded"),
        subject=subject,
        generator=by_model.in_file or name,
        judge=recorded_judge(by_judge.name or IMPORTED) if judged else None,
        own=own.samples,
        notice=own.missing,
    )
    _addition(run, prepared)
    return prepared


def _without_other_verdicts(answers: list[RecordedAnswer], judged: list[RecordedAnswer]) -> list[RecordedAnswer]:
    """All answers; of those that another judge saw, the answer alone."""
    kept = {answer.source for answer in judged}
    return [answer if answer.source in kept else answer._replace(verdict=None) for answer in answers]


def _refuse_other_runs(run: Run) -> None:
    if run.manifest_file.exists() and not imported(run):
        raise UserError(f"{run.path}: holds a run that was made here; import recorded answers into a folder of its own")
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path}: is a file, not a folder; give another")
    if run.manifest_file.exists() or not run.path.exists():
        return
    if any(not path.name.startswith(".") for path in run.path.iterdir()):
        raise UserError(f"{run.path}: the folder is not empty and holds no run; give a new one")


def _named_after(file: RecordedFile) -> str:
    """A name for answers that have none: lm-eval puts a model's logs into a folder of the model's name."""
    return file.path.resolve().parent.name if file.format == "lm-eval" else file.path.stem


def _subject_name(wanted: str | None, generator: str) -> str:
    if wanted is not None and not NAME.fullmatch(wanted):
        raise UserError(f"--subject {wanted!r}: use letters, digits, '.', '_' and '-'; --label takes any text")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", generator).strip("._-")
    return wanted or name or "recorded"


def write_import(run: Run, prepared: Prepared) -> dict[str, Any]:
    """Appends an import to a locked run.

    Returns:
        What came of it, as plain data: rows read, matched and dropped by reason, records that are new, items lost by
        reason.

    Raises:
        UserError: The run has changed since so that it contradicts the file.
    """
    _refuse_other_runs(run)
    found = _addition(run, prepared)
    if not run.manifest_file.exists():
        write_atomic(run.manifest_file, json.dumps(manifest(), indent=2, sort_keys=True) + "\n")
    for file, name in (
        (run.samples_file, "samples"),
        (run.cells_file, "cells"),
        (run.completions_file, "completions"),
        (run.verdicts_file, "verdicts"),
    ):
        append(file, found.new[name])
    if found.record.key not in {one.key for one in imports_of(run)}:
        append(imports_file(run), [found.record])
    new = {name: len(records) for name, records in found.new.items()}
    path, n_rows = prepared.file.path, prepared.file.n_rows
    done = Done(found.record, path, n_rows, found.matched.n_rows, new, prepared.notice)
    return {**summary_of(run, done, prepared.model), "warnings": _warnings(prepared, found.matched, named=True)}


def _addition(run: Run, prepared: Prepared) -> _Addition:
    earlier = [one for one in imports_of(run) if one.subject == prepared.subject]
    if any(one.generator != prepared.generator for one in earlier):
        raise UserError(
            f"{run.path}: '{prepared.subject}' is {earlier[0].generator} there, not {prepared.generator}; "
            "give these answers another name with --subject"
        )
    rows_so_far = [] if prepared.own else samples_of(run, prepared.spec.name)
    items = Items(prepared.spec, prepared.own)
    matched = match(prepared.answers, items, prepared.model, prepared.judge)
    if not matched.completions:
        raise UserError(_nothing(prepared, matched))
    record = _record(prepared, items, matched)
    _refuse_mixture(run, record, prepared)
    cell = Cell(subject=prepared.subject, seed=SEED, task=prepared.spec.name, model=prepared.model)
    samples = [*rows_so_far, *items.samples.values()]
    new = {
        "samples": _unknown(samples, read(run.samples_file, Sample).records),
        "cells": [] if latest(read(run.cells_file, Cell).records).get(cell.key) == cell else [cell],
        "completions": _unknown_and_equal(
            latest(read(run.completions_file, Completion).records),
            matched.completions,
            matched.sources,
            f"another answer of {prepared.subject}; import this one under another --subject",
        ),
        "verdicts": _unknown_and_equal(
            latest(read(run.verdicts_file, Verdict).records),
            matched.verdicts,
            matched.sources,
            "another verdict of the same judge; import this one under another --judge",
        ),
    }
    return _Addition(record, matched, new)


def _nothing(prepared: Prepared, matched: Matched) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in matched.dropped.items())
    asked = " ".join(prepared.answers[0].asked[0].content.split())[:60] if prepared.answers else ""
    shown = f"; it asks '{asked}'"
    if prepared.own:
        shown += f", the task '{' '.join(prepared.own[0].messages[0].content.split())[:60]}': is it another task?"
    return f"{prepared.file.path}: answers no item of {prepared.spec.name} ({reasons}){shown}"


def _record(prepared: Prepared, items: Items, matched: Matched) -> Import:
    verdicts = matched.verdicts
    return Import(
        task=prepared.spec.name,
        subject=prepared.subject,
        label=prepared.wanted.label,
        name=prepared.model.weights,
        generator=prepared.generator,
        file=prepared.file.path.name,
        sha256=prepared.file.sha256,
        format=prepared.file.format,
        items=items.kind,
        judge=prepared.judge,
        labelled=any(verdict.label is not None for verdict in verdicts),
        scored=any(verdict.score is not None for verdict in verdicts),
        against=tuple(sorted({str(answer.labels["baseline"]) for answer in prepared.answers
                              if "baseline" in answer.labels})),
        layouts=tuple(metric.name for metric in prepared.spec.metrics if metric.name in _layouts()),
        n_answers=len(matched.completions),
        dropped=dict(sorted((prepared.left_out + matched.dropped).items())),
        warnings=tuple(_warnings(prepared, matched, named=False)),
    )  # fmt: skip


def _layouts() -> dict[str, Path]:
    return find("reports", "layouts/*.yaml")


def _warnings(prepared: Prepared, matched: Matched, *, named: bool) -> list[str]:
    """What a reader must know about recorded verdicts, and what no metric can make of them.

    Args:
        prepared: The import.
        matched: What of the file answers an item.
        named: Names labels that were found. A report's notes must not: a label may be any text.
    """
    judge = prepared.judge
    if judge is None:
        return []
    labels = {verdict.label for verdict in matched.verdicts if verdict.label is not None}
    scores = [verdict.score for verdict in matched.verdicts if verdict.score is not None]
    metrics = summed_up(prepared.spec)
    wanted = [metric.rate_label for metric in metrics if metric.kind == "rate"]
    found = []
    if scores and not any(metric.kind == "score" for metric in metrics):
        found.append(f"{prepared.subject}: the scores of {judge.name} are kept, but {prepared.spec.name} has no score.")
    if labels and not any(metric.kind != "score" for metric in metrics):
        found.append(f"{prepared.subject}: the labels of {judge.name} are kept, but {prepared.spec.name} has no label.")
    if labels and wanted and not labels & set(wanted):
        shown = f" ({', '.join(sorted(labels)[:5])})" if named else ""
        found.append(f"{prepared.subject}: no label of {judge.name}{shown} is '{wanted[0]}', the one that is counted.")
    return found


def _refuse_mixture(run: Run, record: Import, prepared: Prepared) -> None:
    """One baseline and one recorded judge for each metric that rests on recorded verdicts alone."""
    others = [one for one in imports_of(run) if one.task == record.task]
    for one in others:
        if one.against != record.against:
            sides = [", ".join(each.against) or "nobody" for each in (one, record)]
            raise UserError(
                f"{run.path}: the preferences there are against {sides[0]}, these against {sides[1]}, which do not "
                "compare; import into a folder of its own"
            )
        if IMPORTED in prepared.spec.judges and one.judge and record.judge and one.judge.key != record.judge.key:
            raise UserError(
                f"{run.path}: the verdicts there are of {one.judge.name}, these of {record.judge.name}, which do not "
                "compare; import into a folder of its own"
            )


def _unknown(wanted: Sequence[Any], stored: Sequence[Keyed]) -> list[Any]:
    """The records whose key is not stored, each once."""
    known = {record.key for record in stored}
    return [record for record in {one.key: one for one in wanted}.values() if record.key not in known]


def _unknown_and_equal(
    known: Mapping[str, Any], wanted: Sequence[Any], sources: Mapping[str, str], contradiction: str
) -> list[Any]:
    """The records that are not known.

    Raises:
        UserError: One is known otherwise.
    """
    for record in wanted:
        if record.key in known and known[record.key] != record:
            raise UserError(f"{sources[record.key]}: the run holds, of this item, {contradiction}")
    return [record for record in wanted if record.key not in known]
