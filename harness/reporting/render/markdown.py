"""A table as Markdown: one line a subject, every cell with its interval, difference and coverage, footnotes below."""

from __future__ import annotations

import re

from harness.calibration.told import line
from harness.reporting.table import Table

SPECIAL = "\\`*_{}[]<>#|$~"


def to_markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, ending in a newline."""
    head = [*table.groups, *(heading.title() for heading in table.headings)]
    rule = ["---"] * len(table.groups) + ["--:"] * len(table.headings)
    body = [
        [*(escape(text) for text in row.heads), *(cell.text.line().replace("*", "\\*") for cell in row.cells)]
        for row in table.rows
    ]
    lines = [f"## {escape(table.title)}", "", escape(table.caption), "", _row([escape(text) for text in head])]
    lines += [_row(rule), *(_row(cells) for cells in body), ""]
    return "\n".join([*lines, *(f"- {escape(note)}" for note in table.footnotes)]) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown takes as it is, on one line, without control characters."""
    return "".join(f"\\{char}" if char in SPECIAL else char for char in line(text))


def code(text: str) -> str:
    """Text as a code span, behind a fence longer than any in it, so that it cannot close it."""
    inner = line(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", inner)), default=0) + 1)
    padding = " " if "`" in inner else ""
    return f"{fence}{padding}{inner}{padding}{fence}".replace("|", "\\|") if inner else ""
