"""Prints tables and claims in the console, with rich; model and label texts are never read as markup."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reporting.page import CLAIM
from harness.reporting.report import build_tables, run_layouts
from harness.reporting.table import Skipped, Table, show_difference, show_interval, show_p
from harness.scores import Claim, Scores
from harness.store import Run

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
HEAD_WIDTH = 18
PLAIN_WIDTH = 160
"""Columns of characters where the output goes to a file or a log."""
NOT_AFTER_HOLM = " (not after Holm)"
COLOURS = {"supported": "green", "contradicted": "red", "no difference": "yellow", "not measured": "dim"}


def print_table(table: Table, console: Console) -> None:
    """One table with its footnotes; columns that do not fit beside each other stand below each other."""
    from rich.text import Text

    console.print(Text(table.title, style="bold"))
    for columns in _blocks(table, console.width):
        _print_block(table, columns, console)
    for note in table.footnotes:
        console.print(Text(f"  {note}", style="dim"))
    console.print()


def _print_block(table: Table, columns: Sequence[int], console: Console) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, show_lines=False)
    for position, group in enumerate(table.groups):
        grid.add_column(Text(group), overflow="fold", max_width=_head_width(table, position))
    for column in columns:
        grid.add_column(Text(table.headings[column].title()), justify="right", min_width=_width(table, column))
    for row in table.rows:
        cells = [row.cells[column].text for column in columns]
        texts = [
            Text.assemble((cell.value, "bold"), "\n" + _details([*cell.details(), cell.published])) for cell in cells
        ]
        grid.add_row(*(Text(head) for head in row.heads), *texts)
    console.print(grid)


def _blocks(table: Table, width: int) -> list[list[int]]:
    """The columns in blocks that fit, each with the row heads before it."""
    heads = [_head_width(table, position) for position in range(len(table.groups))]
    room = max(width - sum(heads) - GAP * (len(heads) + 1), 1)
    blocks: list[list[int]] = []
    used = room
    for column in range(len(table.headings)):
        needed = _width(table, column) + GAP
        if used + needed > room:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += needed
    return blocks


def _head_width(table: Table, position: int) -> int:
    """Characters of a leading column: its longest word, and whole entries up to a limit."""
    words = [len(word) for text in [table.groups[position], *_heads(table, position)] for word in text.split()]
    return max([*words, *(min(HEAD_WIDTH, len(head)) for head in _heads(table, position))])


def _heads(table: Table, position: int) -> list[str]:
    return [row.heads[position] for row in table.rows]


def _width(table: Table, column: int) -> int:
    """Characters that the longest line of a column takes; long headings may fold."""
    texts = [row.cells[column].text for row in table.rows]
    lines = [line for text in texts for line in [text.value, *text.details(), text.published] if line]
    return max([10, *(len(line) for line in lines)])


def print_scores(run: Run, scores: Scores, include_paths: Sequence[Path] = ()) -> None:
    """The claims and tables of a run, and where its report is."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    print_report(build_tables(scores, run_layouts(run, include_paths), include_paths), scores, console)
    console.print(f"report: {run.report_dir / 'index.html'}", markup=False, highlight=False, soft_wrap=True)


def print_report(tables: Sequence[Table | Skipped], scores: Scores, console: Console) -> None:
    """Claims, then every table that was made."""
    for claim in scores.claims:
        print_claim(claim, console)
    for table in tables:
        if isinstance(table, Table):
            print_table(table, console)


def print_claim(claim: Claim, console: Console) -> None:
    """A claim on one line: decision, sentence, difference in points of 100, interval, p value (and Holm's)."""
    from rich.text import Text

    found = claim.comparison
    interval = show_interval(found.low, found.high, CLAIM)
    numbers = f" {show_difference(found, CLAIM)} {interval}, {show_p(found.p_value)}"
    numbers += "" if found.p_adjusted is None else f" (Holm {show_p(found.p_adjusted)})"
    console.print(
        Text.assemble(
            (f"{claim.decision}: ", COLOURS[claim.decision.removesuffix(NOT_AFTER_HOLM)]), claim.text, numbers
        )
    )


def _details(parts: Sequence[str]) -> str:
    return "\n".join(part for part in parts if part)
