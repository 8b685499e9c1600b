"""Every training seed by itself, with the mean over seeds and its interval: a panel a metric, a line a subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.reporting.layout import Layout
from harness.reporting.render.figures.canvas import (
    COLOURS,
    INK,
    SOFT,
    drawable,
    grid_of,
    label,
    new_figure,
    panels_of,
    pictures,
    row_height,
    style,
)
from harness.reporting.render.figures.shown import Plot, Series, Shown, Source, csv_of, notes_of, shown
from harness.reporting.table import Skipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTERS, LEAST, COLUMNS = 26, 0.26, 3


class SeedRow(NamedTuple):
    """One value in printed units: of one seed, or with ``seed`` None the mean with its interval."""

    subject: str
    label: str
    metric: str
    seed: int | None
    value: float
    low: float | None
    high: float | None
    n_scored: int
    n_planned: int
    method: str


def seeds_plot(name: str, layout: Layout, source: Source) -> Plot | Skipped:
    """The figure, or why there is none."""
    found = shown(name, layout, source)
    if isinstance(found, Skipped):
        return found
    if all(len(one.seeds) < 2 for one, _ in found.subjects):
        return Skipped(name, "the run has one seed")
    rows = seed_rows(found)
    with style():
        files = pictures(_draw(found, rows))
    notes = notes_of(
        layout,
        "Small marks: one training seed each. Diamond and line: the mean over seeds with its 95% interval; where all "
        "seeds agree exactly the interval is that of the items.",
    )
    return Plot(name, layout.title, layout.caption, notes, files.png, files.pdf, csv_of(rows))


def seed_rows(found: Shown) -> list[SeedRow]:
    """The seeds of each subject and metric, then their mean."""
    rows = []
    for subject, name in found.subjects:
        for series in found.series:
            for seed in (*subject.seeds, None):
                one, scale = found.estimate(subject.name, series.metric.name, seed), series.scale
                if one is None or one.value is None:
                    continue
                low, high = (None if end is None else end * scale for end in (one.low, one.high))
                rows.append(
                    SeedRow(
                        subject.name, name, series.metric.name, seed, one.value * scale, low, high, one.n_scored,
                        one.n_total, one.method,
                    )
                )  # fmt: skip
    return rows


def _draw(found: Shown, rows: Sequence[SeedRow]) -> Figure:
    n_rows, _ = grid_of(len(found.series), COLUMNS)
    names = [label(name, LETTERS) for _, name in found.subjects]
    figure = new_figure(n_rows * (0.6 + row_height(names, LEAST) * len(names)))
    panels = panels_of(figure, len(found.series), COLUMNS)
    for panel, series in zip(panels, found.series, strict=True):
        _panel(panel, series, [row for row in rows if row.metric == series.metric.name], found)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _panel(panel: Axes, series: Series, rows: Sequence[SeedRow], found: Shown) -> None:
    places = {subject.name: place for place, (subject, _) in enumerate(found.subjects)}
    for row in rows:
        place = places[row.subject]
        if row.seed is not None:
            panel.plot(row.value, place - 0.2, "o", color=COLOURS[0], markersize=3.2, markeredgewidth=0, alpha=0.65)
            continue
        if row.low is not None and row.high is not None:
            panel.plot([row.low, row.high], [place + 0.12] * 2, color=INK, linewidth=1.1)
        panel.plot(
            row.value, place + 0.12, "D", color=COLOURS[5], markersize=4, markeredgecolor=INK, markeredgewidth=0.6
        )
    panel.set_xlabel(drawable(series.heading.title()))
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
    for place in range(1, len(places)):
        panel.axhline(place - 0.5, color=SOFT, linewidth=0.25)
