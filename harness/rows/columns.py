"""Columns recognised by name, and cells read as text or as yes-or-no.

Names are compared without case, and with spaces and hyphens as underscores (``Goal``, ``Forbidden Prompt``). A missing
column is a `UserError` that names the file, the columns found, those needed, and the nearest name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.rows.files import Row, read_rows

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class Table:
    """Rows with their column names."""

    def __init__(self, data: str | Path | Sequence[Row]) -> None:
        self.rows = read_rows(data) if isinstance(data, (str, Path)) else list(data)
        self.name = str(data) if isinstance(data, (str, Path)) else _place(self.rows)
        self.columns = {_plain(name): name for row in reversed(self.rows) for name in reversed(row.values)}

    def find(self, *names: str) -> str | None:
        """The file's own name of the first of these columns that it has, or ``None``."""
        return next((self.columns[name] for name in names if name in self.columns), None)

    def has(self, *names: str) -> bool:
        """Whether all of these columns are there."""
        return all(name in self.columns for name in names)

    def need(self, *names: str) -> str:
        """The file's own name of the first of these columns that it has.

        Raises:
            UserError: It has none of them.
        """
        found = self.find(*names)
        if found is None:
            raise self.missing(" or ".join(f"'{name}'" for name in names), names)
        return found

    def missing(self, needed: str, names: Sequence[str]) -> UserError:
        """The error for columns that are not there; ``names`` are compared with those that are."""
        near = [
            f"rename '{self.columns[close[0]]}' to '{name}'?"
            for name in names
            if name not in self.columns and (close := difflib.get_close_matches(name, self.columns, n=1, cutoff=0.75))
        ]
        found = ", ".join(f"'{name}'" for name in sorted(self.columns.values())) or "none"
        return UserError(f"{self.name}: no column {needed}; found {found}" + (f"; {near[0]}" if near else ""))


def text(row: Row, column: str | None, *, optional: bool = False) -> str:
    """A cell as text; a null is empty text, and so is an absent optional cell.

    Raises:
        UserError: The cell is of another type, or absent and needed.
    """
    value = row.values.get(column) if column is not None else None
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        if column is not None and column not in row.values and not optional:
            raise UserError(f"{row.source}: no '{column}' here, though other rows have it")
        return ""
    raise UserError(f"{row.source}: '{column}' must be text, not {type(value).__name__}")


def boolean(row: Row, column: str) -> bool:
    """A cell as true or false; ``True``/``False``/``1``/``0`` also as text, in any case.

    Raises:
        UserError: It is neither.
    """
    value: Any = row.values.get(column)
    known = _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, (bool, int, str)) else None
    if known is None:
        raise UserError(f"{row.source}: '{column}' must be true or false, not {str(value)[:40]!r}")
    return known


def _plain(name: str) -> str:
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")


def _place(rows: Sequence[Row]) -> str:
    return rows[0].source.rpartition(":")[0] if rows else "the data"
