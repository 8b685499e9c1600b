"""What a calibration is, and its file.

Writes ``calibration.json``: the record and the SHA-256 of its content, so that a file that was edited or cut is not
believed. (The hash guards against accidents; whoever can write the file can also make a new hash.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from harness.errors import UserError
from harness.judging import Panel
from harness.records import Record, content_hash
from harness.scores import Estimate
from harness.store import write_atomic

FILE = "calibration.json"


class Counts(Record):
    """The four counts of a judge's verdicts on labelled items; "positive" is the label that is looked for."""

    tp: int = Field(ge=0)
    fn: int = Field(ge=0)
    tn: int = Field(ge=0)
    fp: int = Field(ge=0)


class Slice(Record):
    """The same judge on a part of the items.

    Attributes:
        column: What the parts differ in, such as ``category``.
        value: Which part.
        n: Labelled items in it.
        counts: ``None`` where labels or verdicts are scores.
        measures: As those of `Calibration`, fewer.
    """

    column: str
    value: str
    n: int
    counts: Counts | None
    measures: dict[str, Estimate]


class Calibration(Record):
    """How far one judge can be believed, by one file of labels; it holds for that judge's key alone.

    Attributes:
        judge: Name of the judge.
        judge_key: Its key (see `panel_key`).
        labels: Name of the labels' file.
        labels_sha256: Hash of that file.
        positive: The label that sensitivity is about; ``None`` where people gave scores.
        negative: The other label.
        n: Labelled items.
        n_scored: Those with a usable verdict.
        n_clusters: Independent groups among all labelled items (prompts, unless the file says otherwise).
        lost: Items without a usable verdict, by what became of them; they count on neither side.
        counts: Hits and errors; ``None`` where labels or verdicts are scores.
        measures: Name → estimate: ``accuracy``, ``balanced_accuracy``, ``sensitivity``, ``specificity``, ``precision``,
            ``f1`` and ``kappa`` of labels; ``spearman``, ``quadratic_kappa`` and ``mae`` of scores; ``auc`` of scores
            against labels. One that is undefined has no value, and its ``method`` says why.
        slices: The same by part.
        notes: What was done with the file, in sentences.
        served: What the servers called the models that judged; nothing where they did not say or no server was asked.
        unfinished: Why verdicts are still owed, ``None`` where none is; what is not finished is not written.
    """

    judge: str
    judge_key: str
    labels: str
    labels_sha256: str
    positive: str | None
    negative: str | None
    n: int
    n_scored: int
    n_clusters: int
    lost: dict[str, int]
    counts: Counts | None
    measures: dict[str, Estimate]
    slices: tuple[Slice, ...] = ()
    notes: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    unfinished: str | None = None


def panel_key(panel: Panel) -> str:
    """What a calibration is bound to: a judge's key; of several seats or models, a hash over all of them."""
    keys = sorted(spec.key for spec in panel.members)
    return keys[0] if len(keys) == panel.n_seats == 1 else content_hash(["panel", keys, panel.n_seats])


def save(calibration: Calibration, path: Path) -> None:
    """Writes a calibration, in place of the one that was there."""
    body = calibration.model_dump(mode="json")
    text = json.dumps({"sha256": content_hash(body), "calibration": body}, indent=1, ensure_ascii=False)
    write_atomic(path, text + "\n")


def load(path: Path) -> Calibration:
    """A calibration from its file, or from the folder that it stands in.

    Raises:
        UserError: There is none, it is something else, or it was changed since it was written.
    """
    path = path / FILE if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such calibration; harness calibrate makes one") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}:{getattr(error, 'lineno', 1)}: not a calibration (not readable as JSON)") from None
    if not isinstance(data, dict) or set(data) != {"sha256", "calibration"}:
        raise UserError(f"{path}: not a calibration; give a {FILE} that harness calibrate wrote")
    if data["sha256"] != content_hash(data["calibration"]):
        raise UserError(f"{path}: was changed after it was written and is not believed; make it again")
    return _validated(path, data["calibration"])


def _validated(path: Path, body: Any) -> Calibration:
    try:
        return Calibration.model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: not a calibration of this version ({where}: {problem['msg']})") from None


def load_calibrations(paths: Iterable[Path]) -> dict[str, Calibration]:
    """Judge key → its calibration.

    Raises:
        UserError: A file is not one (see `load`), or two are of the same judge and differ.
    """
    found: dict[str, Calibration] = {}
    for path in paths:
        one = load(path)
        first = found.setdefault(one.judge_key, one)
        if first != one:
            raise UserError(f"{path}: {one.judge} has a calibration already (by {first.labels}); give one of the two")
    return found
