"""Pictures: any table as PNG, and grouped bars with their intervals as PNG and PDF.

Drawn with matplotlib's file canvases, so no display and no global state; without dates, so equal tables give equal
bytes. Colours are Okabe and Ito's, told apart by hatching as well, and print in black and white.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
HATCHES = ("", "//", "..", "xx", "--", "oo")
INK, SOFT, PAPER = "#1c2330", "#5a6475", "#7a4e8f"
DPI = 160
LINE = 0.19
"""Height of a line of text, inches."""
LETTER = 0.078
"""Width of a letter at 9 points, inches; a little more than DejaVu Sans needs."""


class _Line(NamedTuple):
    text: str
    size: float = 9.0
    colour: str = INK
    weight: str = "normal"


def table_png(table: Table) -> bytes:
    """The table as a PNG: value and difference, and below them interval, coverage and published number."""
    from matplotlib.figure import Figure

    columns, heads = _grid(table)
    widths = [_width(column, head) for column, head in zip(columns, heads, strict=True)]
    heights = [max(len(column[i]) for column in columns) * LINE + 0.12 for i in range(len(table.rows))]
    head_height = max(len(head) for head in heads) * LINE + 0.12
    total_width = max(sum(widths) + 0.4, 6.0)
    notes = _wrapped(table.footnotes, total_width)
    title = [_Line(table.title, 12, weight="bold"), *_wrapped((table.caption,), total_width)]
    total_height = len(title) * LINE * 1.15 + head_height + sum(heights) + len(notes) * LINE * 0.9 + 0.75
    figure = Figure(figsize=(total_width, total_height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, total_width), ylim=(total_height, 0))
    axes.axis("off")
    y = _stack(axes, title, 0.2, 0.25, LINE * 1.15)
    _body(axes, columns, heads, widths, heights, y + 0.05, head_height, len(table.groups))
    _stack(axes, notes, 0.2, y + head_height + sum(heights) + 0.25, LINE * 0.9)
    return _bytes(figure, "png")


def bars_figure(table: Table) -> dict[str, bytes]:
    """Grouped bars, one group a subject and one bar a metric, with intervals; ``png`` and ``pdf``."""
    from matplotlib.figure import Figure

    n_bars = len(table.headings)
    figure = Figure(figsize=(max(6.0, 1.2 + len(table.rows) * (0.45 * n_bars + 0.5)), 4.6), dpi=DPI, facecolor="white")
    axes = figure.add_subplot()
    for number in range(n_bars):
        _bars(axes, table, number, 0.8 / n_bars)
    names = ["\n".join(textwrap.wrap(row.name, 20)) for row in table.rows]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    percent = table.headings[0].percent
    if percent:
        axes.set_ylim(0, 108)
        axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("%" if percent else table.headings[0].label)
    axes.grid(axis="y", color="#d5dae3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(rect=(0, 0, 1, 0.88))
    figure.suptitle(table.title, x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.legend(loc="upper left", bbox_to_anchor=(0.02, 0.94), ncols=n_bars, frameon=False, fontsize=9)
    return {kind: _bytes(figure, kind) for kind in ("png", "pdf")}


def _bars(axes: Axes, table: Table, number: int, width: float) -> None:
    heading = table.headings[number]
    scale = 100 if heading.percent else 1
    places: list[float] = []
    values, down, up = list[float](), list[float](), list[float]()
    for place, row in enumerate(table.rows):
        estimate = row.cells[number].estimate
        if estimate is None or estimate.value is None:
            continue
        low, high = (estimate.value if end is None else end for end in (estimate.low, estimate.high))
        places.append(place + (number - (len(table.headings) - 1) / 2) * width)
        values.append(estimate.value * scale)
        down.append((estimate.value - low) * scale)
        up.append((high - estimate.value) * scale)
    colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
    axes.bar(
        places, values, width * 0.92, label=heading.label, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4
    )
    axes.errorbar(places, values, yerr=[down, up], fmt="none", ecolor=INK, elinewidth=1.1, capsize=3)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    bottom, digits = (1.5, 0) if heading.percent else (0.0, heading.digits)
    for at, value in zip(places, values, strict=True):
        axes.text(at, bottom, f"{value:.{digits}f}", ha="center", va="bottom", fontsize=8, color=INK, bbox=box)


def _grid(table: Table) -> tuple[list[list[list[_Line]]], list[list[_Line]]]:
    """Lines of each cell by column, and of each column's heading."""
    groups = [[[_Line(row.heads[i])] for row in table.rows] for i in range(len(table.groups))]
    metrics = [[_cell_lines(row.cells[i]) for row in table.rows] for i in range(len(table.headings))]
    titles = [*table.groups, *(heading.title() for heading in table.headings)]
    heads = [[_Line(part, weight="bold") for part in textwrap.wrap(title, 20)] for title in titles]
    return [*groups, *metrics], heads


def _cell_lines(cell: Cell) -> list[_Line]:
    text = cell.text
    small = [_Line(part, 7.5, SOFT) for part in (text.interval, text.coverage, text.bounds) if part]
    paper = [_Line(text.published, 7.5, PAPER)] if text.published else []
    return [_Line(f"{text.value} {text.difference}".strip()), *small, *paper]


def _width(column: list[list[_Line]], head: list[_Line]) -> float:
    lines = [*head, *(line for cell in column for line in cell)]
    return max(len(line.text) * LETTER * line.size / 9 * (1.1 if line.weight == "bold" else 1) for line in lines) + 0.28


def _wrapped(texts: tuple[str, ...], width: float) -> list[_Line]:
    n_letters = int((width - 0.4) / (LETTER * 8 / 9))
    return [_Line(part, 8, SOFT) for text in texts for part in textwrap.wrap(text, n_letters)]


def _stack(axes: Axes, lines: list[_Line], x: float, y: float, step: float) -> float:
    for line in lines:
        _text(axes, x, y, line, "left")
        y += step
    return y


def _body(
    axes: Axes,
    columns: list[list[list[_Line]]],
    heads: list[list[_Line]],
    widths: list[float],
    heights: list[float],
    top: float,
    head_height: float,
    n_groups: int,
) -> None:
    right = 0.2 + sum(widths)
    for y, weight in ((top, 1.4), (top + head_height, 0.8), (top + head_height + sum(heights), 1.4)):
        axes.plot([0.2, right], [y, y], color=INK, linewidth=weight)
    left = 0.2
    for number, (column, head, width) in enumerate(zip(columns, heads, widths, strict=True)):
        x, side = (left + 0.08, "left") if number < n_groups else (left + width - 0.08, "right")
        offset = (max(len(one) for one in heads) - len(head)) * LINE
        for i, line in enumerate(head):
            _text(axes, x, top + 0.16 + offset + i * LINE, line, side)
        y = top + head_height
        for cell, height in zip(column, heights, strict=True):
            for i, line in enumerate(cell):
                _text(axes, x, y + 0.16 + i * LINE, line, side)
            y += height
        left += width
    for i in range(1, len(heights)):
        y = top + head_height + sum(heights[:i])
        axes.plot([0.2, right], [y, y], color="#d5dae3", linewidth=0.6)


def _text(axes: Axes, x: float, y: float, line: _Line, side: str) -> None:
    """Plain text: ``$`` starts no formula."""
    options: dict[str, Any] = {"ha": side, "fontweight": line.weight, "parse_math": False}
    axes.text(x, y, line.text, va="center", fontsize=line.size, color=line.colour, **options)


def _bytes(figure: Figure, kind: str) -> bytes:
    """The figure's file without dates or versions of the writer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None}
    figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()
