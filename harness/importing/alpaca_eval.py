"""Annotations of AlpacaEval: an instruction, the baseline's answer, a model's answer, and which one was preferred.

Reads ``instruction``, ``output_1``/``generator_1`` (the baseline), ``output_2``/``generator_2`` (the model),
``annotator`` and ``preference``: 1 for the baseline, 2 for the model, a number between them where the annotator gives
a probability, 0 or 1.5 for a tie. The score is the preference less 1; a tie counts 0.5; null is a reply of the
annotator that could not be read, and never a number.
"""

from __future__ import annotations

import math
from typing import Any

from harness.errors import UserError
from harness.importing.answers import Given, RecordedAnswer, whole
from harness.importing.plain_rows import response
from harness.records import Message
from harness.rows.columns import Table, text
from harness.rows.files import Row
from harness.tasks import TaskSpec

TIES = (0.0, 1.5)
UNREADABLE = ("", "null", "none", "nan")


def read_alpaca_eval(table: Table, spec: TaskSpec) -> list[RecordedAnswer]:
    """One answer a row; the baseline and its answer are labels of the item, which they belong to."""
    asked, answer, preference = table.need("instruction"), table.need("output_2"), table.need("preference")
    baseline = {"baseline": table.find("generator_1"), "baseline_answer": table.find("output_1")}
    generator, annotator = table.find("generator_2"), table.find("annotator")
    return [
        RecordedAnswer(
            source=row.source,
            asked=(Message(role="user", content=whole(text(row, asked))),),
            text=response(row, answer),
            labels={name: whole(text(row, column)) for name, column in baseline.items() if column},
            verdict=_verdict(row, preference),
            generator=whole(text(row, generator, optional=True)) or None,
            judge=whole(text(row, annotator, optional=True)) or None,
        )
        for row in table.rows
    ]


def _verdict(row: Row, column: str) -> Given:
    value = row.values.get(column)
    if value is None or str(value).strip().lower() in UNREADABLE:
        return Given(None, None, "no preference could be read from the annotator's reply")
    number = _number(value)
    if number is None or not (number == 0 or 1 <= number <= 2):
        shown = str(value)[:40]
        raise UserError(f"{row.source}: '{column}' must be 0, null or a number from 1 to 2, not {shown!r}")
    return Given(None, 0.5 if number in TIES else number - 1, raw=str(value))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
