"""The formats of recorded input, told apart by their columns.

Reads one file; see the module of each format for its columns. The file's hash makes the same file known again.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.errors import unknown_name
from harness.importing.alpaca_eval import read_alpaca_eval
from harness.importing.answers import RecordedAnswer
from harness.importing.lm_eval_log import read_lm_eval
from harness.importing.plain_rows import read_plain_rows
from harness.rows.columns import Table
from harness.rows.files import read_rows
from harness.tasks import TaskSpec

FORMATS: dict[str, Callable[[Table, TaskSpec], list[RecordedAnswer]]] = {
    "rows": read_plain_rows,
    "lm-eval": read_lm_eval,
    "alpaca-eval": read_alpaca_eval,
}
LONGEST_CELL = 2**31 - 1
"""Characters; the csv module's own limit of 131,072 is less than a long answer."""


class RecordedFile(NamedTuple):
    """A file, its format, how many rows it has, and the answers in them, in order."""

    path: Path
    sha256: str
    format: str
    n_rows: int
    answers: list[RecordedAnswer]


def read_recorded(path: Path, spec: TaskSpec, format_: str) -> RecordedFile:
    """Reads and checks a whole file.

    Args:
        path: The file.
        spec: The task that its answers belong to.
        format_: A name in `FORMATS`, or ``auto``.

    Raises:
        UserError: The format is unknown, or the file is not as it should be.
    """
    if format_ not in ("auto", *FORMATS):
        raise unknown_name("format", format_, ("auto", *FORMATS))
    csv.field_size_limit(LONGEST_CELL)
    table = Table(read_rows(path))
    found = _detected(table) if format_ == "auto" else format_
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return RecordedFile(path, sha256, found, len(table.rows), FORMATS[found](table, spec))


def _detected(table: Table) -> str:
    if table.has("output_2", "preference"):
        return "alpaca-eval"
    if table.has("doc", "resps") or table.has("doc", "filtered_resps"):
        return "lm-eval"
    return "rows"
