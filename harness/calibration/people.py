"""Labels that people gave on a sheet, as verdicts of judges named ``human:NAME``, and as labels to calibrate by.

Reads a filled-in CSV file (or the JSON file that the form saves) and the sheet's key; writes nothing. A row without a
label stays unlabelled; a label that was not offered is a `UserError` with ``FILE:LINE``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness.calibration.cells import restored
from harness.calibration.labels import Labelled, Labels, with_lengths
from harness.calibration.sheets import SheetKey
from harness.calibration.values import as_number, is_blank, plain, positive_first
from harness.errors import UserError, unknown_name
from harness.importing.answers import whole
from harness.importing.formats import LONGEST_CELL
from harness.importing.measures import recorded_judge
from harness.judging import JudgeItem
from harness.records import Cell, Completion, JudgeSpec, Sample, Verdict, VerdictOutcome, content_hash
from harness.rows.columns import Table
from harness.rows.files import Row, read_rows
from harness.store import Run, latest, read

HUMAN = "human:"


class Filled(NamedTuple):
    """What came back.

    Attributes:
        judge: The person.
        labels: The labels that were offered; empty where scores were.
        verdicts: What the person said.
        n_unlabelled: Items of the key that the person left out or was not given.
    """

    judge: JudgeSpec
    labels: tuple[str, ...]
    verdicts: list[Verdict]
    n_unlabelled: int


def human_judge(name: str) -> JudgeSpec:
    """A person as a judge."""
    return recorded_judge(HUMAN + name)


def read_key(path: Path) -> SheetKey:
    """The key of a sheet.

    Raises:
        UserError: There is none, or it is something else.
    """
    try:
        return SheetKey.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such key; it was written beside the sheet") from None
    except (OSError, ValidationError, ValueError):
        raise UserError(f"{path}: not the key of a labelling sheet") from None


def read_sheet(sheet: Path, key: SheetKey, name: str) -> Filled:
    """The labels of one person.

    Args:
        sheet: The filled-in file.
        key: The sheet's key.
        name: Who filled it in.

    Raises:
        UserError: It is another sheet's, an item is there twice with two labels, or a label was not offered.
    """
    csv.field_size_limit(LONGEST_CELL)
    table = Table(_semicolon_rows(sheet) or read_rows(sheet))
    columns = {column: table.need(column) for column in ("id", "label")}
    judge = human_judge(name)
    found: dict[str, Verdict] = {}
    for row in table.rows:
        item = key.items.get(str(row.values.get(columns["id"], "")).strip())
        if item is None:
            raise UserError(
                f"{row.source}: no item {str(row.values.get(columns['id']))[:20]!r} in the key; is it another sheet's?"
            )
        if is_blank(row.values.get(columns["label"])):
            continue
        note = row.values.get(table.find("note") or "")
        verdict = Verdict(
            completion_key=item.completion_key,
            text_hash=item.text_hash,
            judge_key=judge.key,
            outcome=VerdictOutcome.OK,
            reason="" if is_blank(note) else whole(restored(str(note))),
            **_given(row, row.values[columns["label"]], key),
        )
        first = found.setdefault(verdict.key, verdict)
        if (first.label, first.score) != (verdict.label, verdict.score):
            raise UserError(f"{row.source}: this item has another label further up; keep one of the two rows")
    return Filled(judge, key.labels, list(found.values()), len(key.items) - len(found))


def _semicolon_rows(sheet: Path) -> list[Row]:
    """The rows of a CSV file that a spreadsheet saved with semicolons, as many do in Europe; none of any other."""
    if not sheet.is_file() or not re.match(rb"(\xef\xbb\xbf)?\"?id\"?;", sheet.read_bytes()[:8]):
        return []
    try:
        reader = csv.reader(io.StringIO(sheet.read_text(encoding="utf-8-sig"), newline=""), delimiter=";")
    except UnicodeDecodeError:
        raise UserError(f"{sheet}: not UTF-8: save the sheet as CSV in UTF-8") from None
    header, found, line = next(reader), [], reader.line_num + 1
    for cells in reader:
        found.append(Row(f"{sheet.name}:{line}", dict(zip(header, cells, strict=False))))
        line = reader.line_num + 1
    return found


def _given(row: Row, cell: Any, key: SheetKey) -> dict[str, Any]:
    """Label or score of a cell."""
    if key.scale is not None:
        score, (low, high) = as_number(cell), key.scale
        if score is None or not low <= score <= high:
            raise UserError(f"{row.source}: the label {str(cell)[:40]!r} is not a number from {low} to {high}")
        return {"score": score}
    offered = {plain(label): label for label in key.labels}
    label = offered.get(plain(cell))
    if label is None:
        raise UserError(f"{row.source}: {unknown_name('label', str(cell)[:40], key.labels)}")
    return {"label": label}


def labels_of_people(run: Run, people: Sequence[Filled], positive: str | None = None) -> Labels:
    """What people say of a run's answers, to calibrate a judge by: the majority of labels, the mean of scores.

    Args:
        run: The run.
        people: What each of them said; none of an item without a majority is kept.
        positive: The label that sensitivity is about, where they gave labels; the one that names harm, or the first.

    Raises:
        UserError: Nobody gave a label, or none to an answer that the run holds, or not two labels were offered.
    """
    sides = _sides(people[0].labels, positive)
    samples = {one.key: one for one in read(run.samples_file, Sample).records}
    completions = latest(read(run.completions_file, Completion).records)
    subjects = _subjects(run)
    given: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in (verdict for one in people for verdict in one.verdicts):
        given.setdefault((verdict.completion_key, verdict.text_hash), []).append(verdict)
    if not given:
        raise UserError(f"{run.path}: no label was given: every row of {_names(people)} is blank")
    rows, n_undecided = [], 0
    for (key, text_hash), verdicts in sorted(given.items()):
        completion = completions.get(key)
        sample = samples.get(completion.sample_key) if completion is not None else None
        if completion is None or sample is None or completion.text_hash != text_hash:
            continue
        truth = _together(verdicts)
        if truth is None:
            n_undecided += 1
            continue
        parts = {"task": (sample.task,), "subject": subjects.get((sample.task, completion.model_key), ("?",))}
        rows.append(Labelled(JudgeItem(sample, completion), truth, parts, None, "", key))
    if not rows:
        raise UserError(f"{run.path}: holds none of the answers that were labelled")
    name = _names(people)
    notes = (
        f"{len(rows)} answers labelled by {name}",
        *([f"{n_undecided} without a majority: left out"] * bool(n_undecided)),
    )
    sha256 = content_hash([[row.item.completion.key, row.item.text_hash, row.truth] for row in rows])
    return Labels(name, sha256, with_lengths(rows), *sides, notes)


def _sides(labels: tuple[str, ...], positive: str | None) -> tuple[str | None, str | None]:
    """The positive and the negative label; neither of scores."""
    if not labels:
        return None, None
    if len(labels) != 2:
        raise UserError(f"the sheet offered {len(labels)} labels; a judge is calibrated by two")
    if positive is not None and positive not in labels:
        raise unknown_name("label", positive, labels)
    first = positive or positive_first(labels)[0]
    return first, next(label for label in labels if label != first)


def _names(people: Sequence[Filled]) -> str:
    return " + ".join(one.judge.name for one in people)


def _subjects(run: Run) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for cell in latest(read(run.cells_file, Cell).records).values():
        place = (cell.task, cell.model.key)
        found[place] = tuple(sorted({*found.get(place, ()), cell.subject}))
    return found


def _together(verdicts: Sequence[Verdict]) -> str | float | None:
    scores = [one.score for one in verdicts if one.score is not None]
    if scores:
        return sum(scores) / len(scores)
    (label, n), *_ = Counter(one.label for one in verdicts).most_common()
    return label if 2 * n > len(verdicts) else None


def clusters_of(run: Run, votes: Mapping[str, Mapping[str, object]]) -> dict[str, str | None]:
    """Item of `harness.calibration.raters.votes_of` → the cluster of its sample; answers to one prompt are of one."""
    samples = {one.key: one.cluster or one.key for one in read(run.samples_file, Sample).records}
    completions = latest(read(run.completions_file, Completion).records)
    items = {item for rated in votes.values() for item in rated}
    keys = {item: completions.get(item.partition(" ")[0]) for item in items}
    return {item: samples.get(one.sample_key) if one is not None else None for item, one in keys.items()}
