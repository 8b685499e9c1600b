"""What every format amounts to: recorded answers, each with a verdict or none, and the names that the file gives.

Pure values; nothing is read or written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from harness.errors import UserError
from harness.records import Message

_SURROGATE = re.compile("[\ud800-\udfff]")


class Given(NamedTuple):
    """A recorded verdict; neither label nor score means that its judge's reply could not be read."""

    label: str | None
    score: float | None
    reason: str = ""
    raw: str | None = None


class RecordedAnswer(NamedTuple):
    """One row.

    Attributes:
        source: ``file:line``.
        asked: The messages that were answered.
        text: The answer; ``None`` where the row has none.
        labels: Facts about the item.
        logprobs: Of an answer that is a choice, the log-likelihood (nats) of each label.
        target: The right label, where the row tells it.
        cluster: What items that are not independent share.
        verdict: What a judge said of the answer; ``None`` where the row has no verdict.
        generator: Who answered, as the file says.
        judge: Who judged, as the file says.
        n_further: Further answers to the same question in the same row; only the first is taken.
    """

    source: str
    asked: tuple[Message, ...]
    text: str | None
    labels: dict[str, JsonValue]
    logprobs: dict[str, float] | None = None
    target: str | None = None
    cluster: str | None = None
    verdict: Given | None = None
    generator: str | None = None
    judge: str | None = None
    n_further: int = 0


class Chosen(NamedTuple):
    """One generator or judge of a file.

    Attributes:
        answers: The answers that are its own; those of nobody too, where the file names nobody else.
        name: What to call it; ``None`` where neither file nor user says it.
        in_file: What the file calls it.
    """

    answers: list[RecordedAnswer]
    name: str | None
    in_file: str | None


def choose(
    answers: Sequence[RecordedAnswer],
    name_of: Callable[[RecordedAnswer], str | None],
    wanted: str | None,
    flag: str,
    kind: str,
) -> Chosen:
    """The answers of the one name that is wanted, or of the only one that there is.

    Args:
        answers: All answers of a file.
        name_of: The name in one of them.
        wanted: The name that the user gave; where the file knows it not, another name for its only one.
        flag: The option that takes it.
        kind: What it names, in the plural.

    Raises:
        UserError: The file has several names and the wanted one is none of them.
    """
    names = list(dict.fromkeys(name for answer in answers if (name := name_of(answer)) is not None))
    if len(names) > 1 and wanted in names:
        return Chosen([answer for answer in answers if name_of(answer) == wanted], wanted, wanted)
    if len(names) > 1:
        place = answers[0].source.rpartition(":")[0]
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UserError(f"{place}: names {len(names)} {kind} ({shown}); import one at a time with {flag} NAME")
    in_file = next(iter(names), None)
    return Chosen(list(answers), wanted or in_file, in_file)


def whole(text: str) -> str:
    """The text with U+FFFD for every surrogate that stands alone, as the tasks' own items have it."""
    return _SURROGATE.sub("\ufffd", text)
