"""Any table as a PNG, for slides and chats; print takes LaTeX."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from harness.reporting.render.figures.canvas import COLOURS, DPI, GRID, INK, SOFT, drawable, file_bytes, style
from harness.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "DPI", "INK", "SOFT", "table_png"]
PAPER = "#7a4e8f"
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
    with style():
        return file_bytes(_draw(table), "png")


def _draw(table: Table) -> Figure:
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
    return figure


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
        axes.plot([0.2, right], [y, y], color=GRID, linewidth=0.6)


def _text(axes: Axes, x: float, y: float, line: _Line, side: str) -> None:
    axes.text(
        x, y, drawable(line.text), ha=side, va="center", fontsize=line.size, color=line.colour, fontweight=line.weight
    )  # fmt: skip
