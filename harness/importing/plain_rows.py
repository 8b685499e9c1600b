"""Plain rows: a prompt and a response, perhaps a verdict, perhaps facts about the item.

Reads the columns ``instruction`` (or ``prompt``, ``question``, ``goal``), ``input``, ``response`` (or ``output``,
``completion``, ``answer``), ``label``, ``score``, ``reason``, ``judge``, ``generator`` (or ``model``), ``target``,
``labels`` (an object, in CSV as JSON) and ``cluster``. Of a task whose items hold an answer to be analysed, ``answer``
is that answer. An empty response is an answer; a null is none. A row without label and score has no verdict.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import JsonValue

from harness.errors import UserError
from harness.importing.answers import Given, RecordedAnswer, whole
from harness.records import Message
from harness.rows.columns import Table, text
from harness.rows.files import Row
from harness.tasks import TaskSpec

PROMPT = ("instruction", "prompt", "question", "goal", "forbidden_prompt")
RESPONSE = ("response", "output", "completion")
ANALYSES = ("guided_analysis", "unguided_analysis")


def read_plain_rows(table: Table, spec: TaskSpec) -> list[RecordedAnswer]:
    """One answer a row.

    Raises:
        UserError: A column is missing, or a cell is of the wrong kind.
    """
    prompt, more = table.need(*PROMPT), table.find("input")
    analysed = table.need("answer") if spec.style in ANALYSES else None
    answer = table.need(*RESPONSE) if analysed else table.need(*RESPONSE, "answer")
    generator = "generator" if table.find("generator") else "model"
    return [
        RecordedAnswer(
            source=row.source,
            asked=_asked(row, prompt, more, analysed),
            text=response(row, answer),
            target=_told(table, row, "target"),
            labels=_labels(table, row),
            cluster=_told(table, row, "cluster"),
            verdict=_verdict(table, row),
            generator=_told(table, row, generator),
            judge=_told(table, row, "judge"),
        )
        for row in table.rows
    ]


def response(row: Row, column: str) -> str | None:
    """An answer as it was written; ``None`` for a null."""
    value = row.values.get(column)
    return None if value is None or value != value else whole(text(row, column))  # only NaN differs from itself


def _asked(row: Row, prompt: str, more: str | None, analysed: str | None) -> tuple[Message, ...]:
    messages = [Message(role="user", content=whole(text(row, prompt)))]
    if extra := text(row, more, optional=True):
        messages.append(Message(role="input", content=whole(extra)))
    if analysed is not None:
        messages.append(Message(role="assistant", content=whole(text(row, analysed))))
    return tuple(messages)


def _told(table: Table, row: Row, name: str) -> str | None:
    """A cell as a name; numbers and booleans as they are written, nothing where it is empty."""
    column = table.find(name)
    value = None if column is None else row.values.get(column)
    if value is None or value != value or value == "":
        return None
    if not isinstance(value, (str, bool, int)):
        raise UserError(f"{row.source}: '{column}' must be text, not {type(value).__name__}")
    return str(value).lower() if isinstance(value, bool) else whole(str(value))


def _labels(table: Table, row: Row) -> dict[str, JsonValue]:
    column = table.find("labels")
    value: Any = None if column is None else row.values.get(column)
    if value is None or value == "" or value != value:
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{row.source}: '{column}' must be an object of names and values, not {str(value)[:40]!r}")
    return found


def _verdict(table: Table, row: Row) -> Given | None:
    label, score = _told(table, row, "label"), _score(table, row)
    reason = text(row, table.find("reason"), optional=True)
    return None if label is None and score is None else Given(label, score, whole(reason))


def _score(table: Table, row: Row) -> float | None:
    column = table.find("score")
    value = None if column is None else row.values.get(column)
    if value is None or value != value or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{row.source}: '{column}' must be a number, not {str(value)[:40]!r}")
    return number
