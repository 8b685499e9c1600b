"""A table as Markdown: one line a subject, every cell with its interval, difference and coverage, footnotes below."""

from __future__ import annotations

from harness.reporting.table import Table

SPECIAL = "\\`*_{}[]<>#|$~"


def to_markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, ending in a newline."""
    head = [*table.groups, *(heading.title() for heading in table.headings)]
    rule = ["---"] * len(table.groups) + ["--:"] * len(table.headings)
    body = [
        [*(_escape(text) for text in row.heads), *(cell.text.line().replace("*", "\\*") for cell in row.cells)]
        for row in table.rows
    ]
    lines = [f"## {_escape(table.title)}", "", _escape(table.caption), "", _line([_escape(text) for text in head])]
    lines += [_line(rule), *(_line(cells) for cells in body), ""]
    return "\n".join([*lines, *(f"- {_escape(note)}" for note in table.footnotes)]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return " ".join("".join(f"\\{char}" if char in SPECIAL else char for char in text).split())
