"""Histograms of item values: a panel a subject, a colour a metric, with each metric's mean.

Metrics with different scales are drawn on one from 0 to 1. Of an accuracy that is read from the likelihood of the
labels the value is the probability that the model gave to the right one, which says more than right or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.reporting.layout import Layout
from harness.reporting.render.figures.canvas import (
    COLOURS,
    HATCHES,
    INK,
    MARKERS,
    drawable,
    grid_of,
    label,
    legend_above,
    new_figure,
    panels_of,
    pictures,
    style,
)
from harness.reporting.render.figures.shown import Plot, Series, Shown, Source, csv_of, notes_of, shown
from harness.reporting.table import Skipped
from harness.stages.gather import Item
from harness.stages.score import Cells
from harness.stats.core import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, TITLE_LETTERS, HEIGHT = 3, 34, 1.45
N_BINS, MOST_STEPS = 10, 20
"""Bins of a scale without steps, and the longest scale of whole numbers that gets one bin a number."""


class Bin(NamedTuple):
    """A bar of a histogram; ``low`` counts in, ``high`` does not but in the last bin."""

    subject: str
    label: str
    metric: str
    low: float
    high: float
    n: int
    share: float
    mean: float
    n_scored: int
    n_planned: int


class Scale(NamedTuple):
    """An axis: the bins' edges, whether values are first scaled to 0–1, and whether bins are whole numbers."""

    edges: FloatArray
    scaled: bool
    whole: bool


class _Found(NamedTuple):
    """Item values of one subject and metric over all seeds, and how many were planned."""

    values: FloatArray
    n_planned: int


Histograms = dict[tuple[str, str], _Found]


def distribution_plot(name: str, layout: Layout, source: Source) -> Plot | Skipped:
    """The figure, or why there is none."""
    found = shown(name, layout, source, items=True, means=True)
    if isinstance(found, Skipped):
        return found
    assert source.cells is not None
    values = _values(found, source.cells)
    scale = scale_of(found.series, values)
    bins = bins_of(found, values, scale)
    with style():
        files = pictures(_draw(found, bins, scale))
    notes = notes_of(
        layout,
        f"Share of the scored items over all seeds ({_n_scored(bins)} a histogram); marks: means.",
        "Each scale is drawn from 0 to 1." if scale.scaled else "",
        _likelihoods(found, source.cells),
    )
    return Plot(name, layout.title, layout.caption, notes, files.png, files.pdf, csv_of(bins))


def item_scores(series: Series, items: Sequence[Item], values: dict[str, float]) -> dict[str, float]:
    """Sample key → value as measured, or the probability of the right label where likelihoods are known."""
    if not _reads_likelihood(series, items):
        return values
    return {item.sample.key: _right(item) for item in items if item.sample.key in values}


def scale_of(series: Sequence[Series], values: Histograms) -> Scale:
    """One bin a number where all values are whole and the scale is one and short, else ten bins."""
    import numpy as np

    bounds = {each.metric.bounds for each in series}
    if len(bounds) > 1:
        return Scale(np.linspace(0, 1, N_BINS + 1), scaled=True, whole=False)
    low, high = next(iter(bounds))
    if high - low <= MOST_STEPS and all(bool((one.values == np.round(one.values)).all()) for one in values.values()):
        return Scale(np.arange(low - 0.5, high + 1), scaled=False, whole=True)
    return Scale(np.linspace(low, high, N_BINS + 1), scaled=False, whole=False)


def bins_of(found: Shown, values: Histograms, scale: Scale) -> list[Bin]:
    """All bars, subject by subject."""
    import numpy as np

    rows = []
    for subject, name in found.subjects:
        for series in found.series:
            one = values.get((subject.name, series.metric.name))
            if one is None:
                continue
            low, high = series.metric.bounds
            placed = (one.values - low) / (high - low) if scale.scaled else one.values
            counts, _ = np.histogram(placed, scale.edges)
            for count, left, right in zip(counts, scale.edges, scale.edges[1:], strict=False):
                share, mean = float(count) / placed.size, float(placed.mean())
                rows.append(
                    Bin(
                        subject.name, name, series.metric.name, float(left), float(right), int(count), share, mean,
                        placed.size, one.n_planned,
                    )
                )  # fmt: skip
    return rows


def _values(found: Shown, cells: Cells) -> Histograms:
    import numpy as np

    histograms = {}
    for subject, _ in found.subjects:
        for series in found.series:
            if found.estimate(subject.name, series.metric.name) is None:
                continue
            values: list[float] = []
            n_planned = 0
            for seed in subject.seeds:
                items = cells.items(series.metric, subject.name, seed)
                values += item_scores(series, items, cells.values(series.metric, subject.name, seed)).values()
                n_planned += len(items)
            if values:
                histograms[subject.name, series.metric.name] = _Found(np.array(values), n_planned)
    return histograms


def _reads_likelihood(series: Series, items: Sequence[Item]) -> bool:
    return series.metric.kind == "accuracy" and all(
        item.completion is None or item.completion.logprobs is not None for item in items
    )


def _right(item: Item) -> float:
    """The probability of the right label among the labels that were offered."""
    logprobs = (item.completion.logprobs if item.completion else None) or {}
    largest = max(logprobs.values())
    weights = {name: math.exp(value - largest) for name, value in logprobs.items()}
    return weights.get(item.sample.target or "", 0.0) / sum(weights.values())


def _n_scored(bins: Sequence[Bin]) -> str:
    fewest, most = min(row.n_scored for row in bins), max(row.n_scored for row in bins)
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def _likelihoods(found: Shown, cells: Cells) -> str:
    subject = found.subjects[0][0]
    named = [
        drawable(series.heading.label)
        for series in found.series
        if _reads_likelihood(series, cells.items(series.metric, subject.name, subject.seeds[0]))
    ]
    return f"{'; '.join(named)}: the probability that the model gives to the right label." if named else ""


def _draw(found: Shown, bins: Sequence[Bin], scale: Scale) -> Figure:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    n_rows, _ = grid_of(len(found.subjects), COLUMNS)
    figure = new_figure(0.65 + n_rows * HEIGHT)
    panels = panels_of(figure, len(found.subjects), COLUMNS, sharex=True)
    for panel, (subject, name) in zip(panels, found.subjects, strict=True):
        for number, series in enumerate(found.series):
            own = [row for row in bins if row.subject == subject.name and row.metric == series.metric.name]
            _histogram(panel, own, number, len(found.series))
        panel.set_title(label(name, TITLE_LETTERS), loc="left", fontsize=8)
        panel.grid(axis="y")
    panels[0].set_ylim(0, 118 * max(row.share for row in bins))
    panels[0].set_xlim(float(scale.edges[0]), float(scale.edges[-1]))
    if scale.whole:
        panels[0].set_xticks([int(edge + 0.5) for edge in scale.edges[:-1]])
    one = found.series[0].heading.label if len(found.series) == 1 else "score"
    figure.supxlabel(drawable(one + (", scaled to 0–1" if scale.scaled else "")), fontsize=8.5)
    figure.supylabel("% of items", fontsize=8.5)
    handles = [
        (Patch(facecolor=COLOURS[n], hatch=HATCHES[n], edgecolor="white"), Line2D([], [], linestyle="none", **_mean(n)))
        for n in range(len(found.series))
    ]
    legend_above(figure, handles, [series.heading.label for series in found.series])
    return figure


def _histogram(panel: Axes, bins: Sequence[Bin], number: int, n_series: int) -> None:
    if not bins:
        return
    width = (bins[0].high - bins[0].low) * 0.86 / n_series
    offset = (number - (n_series - 1) / 2) * width
    panel.bar(
        [(row.low + row.high) / 2 + offset for row in bins], [100 * row.share for row in bins], width,
        color=COLOURS[number], hatch=HATCHES[number], edgecolor="white", linewidth=0.3,
    )  # fmt: skip
    panel.plot(bins[0].mean, 0.93, transform=panel.get_xaxis_transform(), **_mean(number))


def _mean(number: int) -> dict[str, Any]:
    """How a mean is marked."""
    return {
        "marker": MARKERS[number], "color": COLOURS[number], "markersize": 5, "markeredgecolor": INK,
        "markeredgewidth": 0.6,
    }  # fmt: skip
