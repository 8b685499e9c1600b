"""Writes a run's report: the page, every table and figure in every format, the claims, and the sample browser.

Reads `Scores`, the run's items and the content folder ``reports/``; writes ``index.html``, ``claims.json``,
``tables/<layout>.{md,tex,csv,html,png}``, ``figures/<layout>.{png,pdf,csv}`` and what `write_browser` adds, the same
bytes for the same scores, in place of all that an earlier report wrote there. A layout that the run has nothing for is
skipped and listed with its reason; a layout that is wrong is a `UserError` before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.reporting.claims import write_claims
from harness.reporting.files import LIST, replacing, write_whole
from harness.reporting.layout import TABLES, Layout, layout_names, layout_path, load_layout, load_published
from harness.reporting.render.html import to_html
from harness.reporting.render.latex import to_latex
from harness.reporting.render.markdown import to_markdown
from harness.reporting.render.tidy import to_csv
from harness.reporting.table import Skipped, Table, build_table, unique_names
from harness.reporting.training_page import training_curves
from harness.scores import Scores
from harness.stages.plan import stored_config
from harness.store import Run

if TYPE_CHECKING:
    from harness.reporting.render.figures.shown import Plot
    from harness.stages.loading import LoadedRun


class Built(NamedTuple):
    """What a report holds, each in the order of its layouts."""

    tables: list[Table]
    plots: list[Plot]
    skipped: list[Skipped]


def report_run(
    run: Run,
    scores: Scores,
    include_paths: Sequence[Path] = (),
    loaded: LoadedRun | None = None,
    *,
    redact: bool = False,
    out: Path | None = None,
) -> list[Path]:
    """Writes the report of a run, with the layouts that its configuration names (all, if none).

    Args:
        run: The run.
        scores: What was measured.
        include_paths: The user's content folders.
        loaded: The run as it was scored; read again where it is not given.
        redact: Leaves out all that a model, a prompt or a judge says.
        out: Where it goes; without it, into the run's folder.

    Raises:
        UserError: As `build_tables`.
    """
    if loaded is None:
        from harness.stages.loading import load

        loaded = load(run, include_paths)
    layouts = run_layouts(run, include_paths)
    return write_report(scores, layouts, out or run.report_dir, include_paths, loaded=loaded, redact=redact)


def run_layouts(run: Run, include_paths: Sequence[Path] = ()) -> Sequence[str]:
    """The layouts that a run's configuration names; all, if it names none."""
    return stored_config(run).layouts or layout_names(include_paths)


def build_tables(
    scores: Scores, layouts: Sequence[str | Path], include_paths: Sequence[Path] = ()
) -> list[Table | Skipped]:
    """One table, or the reason why there is none, for each layout of a kind that makes a table.

    Args:
        scores: What was measured.
        layouts: Names (``discrimination``) or paths of YAML files.
        include_paths: The user's content folders.

    Raises:
        UserError: A layout, a published table or a metric's name is wrong.
    """
    found = [(layout_path(one, include_paths), _load(one, scores, include_paths)) for one in layouts]
    return [_table(path, layout, scores, include_paths) for path, layout in found if layout.kind in TABLES]


def build(
    scores: Scores,
    layouts: Sequence[str | Path],
    include_paths: Sequence[Path] = (),
    loaded: LoadedRun | None = None,
    *,
    redact: bool = False,
) -> Built:
    """Tables and figures of all layouts.

    Args:
        scores: What was measured.
        layouts: Names or paths of YAML files.
        include_paths: The user's content folders.
        loaded: The run with its items; without it the figures that need them are skipped.
        redact: As `report_run`.

    Raises:
        UserError: As `build_tables`.
    """
    from harness.reporting.render.figures import draw
    from harness.reporting.render.figures.bars import bars_plot
    from harness.reporting.render.figures.curves import curves_plots
    from harness.reporting.render.figures.shown import Source
    from harness.stages.score import Cells

    known = [(layout_path(one, include_paths), _load(one, scores, include_paths)) for one in layouts]
    source = Source(scores, loaded, None if loaded is None else Cells(loaded.items), redact)
    built = Built([], [], [])
    for path, layout in known:
        if layout.kind in TABLES:
            found: Table | Plot | Skipped = _table(path, layout, scores, include_paths)
        else:
            found = draw(path.stem, layout, source, include_paths)
        if isinstance(found, Skipped):
            built.skipped.append(found)
        elif isinstance(found, Table):
            built.tables.append(found)
            built.plots.extend([bars_plot(found)] if layout.kind == "bars" else [])
        else:
            built.plots.append(found)
    if loaded is not None:
        names = unique_names(scores.subjects)
        built.plots.extend(curves_plots(training_curves(loaded.run, loaded.config, names)))
    return built


def write_report(
    scores: Scores,
    layouts: Sequence[str | Path],
    out: Path,
    include_paths: Sequence[Path] = (),
    run_notes: Sequence[str] = (),
    loaded: LoadedRun | None = None,
    *,
    redact: bool = False,
) -> list[Path]:
    """Writes the whole report.

    Args:
        scores: What was measured.
        layouts: Names or paths of layouts, in the order of the page.
        out: Folder of the report; files of the same names are replaced, and others of an earlier report removed.
        include_paths: The user's content folders.
        run_notes: More sentences on what the run can and cannot show, after those in ``scores.notes``.
        loaded: The run with its items, for the browser and for the figures that need them.
        redact: As `report_run`.

    Returns:
        The files written, ``index.html`` first.

    Raises:
        UserError: As `build_tables` and `replacing`.
    """
    from harness.reporting.browser import write_browser
    from harness.reporting.browser.overview import write_overview
    from harness.reporting.browser.write import PAGE

    built = build(scores, layouts, include_paths, loaded, redact=redact)
    notes = [*scores.notes, *run_notes]
    samples = None if loaded is None else f"../{PAGE}"
    with replacing(out, redact=redact) as stage:
        files = [path for table in built.tables for path in _write_table(table, stage, samples)]
        files += [path for plot in built.plots for path in _write_plot(plot, stage)]
        files += [] if loaded is None else write_browser(loaded, scores, stage, include_paths, redact=redact)
        page = write_overview(scores, built.tables, built.plots, built.skipped, stage, include_paths, notes, loaded)
        files = list(dict.fromkeys([*page, *files, write_claims(scores, stage)]))
    return [*(out / path.relative_to(stage) for path in files), out / LIST]


def _load(layout: str | Path, scores: Scores, include_paths: Sequence[Path]) -> Layout:
    return load_layout(layout, include_paths, [metric.name for metric in scores.metrics])


def _table(path: Path, layout: Layout, scores: Scores, include_paths: Sequence[Path]) -> Table | Skipped:
    if layout.published is None:
        return build_table(path.stem, layout, scores)
    source, published = load_published(layout.published, path, include_paths)
    return build_table(path.stem, layout, scores, published, source)


def _write_table(table: Table, out: Path, samples: str | None) -> list[Path]:
    from harness.reporting.render.picture import table_png

    contents: dict[str, str | bytes] = {
        "md": to_markdown(table),
        "tex": to_latex(table),
        "csv": to_csv(table),
        "html": to_html(table, samples),
        "png": table_png(table),
    }
    return [write_whole(out / "tables" / f"{table.name}.{kind}", content) for kind, content in contents.items()]


def _write_plot(plot: Plot, out: Path) -> list[Path]:
    contents: dict[str, str | bytes] = {"png": plot.png, "pdf": plot.pdf, "csv": plot.csv}
    return [write_whole(out / "figures" / f"{plot.name}.{kind}", content) for kind, content in contents.items()]
