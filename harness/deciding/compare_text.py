"""A comparison for people: text, Markdown, CSV and HTML, and the files of ``--out``; pure but for `write_files`.

Texts of models are never read as markup: in the terminal control characters are replaced, in Markdown they stand in
code spans that they cannot close, in CSV no cell begins a formula, in HTML everything is escaped.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.calibration.cells import neutral
from harness.calibration.told import line, text_table
from harness.deciding.compare import Compared, DifferenceRow, UnmatchedItems
from harness.deciding.flips import Flip
from harness.reporting.files import write_whole
from harness.reporting.table import Heading, plain_heading, show, show_interval, show_p
from harness.scores import Comparison, Estimate

FEW = 3
"""Flipped items of a row that stand in a text, and rows that all have theirs there."""
LETTERS = 70
HTML_FLIPS = 20
MANY_ROWS = 10
"""Tests in one table, from which on it is said that fewer would find more."""
TEMPLATE = Path(__file__).parent / "compare.html"
SPECIAL = "\\`*_{}[]<>#|$~&"
COLUMNS = ("first − second [95%]", "p", "Holm", "BH q", "+ / − / =", "pairs", "outcome")
FIELDS = (
    "metric", "first", "second", "first_value", "second_value", "first_scored", "first_planned", "second_scored",
    "second_planned", "difference", "low", "high", "p_value", "p_adjusted", "q_value", "test", "n_pairs", "n_unpaired",
    "n_seeds", "wins", "losses", "ties", "n_flips", "outcome", "holds", "caveats",
)  # fmt: skip
FLIP_FIELDS = (
    "metric", "key", "prompt", "first", "second", "first_seed", "second_seed", "first_answer", "second_answer",
    "first_verdict", "second_verdict", "first_value", "second_value",
)  # fmt: skip
LEGEND = (
    "first − second: paired by item, in the metric's unit (rates in points of 100); + / − / =: items on which the "
    "first side is better, worse (higher, lower where the metric has no direction), alike. The outcome is read off the "
    "interval; (not after Holm): the p value, adjusted over this table, is above 0.05."
)


class _Told(NamedTuple):
    """What all formats say, as lines and cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    tied: list[str]
    unmatched: list[str]
    notes: list[str]


def to_text(found: Compared) -> str:
    """A comparison for the terminal, with the first few flipped items."""
    told = _told(found)
    parts = [line(told.title), *(f"CAVEAT {line(one)}." for one in found.caveats)]
    parts += [text_table("", told.columns, told.rows), LEGEND]
    for title, lines in (("Tied sets", told.tied), ("Items without a partner", told.unmatched), ("Note", told.notes)):
        parts += [f"{title}: {line(one)}" for one in lines]
    for row in shown_rows(found):
        flips = found.flips_of(row)
        title = f"{_named(row)}: {len(flips)} flipped items{_first(flips, FEW)}"
        cells = [_flip_cells(flip) for flip in flips[:FEW]]
        parts.append(text_table(line(title), ["key", "prompt", row.first, row.second], cells))
    parts.append(_where(found))
    return "\n".join(part for part in parts if part)


def to_markdown(found: Compared) -> str:
    """The same as GitHub-flavoured Markdown, such as for a comment."""
    told = _told(found)
    lines = [f"## {escaped(told.title)}", "", *(f"**Caveat: {escaped(one)}.**\n" for one in found.caveats)]
    lines += markdown_table(
        [escaped(one) for one in told.columns], [[escaped(cell) for cell in row] for row in told.rows]
    )
    lines += ["", escaped(LEGEND), ""]
    for title, each in (("Tied sets", told.tied), ("Items without a partner", told.unmatched), ("Note", told.notes)):
        lines += [f"- {title}: {escaped(one)}" for one in each]
    for row in shown_rows(found):
        flips = found.flips_of(row)
        cells = [[code(cell) for cell in _flip_cells(flip)] for flip in flips[:FEW]]
        lines += ["", f"### {escaped(_named(row))}: {len(flips)} flipped items{_first(flips, FEW)}", ""]
        lines += markdown_table(["key", "prompt", escaped(row.first), escaped(row.second)], cells)
    return "\n".join(lines) + "\n"


def to_csv(found: Compared) -> str:
    """The rows with full precision, in the metrics' own unit; empty is not measured."""
    return _csv(FIELDS, [_fields(found, row) for row in found.rows])


def to_html(found: Compared) -> str:
    """A page of its own that needs nothing else; flipped items are folded away until they are asked for."""
    from jinja2 import Environment, StrictUndefined

    from harness.reporting.render.html import STYLE

    told = _told(found)
    flips = [(row, found.flips_of(row)) for row in found.rows if row.n_flips]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["clean"] = clean
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=told.title,
        STYLE=STYLE,
        warnings=[f"Caveat: {one}." for one in found.caveats],
        columns=told.columns,
        rows=told.rows,
        notes=[LEGEND, *told.notes],
        tied=told.tied,
        unmatched=told.unmatched,
        flips=[
            (f"{_named(row)}: {len(each)} flipped items{_first(each, HTML_FLIPS)}", each[:HTML_FLIPS])
            for row, each in flips
        ],
    )


def to_json(found: Compared) -> str:
    """The record as JSON with the first few flipped items of each row; ``n_flips`` says how many there are."""
    few = tuple(flip for row in found.rows for flip in found.flips_of(row)[:FEW])
    return json.dumps(found.model_copy(update={"flips": few}).model_dump(mode="json"), indent=1, ensure_ascii=False)


def write_files(found: Compared, folder: Path) -> list[Path]:
    """Writes all formats and every flipped item into a folder.

    Args:
        found: The comparison.
        folder: Made where it does not exist.
    """
    content = {
        "compare.json": to_json(found) + "\n",
        "compare.md": to_markdown(found),
        "compare.csv": to_csv(found),
        "compare.html": to_html(found),
        "flips.jsonl": "".join(flip.to_line() for flip in found.flips),
        "flips.csv": _csv(FLIP_FIELDS, [_flip_fields(flip) for flip in found.flips]),
    }
    return [write_whole(folder / name, text.encode("utf-8", "replace")) for name, text in content.items()]


def shown_rows(found: Compared) -> list[DifferenceRow]:
    """The rows whose flipped items a text shows: all of a few, else those that differ, the clearest first."""
    rows = [row for row in found.rows if row.n_flips]
    if len(rows) > FEW:
        rows = [row for row in rows if row.outcome not in ("no difference", "not measured")]
        rows = sorted(rows, key=lambda row: row.comparison.p_value if row.comparison.p_value is not None else 1.0)
    return rows[:FEW]


def escaped(text: str) -> str:
    """Text that Markdown takes as it is, on one line; a name after ``@`` is nobody who would be told."""
    return "".join(f"\\{char}" if char in SPECIAL else char for char in line(text)).replace("@", "@\u200b")


def code(text: str) -> str:
    """A model's text as a code span in a table: a fence longer than any in it, so that it cannot close it."""
    inner = line(text)
    if not inner:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", inner)), default=0) + 1)
    return f"{fence} {inner} {fence}".replace("|", "\\|")


def clean(text: str) -> str:
    """Text without control characters other than line ends."""
    return "\n".join("".join(char if char.isprintable() else "\ufffd" for char in each) for each in text.split("\n"))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; cells are escaped already."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def told_outcome(row: DifferenceRow) -> str:
    """Who is better, or that nothing is told apart."""
    if row.outcome in ("no difference", "not measured"):
        return row.outcome
    ahead, word = {
        "better": (row.first, "better"),
        "worse": (row.second, "better"),
        "higher": (row.first, "higher"),
        "lower": (row.second, "higher"),
    }[row.outcome]
    return f"{ahead} {word}{'' if row.holds else ' (not after Holm)'}"


def told_difference(comparison: Comparison, heading: Heading) -> str:
    """A difference with its sign and interval."""
    if comparison.difference is None:
        return "not measured"
    sign = "+" if float(show(comparison.difference, heading)) > 0 else ""
    return f"{sign}{show(comparison.difference, heading)} {show_interval(comparison.low, comparison.high, heading)}"


def told_estimate(found: Estimate, heading: Heading) -> str:
    """A side's own value with its coverage."""
    value = "not measured" if found.value is None else show(found.value, heading)
    return f"{value} ({found.n_scored}/{found.n_total})"


def _told(found: Compared) -> _Told:
    sides = [f"{one.label} ({one.run}:{one.subject})" for one in found.sides]
    headings = {metric.name: plain_heading(metric) for metric in found.metrics}
    rows = [_cells(found, row, headings[row.metric]) for row in found.rows]
    labels = [one.label for one in found.sides]
    together = [one.metric for one in found.tied if [len(group) for group in one.sets] == [len(labels)]]
    apart = [one for one in found.tied if one.sets and one.metric not in together]
    tied = [f"{one.metric}: {' | '.join('{' + ', '.join(group) + '}' for group in one.sets)}" for one in apart]
    if together:
        tied.append(f"{', '.join(labels)} cannot be told apart on {', '.join(together)}")
    heads = ["first", "second"] if len(sides) > 2 else labels
    unmatched = [_missing(one) for one in found.unmatched]
    notes = [*found.remarks, *([_adjusted(len(rows))] if len(rows) > MANY_ROWS else [])]
    return _Told(" against ".join(sides), ["metric", *heads, *COLUMNS], rows, tied, unmatched, notes)


def _adjusted(n_rows: int) -> str:
    return (
        f"Holm and BH q are over these {n_rows} rows, many of which measure nearly the same; name the metrics that the "
        "question is about with --metric (a recipe's claims are adjusted among themselves)"
    )


def _cells(found: Compared, row: DifferenceRow, heading: Heading) -> list[str]:
    one = row.comparison
    sides = [told_estimate(found.estimate(label, row.metric), heading) for label in (row.first, row.second)]
    if len(found.sides) > 2:
        sides = [f"{label} {told}" for label, told in zip((row.first, row.second), sides, strict=True)]
    name = heading.title().replace(heading.label, heading.metric, 1)
    counts = "–" if row.wins is None else f"{row.wins} / {row.losses} / {row.ties}"
    pairs = f"{one.n_pairs}" + (f" (+{one.n_unpaired} unpaired)" if one.n_unpaired else "")
    p_values = [
        show_p(value).removeprefix("p ").removeprefix("= ") for value in (one.p_value, one.p_adjusted, one.q_value)
    ]
    return [name, *sides, told_difference(one, heading), *p_values, counts, pairs, told_outcome(row)]


def _missing(one: UnmatchedItems) -> str:
    counts = [
        (len(one.only_first), f"only {one.first} planned"),
        (len(one.only_second), f"only {one.second} planned"),
        (sum(map(len, one.lost_first.values())), f"{one.first} lost"),
        (sum(map(len, one.lost_second.values())), f"{one.second} lost"),
    ]
    return f"{one.metric}: " + ", ".join(f"{n} that {what}" for n, what in counts if n)


def _named(row: DifferenceRow) -> str:
    return f"{row.metric}, {row.first} – {row.second}"


def _first(flips: Sequence[Flip], most: int) -> str:
    return f", the first {most}" if len(flips) > most else ""


def _where(found: Compared) -> str:
    n_flips = sum(row.n_flips for row in found.rows)
    return (
        f"{n_flips} flipped items in all; --out DIR writes them, with the keys of unmatched items." if n_flips else ""
    )


def _flip_cells(flip: Flip) -> list[str]:
    answers = [
        f"{line(side.answer)[:LETTERS]} → {side.verdict or f'{side.value:g}'}" for side in (flip.first, flip.second)
    ]
    return [flip.key[:12], line(flip.prompt)[:LETTERS], *answers]


def _fields(found: Compared, row: DifferenceRow) -> dict[str, Any]:
    sides = {"first": found.estimate(row.first, row.metric), "second": found.estimate(row.second, row.metric)}
    own = {f"{name}_value": one.value for name, one in sides.items()}
    own |= {f"{name}_scored": one.n_scored for name, one in sides.items()}
    own |= {f"{name}_planned": one.n_total for name, one in sides.items()}
    told = {"holds": row.holds, "caveats": "; ".join(found.caveats)}
    return {**row.comparison.model_dump(), **row.model_dump(exclude={"comparison"}), **own, **told}


def _flip_fields(flip: Flip) -> dict[str, Any]:
    fields: dict[str, Any] = {"metric": flip.metric, "key": flip.key, "prompt": flip.prompt}
    for name, side in (("first", flip.first), ("second", flip.second)):
        told = {"seed": side.seed, "answer": side.answer, "verdict": side.verdict, "value": side.value}
        fields |= {name: side.label, **{f"{name}_{what}": value for what, value in told.items()}}
    return fields


def _csv(fields: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: neutral(value) if isinstance(value, str) else value for name, value in row.items()})
    return out.getvalue()
