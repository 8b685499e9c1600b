"""Two metrics against each other: a point with an error ellipse a subject, and the Pareto front.

The ellipse's shadow on each axis is the metric's own interval, as the tables print it; its slant is how the errors of
the two hang together, over seeds where there are three or more and else over the items' clusters or prompts. A subject
is off the front only where paired tests say so (see `harness.stats.front`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.reporting.layout import Layout
from harness.reporting.render.figures.canvas import (
    COLOURS,
    INK,
    MARKERS,
    SOFT,
    drawable,
    label,
    new_figure,
    pictures,
    style,
)
from harness.reporting.render.figures.shown import Plot, Series, Shown, Source, csv_of, notes_of, shown
from harness.reporting.table import Skipped
from harness.scores import MetricInfo, SubjectInfo
from harness.stages.gather import clusters
from harness.stages.score import Cells
from harness.stats.core import FloatArray, cluster_codes
from harness.stats.front import Correlation, Standing, Values, correlation, p_greater, standings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, LETTERS = 4.4, 30
STANDINGS: dict[Standing, str] = {
    "front": "on the observed front",
    "open": "below it, not proven",
    "off": "off it, by the tests",
}
FILLS = {"front": "full", "open": "left", "off": "none"}


class Point(NamedTuple):
    """A subject in printed units; ``x`` is the layout's first metric, ``y`` its second.

    Attributes:
        correlation: Of the two errors, -1 to 1; empty where one shows no spread.
        level: What it was found over: ``seeds`` or ``units``.
        n: Seeds or shared units behind it.
        front: ``front``, ``open`` or ``off``; empty where a metric has no direction.
    """

    subject: str
    label: str
    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float
    correlation: float | None
    level: str
    n: int
    front: Standing | None


def scatter_plot(name: str, layout: Layout, source: Source) -> Plot | Skipped:
    """The figure, or why there is none."""
    found = shown(name, layout, source, items=True, means=True)
    if isinstance(found, Skipped):
        return found
    if len(found.series) < 2:
        return Skipped(name, f"of its two metrics only {found.series[0].metric.name} was measured")
    assert source.cells is not None
    points = points_of(found, source.cells)
    if not points:
        return Skipped(name, "no subject has both metrics")
    with style():
        files = pictures(_draw(points, found.series))
    return Plot(name, layout.title, layout.caption, _notes(layout, points), files.png, files.pdf, csv_of(points))


def points_of(found: Shown, cells: Cells) -> list[Point]:
    """The subjects that have both metrics, with correlation and standing."""
    x, y = found.series
    kept = [(one, name) for one, name in found.subjects if all(_interval(found, one, each) for each in (x, y))]
    standing = _standings([one for one, _ in kept], found, cells)
    points = []
    for one, name in kept:
        tied = _correlation(one, (x.metric, y.metric), cells)
        (a, a_low, a_high), (b, b_low, b_high) = _interval(found, one, x), _interval(found, one, y)
        front = standing.get(one.name)
        ends = {"x": a, "x_low": a_low, "x_high": a_high, "y": b, "y_low": b_low, "y_high": b_high}
        points.append(Point(one.name, name, **ends, correlation=tied.value, level=tied.level, n=tied.n, front=front))
    return points


def ellipse_of(point: Point, n_corners: int = 72) -> list[tuple[float, float]]:
    """The error ellipse's outline; each half reaches as far as its side of the interval does."""
    import numpy as np

    angles = np.linspace(0, 2 * np.pi, n_corners, endpoint=False)
    tilt = point.correlation or 0.0
    across = np.cos(angles)
    up = tilt * across + (1 - tilt**2) ** 0.5 * np.sin(angles)
    x = point.x + across * np.where(across > 0, point.x_high - point.x, point.x - point.x_low)
    y = point.y + up * np.where(up > 0, point.y_high - point.y, point.y - point.y_low)
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def _interval(found: Shown, subject: SubjectInfo, series: Series) -> tuple[float, ...]:
    """Value, low and high in printed units; nothing where the metric was not measured."""
    one = found.estimate(subject.name, series.metric.name)
    if one is None or one.value is None:
        return ()
    return tuple(series.scale * (one.value if end is None else end) for end in (one.value, one.low, one.high))


def _correlation(subject: SubjectInfo, metrics: Sequence[MetricInfo], cells: Cells) -> Correlation:
    first, second = ([_values(metric, subject.name, seed, cells) for seed in subject.seeds] for metric in metrics)
    return correlation(first, second)


def _values(metric: MetricInfo, subject: str, seed: int, cells: Cells) -> Values:
    import numpy as np

    found = cells.values(metric, subject, seed)
    units = {item.sample.key: item.sample.cluster or item.prompt for item in cells.items(metric, subject, seed)}
    return Values(np.array(list(found.values())), [units[key] for key in found])


def _standings(subjects: Sequence[SubjectInfo], found: Shown, cells: Cells) -> dict[str, Standing]:
    signs = [{True: 1.0, False: -1.0, None: 0.0}[series.metric.higher_is_better] for series in found.series]
    if 0.0 in signs:
        return {}
    places = {
        one.name: tuple(sign * _interval(found, one, each)[0] for sign, each in zip(signs, found.series, strict=True))
        for one in subjects
    }

    values = [
        {one.name: sign * _by_seed(series.metric, one, cells) for one in subjects}
        for sign, series in zip(signs, found.series, strict=True)
    ]
    items = [cells.items(series.metric, subjects[0].name, subjects[0].seeds[0]) for series in found.series]
    codes = [cluster_codes(clusters(each), len(each)) for each in items]

    def p_value(first: str, second: str) -> float:
        both = zip(values, codes, strict=True)
        return max(p_greater(each[first], each[second], numbers) for each, numbers in both)

    return standings({name: (place[0], place[1]) for name, place in places.items()}, p_value)


def _by_seed(metric: MetricInfo, subject: SubjectInfo, cells: Cells) -> FloatArray:
    """Item values, shape ``(n_seeds, n_items)``, in the samples' order, NaN where lost."""
    import numpy as np

    rows = []
    for seed in subject.seeds:
        known = cells.values(metric, subject.name, seed)
        rows.append([known.get(item.sample.key, np.nan) for item in cells.items(metric, subject.name, seed)])
    return np.array(rows, dtype=np.float64)


def _notes(layout: Layout, points: Sequence[Point]) -> tuple[str, ...]:
    basis = " and ".join(sorted({f"{point.n} {point.level}" for point in points if point.correlation is not None}))
    ellipses = "Ellipses: the shadow on each axis is the 95% interval that the tables print" + (
        f"; the slant is how the errors of the two hang together, over {basis}." if basis else "."
    )
    if points[0].front is None:
        return notes_of(layout, ellipses)
    front = (
        "Dashed: the observed Pareto front. Hollow: some other subject is better in both, by paired tests over seeds "
        "and prompts (5%, Holm over all pairs). Half filled: below the front as observed, which the tests do not show."
    )
    return notes_of(layout, ellipses, front)


def _draw(points: Sequence[Point], series: Sequence[Series]) -> Figure:
    from matplotlib.lines import Line2D

    figure = new_figure(HEIGHT)
    axes = figure.add_subplot()
    handles = [_point(axes, point, number) for number, point in enumerate(points)]
    front = sorted((point.x, point.y) for point in points if point.front == "front")
    if len(front) > 1:
        axes.plot(*zip(*front, strict=True), color=SOFT, linestyle="--", linewidth=1.0, zorder=1)
    axes.set_xlabel(drawable(series[0].heading.title()))
    axes.set_ylabel(drawable(series[1].heading.title()))
    axes.grid()
    shown_fills = [key for key in STANDINGS if any(point.front == key for point in points)]
    for key in shown_fills:
        options: dict[str, Any] = {"fillstyle": FILLS[key], "markerfacecoloralt": "white"}
        handles.append(Line2D([], [], marker="o", color=INK, linestyle="none", label=STANDINGS[key], **options))
    figure.legend(handles=handles, loc="outside right upper", labelspacing=0.7)
    return figure


def _point(axes: Axes, point: Point, number: int) -> Any:
    from matplotlib.patches import Polygon

    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    outline = ellipse_of(point)
    axes.add_patch(Polygon(outline, closed=True, facecolor=colour, edgecolor="none", alpha=0.10, zorder=1))
    axes.add_patch(Polygon(outline, closed=True, facecolor="none", edgecolor=colour, linewidth=0.8, zorder=2))
    options: dict[str, Any] = {"fillstyle": FILLS[point.front or "front"], "markerfacecoloralt": "white"}
    (drawn,) = axes.plot(
        point.x, point.y, marker=marker, color=colour, linestyle="none", markersize=6.5, zorder=3,
        label=label(point.label, LETTERS), **options,
    )  # fmt: skip
    return drawn
