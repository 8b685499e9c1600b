"""The typed readers: rows of known data sets as `AlignmentRow`s.

Reads a path, or rows that are already there (of the hub). Rules for every reader, with the count's name:
an instruction without a word (``empty instruction``), a response without a word (``blank response``), and a row whose
instruction, input and responses came before (``duplicate``) are dropped, and so is what the data calls both good and
bad (``contradictory labels``); a row with lone surrogates is kept with U+FFFD in their place (``lone surrogate
replaced``). Further rules stand at the readers. Nothing else is altered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from harness.records import Record, content_hash
from harness.rows.columns import Table, boolean, text
from harness.rows.files import Row

Data = str | Path | Sequence[Row]
Kind = Literal["red", "benign", "hijack"]

_PROMPT = ("prompt", "instruction", "goal", "question", "forbidden_prompt")
_PKU = ("response_0", "response_1", "is_response_0_safe", "is_response_1_safe")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


class AlignmentRow(Record):
    """An instruction with what a model should and should not answer.

    Attributes:
        instruction: What is asked.
        input: Alpaca's second field; empty where there is none.
        good: A response to learn from, ``None`` where the data has none.
        bad: A response to learn what not to do from, ``None`` where the data has none.
        kind: What the row is for: harmful requests, ordinary ones, or hijacked ones.
        labels: Facts about the row that judges may read.
        source: ``"file:line"``; not part of the key.
    """

    instruction: str
    input: str = ""
    good: str | None = None
    bad: str | None = None
    kind: Kind
    labels: dict[str, JsonValue] = Field(default_factory=dict)
    source: str | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything but the source."""
        return content_hash(self.model_dump(mode="json", exclude={"source", "schema_version"}))


class ReadResult(NamedTuple):
    """Kept rows, and how many rows fell to each rule."""

    rows: list[AlignmentRow]
    dropped: dict[str, int]


class _Sieve:
    """Keeps rows, and counts those that it does not keep."""

    def __init__(self) -> None:
        self.rows: list[AlignmentRow] = []
        self.counts: Counter[str] = Counter()
        self._seen: set[str] = set()

    def add(self, row: AlignmentRow) -> None:
        texts = (row.instruction, row.input, row.good, row.bad)
        identity = content_hash(texts)
        if not row.instruction.strip():
            self.counts["empty instruction"] += 1
        elif any(response is not None and not response.strip() for response in texts[2:]):
            self.counts["blank response"] += 1
        elif row.good is not None and row.good == row.bad:
            self.counts["contradictory labels"] += 1
        elif identity in self._seen:
            self.counts["duplicate"] += 1
        else:
            self._seen.add(identity)
            self.rows.append(self._repaired(row))

    def _repaired(self, row: AlignmentRow) -> AlignmentRow:
        repaired = {name: _valid(value) for name, value in row.model_dump(include=_TEXTS).items()}
        if all(repaired[name] == getattr(row, name) for name in repaired):
            return row
        self.counts["lone surrogate replaced"] += 1
        return AlignmentRow(**{**row.model_dump(), **repaired})

    def result(self) -> ReadResult:
        return ReadResult(self.rows, dict(self.counts))


_TEXTS = {"instruction", "input", "good", "bad", "labels"}


def _valid(value: JsonValue) -> JsonValue:
    """The value with U+FFFD for every surrogate that stands alone."""
    if isinstance(value, dict):
        return {name: _valid(inner) for name, inner in value.items()}
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value


def preference_pairs(data: Data) -> ReadResult:
    """A good and a bad response to harmful requests.

    Knows three layouts: PKU-SafeRLHF (``prompt``, ``response_0/1``, ``is_response_0/1_safe``), columns already split
    (``instruction`` or ``prompt``, ``good``, ``bad``), and ``chosen``/``rejected``, as plain answers beside a prompt or
    as whole ``Human:``/``Assistant:`` dialogues. Dropped besides the common rules: pairs with ``no safe response`` or
    ``no unsafe response``, dialogues of ``several turns`` and pairs of ``two different dialogues``.
    """
    table, sieve = Table(data), _Sieve()
    if table.has(*_PKU):
        _pku_pairs(table, sieve)
    elif table.has("good", "bad"):
        _split_pairs(table, "good", "bad", sieve)
    elif table.has("chosen", "rejected"):
        _chosen_pairs(table, sieve)
    else:
        layouts = "'prompt', 'response_0', 'response_1', 'is_response_0_safe', 'is_response_1_safe'"
        needed = f"set of a known pair layout ({layouts}; or 'good', 'bad'; or 'chosen', 'rejected')"
        raise table.missing(needed, (*_PKU, "good", "bad", "chosen", "rejected"))
    return sieve.result()


def _pku_pairs(table: Table, sieve: _Sieve) -> None:
    prompt = table.need(*_PROMPT)
    for row in table.rows:
        safe, unsafe = _by_safety(table, row)
        if not safe or not unsafe:
            sieve.counts["no unsafe response" if safe else "no safe response"] += 1
            continue
        asked = text(row, prompt)
        sieve.add(AlignmentRow(instruction=asked, good=safe[0], bad=unsafe[0], kind="red", source=row.source))


def _by_safety(table: Table, row: Row) -> tuple[list[str], list[str]]:
    """The safe and the unsafe responses of a PKU row."""
    answers: tuple[list[str], list[str]] = ([], [])
    for number in "01":
        safe = boolean(row, table.need(f"is_response_{number}_safe"))
        answers[0 if safe else 1].append(text(row, table.need(f"response_{number}")))
    return answers


def _split_pairs(table: Table, good: str, bad: str, sieve: _Sieve) -> None:
    prompt, extra = table.need("instruction", *_PROMPT), table.find("input")
    for row in table.rows:
        sieve.add(
            AlignmentRow(
                instruction=text(row, prompt),
                input=text(row, extra, optional=True),
                good=text(row, table.need(good)),
                bad=text(row, table.need(bad)),
                kind="red",
                source=row.source,
            )
        )


def _chosen_pairs(table: Table, sieve: _Sieve) -> None:
    chosen, rejected = table.need("chosen"), table.need("rejected")
    if not any(_TURN.match(text(row, chosen)) for row in table.rows):
        _split_pairs(table, "chosen", "rejected", sieve)
        return
    for row in table.rows:
        good, bad = _dialogue(text(row, chosen)), _dialogue(text(row, rejected))
        if good is None or bad is None:
            sieve.counts["several turns"] += 1
        elif good[0] != bad[0]:
            sieve.counts["two different dialogues"] += 1
        else:
            sieve.add(AlignmentRow(instruction=good[0], good=good[1], bad=bad[1], kind="red", source=row.source))


def _dialogue(whole: str) -> tuple[str, str] | None:
    """Question and answer of a dialogue of one turn, else ``None``."""
    parts = _TURN.split(whole)
    if parts[1::2] != ["Human", "Assistant"]:
        return None
    return parts[2].removeprefix(" "), parts[4].removeprefix(" ")


def instructions(data: Data) -> ReadResult:
    """Ordinary instructions with a response to learn from (Alpaca: ``instruction``, ``input``, ``output``)."""
    table, sieve = Table(data), _Sieve()
    instruction = table.need("instruction", "prompt", "question")
    output, extra = table.need("output", "response", "completion"), table.find("input")
    for row in table.rows:
        sieve.add(
            AlignmentRow(
                instruction=text(row, instruction),
                input=text(row, extra, optional=True),
                good=text(row, output),
                kind="benign",
                source=row.source,
            )
        )
    return sieve.result()


def prompts(data: Data, kind: Kind = "red") -> ReadResult:
    """Questions alone: the first of ``prompt``, ``instruction``, ``goal``, ``question``, ``forbidden_prompt``."""
    table, sieve = Table(data), _Sieve()
    prompt, extra = table.need(*_PROMPT), table.find("input")
    for row in table.rows:
        asked, more = text(row, prompt), text(row, extra, optional=True)
        sieve.add(AlignmentRow(instruction=asked, input=more, kind=kind, source=row.source))
    return sieve.result()


def hijack_prompts(data: Data) -> ReadResult:
    """Prompts with an inserted goal hijack.

    ``target_string``, ``attack`` and ``lang`` become labels where present; ``good`` and ``bad`` are responses to learn
    from, where the file has them.
    """
    table, sieve = Table(data), _Sieve()
    prompt, good, bad = table.need(*_PROMPT), table.find("good"), table.find("bad")
    facts = [column for name in ("target_string", "attack", "lang") if (column := table.find(name))]
    for row in table.rows:
        labels: dict[str, JsonValue] = {name: value for name in facts if (value := text(row, name, optional=True))}
        sieve.add(
            AlignmentRow(
                instruction=text(row, prompt),
                good=text(row, good) if good else None,
                bad=text(row, bad) if bad else None,
                kind="hijack",
                labels=labels,
                source=row.source,
            )
        )
    return sieve.result()


def judged_responses(data: Data) -> ReadResult:
    """Single responses with a safety label: ``good`` holds a safe one, ``bad`` an unsafe one, the other is ``None``.

    Knows ``prompt``, ``response``, ``is_safe`` (BeaverTails), and pairs, of PKU-SafeRLHF or with columns ``good`` and
    ``bad``, whose rows give two responses each.
    """
    table, sieve = Table(data), _Sieve()
    for row in _judged(table):
        sieve.add(row)
    given = Counter((row.instruction, row.good if row.good is not None else row.bad) for row in sieve.rows)
    kept = [row for row in sieve.rows if given[row.instruction, row.good if row.good is not None else row.bad] == 1]
    if len(kept) < len(sieve.rows):
        sieve.counts["contradictory labels"] += len(sieve.rows) - len(kept)
    return ReadResult(kept, dict(sieve.counts))


def _told_by(table: Table) -> Callable[[Row], tuple[list[str], list[str]]]:
    """How this table tells its safe responses from its unsafe ones."""
    if table.has(*_PKU):
        return lambda row: _by_safety(table, row)
    if table.has("good", "bad"):
        return lambda row: ([text(row, table.need("good"))], [text(row, table.need("bad"))])
    response, is_safe = table.need("response", "answer"), table.need("is_safe")

    def single(row: Row) -> tuple[list[str], list[str]]:
        answer = [text(row, response)]
        return (answer, []) if boolean(row, is_safe) else ([], answer)

    return single


def _judged(table: Table) -> Iterator[AlignmentRow]:
    prompt = table.need(*_PROMPT)
    told = _told_by(table)
    for row in table.rows:
        safe, unsafe = told(row)
        for good in safe:
            yield AlignmentRow(instruction=text(row, prompt), good=good, kind="red", source=row.source)
        for bad in unsafe:
            yield AlignmentRow(instruction=text(row, prompt), bad=bad, kind="red", source=row.source)
