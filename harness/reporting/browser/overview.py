"""The report's first page: claims with their tests, tables and figures, coverage, caveats and provenance.

Reads `Scores`, the built tables and figures and, where it is given, the run itself; writes ``index.html`` and the
assets that it uses. With the run every number links to the samples behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reporting.browser.links import samples_link
from harness.reporting.browser.provenance import provenance
from harness.reporting.browser.write import PAGE, nonce_of, render, write_assets
from harness.reporting.files import write_whole
from harness.reporting.layout import load_meanings
from harness.reporting.page import (
    claim_texts,
    confusion_texts,
    difference_texts,
    judge_texts,
    lost_texts,
    preparation_texts,
)
from harness.reporting.render.html import html_fragment
from harness.reporting.table import Skipped, Table, unique_names
from harness.reporting.training_page import ledger_note, ledger_texts
from harness.scores import Scores
from harness.stages.loading import LoadedRun

if TYPE_CHECKING:
    from harness.reporting.render.figures.shown import Plot

ASSETS = ("report.css", "theme.js")


def write_overview(
    scores: Scores,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    skipped: Sequence[Skipped],
    out: Path,
    include_paths: Sequence[Path] = (),
    notes: Sequence[str] = (),
    loaded: LoadedRun | None = None,
) -> list[Path]:
    """Writes the page.

    Args:
        scores: What was measured.
        tables: Tables, in the order of the page.
        plots: Figures, in the order of the page; one with a table's name stands above that table.
        skipped: Layouts that the run has nothing for.
        out: Folder of the report.
        include_paths: The user's content folders, whose ``templates/index.html`` comes first.
        notes: What the run can and cannot show.
        loaded: The run; without it there are neither provenance nor links to samples.

    Returns:
        The files written, ``index.html`` first.
    """
    drawn = {table.name for table in tables}
    samples = None if loaded is None else PAGE
    page = render(
        "index.html",
        include_paths,
        nonce=nonce_of(scores.model_dump_json()),
        link=None if samples is None else samples_link,
        scores=scores,
        tables=tables,
        fragments={table.name: html_fragment(table, samples) for table in tables},
        plots={plot.name: plot for plot in plots},
        figures=[plot for plot in plots if plot.name not in drawn],
        skipped=skipped,
        notes=notes,
        claims=claim_texts(scores),
        differences=difference_texts(scores),
        lost=lost_texts(scores),
        confusions=confusion_texts(scores),
        preparations=preparation_texts(scores),
        ledger=[] if loaded is None else ledger_texts(loaded.run, loaded.config, unique_names(scores.subjects)),
        ledger_note="" if loaded is None else ledger_note(loaded.run, loaded.config, unique_names(scores.subjects)),
        judges=judge_texts(scores),
        meanings=load_meanings(include_paths),
        provenance=[] if loaded is None else provenance(loaded),
    )
    return [write_whole(out / "index.html", page), *write_assets(out, ASSETS)]
