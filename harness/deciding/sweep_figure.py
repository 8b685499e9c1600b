"""A sweep as a picture: a line with its interval band over the steps, the chosen checkpoint and those tied with it.

PNG and PDF by matplotlib's file canvases, without dates, so that equal sweeps give equal bytes. Told apart by shapes as
well as by colours (Okabe and Ito's), so that it survives print and colour blindness.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from harness.deciding.sweep import Point, Sweep
from harness.reporting.render.picture import COLOURS, DPI, INK, SOFT
from harness.reporting.table import Heading, plain_heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE = COLOURS[0], COLOURS[5]


def sweep_figure(found: Sweep) -> dict[str, bytes]:
    """The picture as ``png`` and ``pdf``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heading = plain_heading(found.metric)
    figure = Figure(figsize=(7.0, 4.4), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _line(axes, found, heading)
    _chosen(axes, found, heading)
    axes.set_xlabel("training steps")
    axes.set_ylabel(heading.title(), parse_math=False)
    axes.grid(axis="y", color="#d5dae3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.06)
    figure.legend(loc="lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(heading.label, x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK, parse_math=False)
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    without: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    files = {kind: io.BytesIO() for kind in without}
    for kind, file in files.items():
        figure.savefig(file, format=kind, metadata=without[kind])
    return {kind: file.getvalue() for kind, file in files.items()}


def _line(axes: Axes, found: Sweep, heading: Heading) -> None:
    scale = 100.0 if heading.percent else 1.0
    known = [(point, point.all_items) for point in found.points if point.all_items.value is not None]
    steps = [point.step for point, _ in known]
    values = [scale * (one.value or 0.0) for _, one in known]
    bands = [
        (point.step, scale * one.low, scale * one.high)
        for point, one in known
        if one.low is not None and one.high is not None
    ]
    where, lows, highs = ([band[i] for band in bands] for i in range(3))
    axes.fill_between(where, lows, highs, color=BLUE, alpha=0.18, linewidth=0, label="95% interval")
    axes.plot(steps, values, color=BLUE, linewidth=1.8, label="all items")
    for tied, label, face in (
        (True, "tied with the chosen one", BLUE),
        (False, "not tied with it", "white"),
        (None, "not compared with it", SOFT),
    ):
        own = [place for place, (point, _) in enumerate(known) if point.tied == tied]
        if own:
            places = [steps[i] for i in own], [values[i] for i in own]
            named = label if found.best else "checkpoint"
            axes.plot(
                *places, linestyle="none", marker="o", markersize=6, color=BLUE, markerfacecolor=face, label=named
            )


def _chosen(axes: Axes, found: Sweep, heading: Heading) -> None:
    """The chosen checkpoint's value on the test half, beside its point on the line."""
    point = found.point(found.best)
    if point is None or point.test.value is None:
        return
    scale = 100.0 if heading.percent else 1.0
    test, place = point.test, point.step + _nudge(found.points)
    value = point.test.value
    ends = [[scale * (value - (value if test.low is None else test.low))],
            [scale * ((value if test.high is None else test.high) - value)]]  # fmt: skip
    axes.errorbar(
        [place], [scale * value], yerr=ends, color=ORANGE, marker="D", markersize=7, capsize=4, linewidth=1.5,
        linestyle="none", label="chosen on the dev half, measured on the test half",
    )  # fmt: skip
    axes.axvline(point.step, color=SOFT, linewidth=0.8, linestyle=":")


def _nudge(points: tuple[Point, ...]) -> float:
    """Far enough from the line's own point to be seen beside it."""
    return 0.015 * (points[-1].step - points[0].step)
