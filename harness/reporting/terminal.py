"""Prints tables and claims in the console, with rich; model and label texts are never read as markup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records import Claim, Scores
from harness.reporting.page import CLAIM
from harness.reporting.report import build_tables, run_layouts
from harness.reporting.table import Skipped, Table, show_difference, show_interval, show_p
from harness.store import Run

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"supported": "green", "contradicted": "red", "no difference": "yellow", "not measured": "dim"}


def print_table(table: Table, console: Console) -> None:
    """One table with its footnotes."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(title=Text(table.title), box=box.SIMPLE_HEAD, title_justify="left", show_lines=False)
    for number, group in enumerate(table.groups):
        grid.add_column(Text(group), overflow="fold", no_wrap=number > 0)
    for heading in table.headings:
        grid.add_column(Text(heading.title()), justify="right")
    for row in table.rows:
        cells = [
            Text.assemble((cell.text.value, "bold"), "\n" + _details([*cell.text.details(), cell.text.published]))
            for cell in row.cells
        ]
        grid.add_row(*(Text(head) for head in row.heads), *cells)
    console.print(grid)
    for note in table.footnotes:
        console.print(Text(f"  {note}", style="dim"))


def print_scores(run: Run, scores: Scores, include_paths: Sequence[Path] = ()) -> None:
    """The claims and tables of a run, and where its report is."""
    from rich.console import Console

    console = Console()
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
    """A claim on one line: decision, sentence, difference in points of 100, interval, p value."""
    from rich.text import Text

    found = claim.comparison
    interval = show_interval(found.low, found.high, CLAIM)
    numbers = f" {show_difference(found, CLAIM)} {interval}, {show_p(found.p_value)}"
    console.print(Text.assemble((f"{claim.decision}: ", COLOURS[claim.decision]), claim.text, numbers))


def _details(parts: Sequence[str]) -> str:
    return "\n".join(part for part in parts if part)
