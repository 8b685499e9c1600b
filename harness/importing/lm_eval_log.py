"""Sample logs of lm-eval (``--log_samples``): what a model answered to each document of a task.

Reads ``samples_<task>_<date>.jsonl`` of a task folder of this harness: ``doc``, ``arguments``, ``filtered_resps`` (or
``resps``) and ``filter``. Text becomes a text; the log-likelihoods of a choice become those of its labels, named by
what lm-eval let the model continue with. The numbers that lm-eval computed are left alone: the run's judges and
metrics are applied to the answers. Of several filters only the first one's lines are read, and of several answers to
one document (``repeats``) only the one that the filter chose; the others are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from harness.errors import UserError
from harness.importing.answers import RecordedAnswer, whole
from harness.records import Message, Role
from harness.rows.columns import Table
from harness.rows.files import Row
from harness.tasks import Columns, TaskSpec

ROLES: dict[str, Role] = {"instruction": "user", "input": "input", "answer": "assistant"}


def read_lm_eval(table: Table, spec: TaskSpec) -> list[RecordedAnswer]:
    """One answer a document.

    Raises:
        UserError: The file is no such log, or one of another kind of task.
    """
    answers, first = table.find("filtered_resps", "resps"), table.rows[0].values.get("filter")
    if answers is None:
        raise table.missing("'filtered_resps' or 'resps'", ("filtered_resps", "resps"))
    table.need("doc")
    kept = [row for row in table.rows if row.values.get("filter") == first]
    return [_answer(row, answers, spec) for row in kept]


def _answer(row: Row, column: str, spec: TaskSpec) -> RecordedAnswer:
    doc = _mapping(row, "doc")
    columns = _columns(row, doc)
    logprobs = _logprobs(row, column, spec) if spec.choices else None
    best = max(logprobs, key=lambda label: logprobs[label]) if logprobs else None  # the first of equals, as lm-eval
    return RecordedAnswer(
        source=row.source,
        asked=_asked(row, doc, columns),
        text=best if spec.choices else _text(row, column),
        logprobs=logprobs,
        target=str(doc[columns.target]) if columns.target in doc else None,
        labels=dict(doc.get(columns.labels or "") or {}),
        cluster=str(doc[columns.cluster]) if columns.cluster in doc else None,
        n_further=_n_further(row),
    )


def _n_further(row: Row) -> int:
    """How many more times than once the document was answered: ``resps`` has a list for each of its requests."""
    requests = row.values.get("resps")
    first = requests[0] if isinstance(requests, list) and requests else None
    return max(0, len(first) - 1) if isinstance(first, list) else 0


def _mapping(row: Row, column: str) -> dict[str, Any]:
    value = row.values.get(column)
    if not isinstance(value, dict):
        raise UserError(f"{row.source}: '{column}' must be an object, as lm-eval's --log_samples writes it")
    return value


def _columns(row: Row, doc: Mapping[str, Any]) -> Columns:
    """Which column of a document holds what: the block that the tasks of this harness leave in each."""
    try:
        return Columns(**doc["harness"]["columns"])
    except (KeyError, TypeError, ValidationError):
        raise UserError(
            f"{row.source}: its document is of no task folder of this harness (it has no harness.columns); give the "
            "answers as rows instead, with the columns 'instruction' and 'response'"
        ) from None


def _asked(row: Row, doc: Mapping[str, Any], columns: Columns) -> tuple[Message, ...]:
    try:
        given = [(key, doc[column]) for key, column in columns.named().items() if key in ROLES]
        messages = [Message(role=ROLES[key], content=text) for key, text in given if text or key != "input"]
    except (KeyError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{row.source}: its document lacks what harness.columns names ({reason})") from None
    return tuple(message.model_copy(update={"content": whole(message.content)}) for message in messages)


def _text(row: Row, column: str) -> str | None:
    """The text; lists of one, which ``resps`` and some filters wrap it in, are opened."""
    value = row.values.get(column)
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"{row.source}: '{column}' must hold one text; is this the log of another kind of task?")
    return whole(value)


def _logprobs(row: Row, column: str, spec: TaskSpec) -> dict[str, float]:
    labels = [_continuation(arguments) for arguments in _mapping(row, "arguments").values()]
    pairs = [_opened(value) for value in row.values.get(column) or []]
    try:
        found = {label: float(pair[0]) for label, pair in zip(labels, pairs, strict=False)}
    except (TypeError, ValueError, IndexError):
        found = {}
    if set(found) != set(spec.choices):
        wanted = ", ".join(spec.choices)
        raise UserError(f"{row.source}: '{column}' must hold a log-likelihood for each of {wanted}: another task?")
    return {label: found[label] for label in spec.choices}


def _continuation(arguments: Any) -> str:
    return str(arguments.get("arg_1", "")).strip() if isinstance(arguments, dict) else ""


def _opened(value: Any) -> Sequence[Any]:
    """A (log-likelihood, is greedy) pair out of the list of one that ``resps`` wraps it in."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, list) else ()
