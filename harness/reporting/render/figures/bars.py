"""Grouped bars with intervals: one group a subject, one bar a metric. Reads a `Table`, whose numbers they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.reporting.render.figures.canvas import (
    COLOURS,
    HATCHES,
    INK,
    label,
    legend_above,
    new_figure,
    pictures,
    row_height,
    style,
)
from harness.reporting.render.figures.shown import Plot, csv_of
from harness.reporting.table import Heading, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure

LETTERS = 30
THICK = 0.17
"""Height of a bar, inches."""
GROUP = 0.82
"""Share of a group's height that its bars take."""


class Bar(NamedTuple):
    """One bar, in printed units; an end is ``None`` where no interval can be given."""

    subject: str
    label: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n_scored: int
    n_planned: int


def bars_of(table: Table) -> list[Bar]:
    """The measured cells of a table, row by row."""
    found = []
    for row in table.rows:
        for heading, cell in zip(table.headings, row.cells, strict=True):
            one, scale = cell.estimate, 100.0 if heading.percent else 1.0
            if one is not None and one.value is not None:
                low, high = (None if end is None else end * scale for end in (one.low, one.high))
                bar = Bar(
                    row.subject, row.name, heading.metric, one.value * scale, low, high, one.n_scored, one.n_total
                )
                found.append(bar)
    return found


def bars_plot(table: Table) -> Plot:
    """The bars of a table, under its title, caption and footnotes."""
    bars = bars_of(table)
    with style():
        files = pictures(_draw(table, bars))
    return Plot(table.name, table.title, table.caption, table.footnotes, files.png, files.pdf, csv_of(bars))


def _draw(table: Table, bars: list[Bar]) -> Figure:
    names = [label(row.name, LETTERS) for row in table.rows]
    figure = new_figure(0.9 + len(names) * row_height(names, len(table.headings) * THICK / GROUP))
    axes = figure.add_subplot()
    places = {row.subject: place for place, row in enumerate(table.rows)}
    handles = [_metric(axes, table.headings, number, bars, places) for number in range(len(table.headings))]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(places) - 0.5, -0.5)
    if table.headings[0].percent:
        axes.set_xlim(0, 104)
        axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("%" if table.headings[0].percent else "score")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    legend_above(figure, handles, [heading.label for heading in table.headings])
    return figure


def _metric(
    axes: Axes, headings: tuple[Heading, ...], number: int, bars: list[Bar], places: dict[str, int]
) -> BarContainer:
    heading, height = headings[number], GROUP / len(headings)
    own = [bar for bar in bars if bar.metric == heading.metric]
    at = [places[bar.subject] + (number - (len(headings) - 1) / 2) * height for bar in own]
    values = [bar.value for bar in own]
    reach = [
        [0.0 if bar.low is None else bar.value - bar.low for bar in own],
        [0.0 if bar.high is None else bar.high - bar.value for bar in own],
    ]
    drawn = axes.barh(
        at, values, height * 0.92, color=COLOURS[number % len(COLOURS)],
        hatch=HATCHES[number % len(HATCHES)], edgecolor="white", linewidth=0.4,
    )  # fmt: skip
    axes.errorbar(values, at, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.0, capsize=2)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
    digits = 0 if heading.percent else heading.digits
    left = axes.get_xlim()[1] * 0.006
    for place, value in zip(at, values, strict=True):
        axes.text(left, place, f"{value:.{digits}f}", ha="left", va="center", fontsize=6.5, color=INK, bbox=box)
    return drawn
