"""The browser's texts, in parts of some hundred rows or about a megabyte: prompts by sample, answers by row.

Reads the grids and, for panels, each seat's own verdict; writes ``data/prompts-N.js`` and ``data/answers-N.js``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records import Sample, Verdict, VerdictOutcome
from harness.reporting.browser.grid import Grid
from harness.reporting.browser.scripts import write_script
from harness.stages.gather import Item
from harness.stages.loading import LoadedRun
from harness.store import latest, read

PART_ROWS = 400
PART_CHARACTERS = 1_000_000

Seats = Mapping[str, Sequence[Verdict]]
"""Completion key → the verdicts of all seats of panels on it."""


def write_texts(loaded: LoadedRun, grids: Sequence[Grid], folder: Path) -> tuple[list[Path], dict[str, list[int]]]:
    """Writes all parts.

    Returns:
        The files, and for ``prompts`` and ``answers`` the first row of each part (samples and rows of all tasks are
        numbered through).
    """
    seats = panel_seats(loaded)
    samples = (sample_text(sample) for grid in grids for sample in grid.samples)
    rows = (item_text(item, seats) for grid in grids for item in grid.rows())
    prompts, prompt_starts = _write("prompts", samples, folder)
    answers, answer_starts = _write("answers", rows, folder)
    return [*prompts, *answers], {"prompts": prompt_starts, "answers": answer_starts}


def sample_text(sample: Sample) -> dict[str, Any]:
    """What was asked: ``m`` the turns, ``k`` the key's beginning, ``f`` the facts, ``s`` where it came from."""
    return {
        "m": [[message.role, message.content] for message in sample.messages],
        "k": sample.key[:12],
        "f": sample.labels,
        "s": sample.source,
    }


def item_text(item: Item | None, seats: Seats) -> list[Any] | None:
    """What came back: the answer, then, where there are any, the verdicts' reasons and what else is known of it."""
    if item is None or item.completion is None:
        return None
    known = {
        "v": {name: _words(verdict) for name, verdict in item.verdicts.items()},
        "s": [_seat(verdict) for verdict in seats.get(item.completion.key, ())],
        "l": {label: round(value, 3) for label, value in (item.completion.logprobs or {}).items()},
        "d": item.completion.detail,
        "p": item.completion.prompt_truncated,
    }
    return [item.completion.text, {name: value for name, value in known.items() if value}]


def panel_seats(loaded: LoadedRun) -> Seats:
    """The single verdicts behind those of panels, which `LoadedRun` holds combined only."""
    several = [panel for panel in loaded.judges.values() if len(panel.members) * panel.n_seats > 1]
    wanted = {spec.key for panel in several for spec in panel.members}
    found: dict[str, list[Verdict]] = {}
    if wanted:
        for verdict in latest(read(loaded.run.verdicts_file, Verdict).records).values():
            if verdict.judge_key in wanted:
                found.setdefault(verdict.completion_key, []).append(verdict)
    return {key: sorted(each, key=lambda one: (one.judge_key, one.seat)) for key, each in found.items()}


def _words(verdict: Verdict) -> list[str | None]:
    return [verdict.reason] if verdict.raw is None else [verdict.reason, verdict.raw]


def _seat(verdict: Verdict) -> list[Any]:
    """Judge (its key's beginning), seat, verdict, reason and whole reply."""
    said = verdict.label if verdict.label is not None else verdict.score
    ok = verdict.outcome is VerdictOutcome.OK
    return [verdict.judge_key[:8], verdict.seat, said if ok else f"({verdict.outcome})", verdict.reason, verdict.raw]


def _write(kind: str, values: Iterable[Any], folder: Path) -> tuple[list[Path], list[int]]:
    files, starts, row = [], [], 0
    for number, part in enumerate(_parts(values)):
        files.append(write_script(folder / f"{kind}-{number}.js", kind, number, part))
        starts.append(row)
        row += len(part)
    return files, starts


def _parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    size = 0
    for value in values:
        part.append(value)
        size += _length(value)
        if len(part) >= PART_ROWS or size >= PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _length(value: Any) -> int:
    """Characters of text in a JSON value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list) else 1
