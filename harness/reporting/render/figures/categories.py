"""One metric by category: a panel a subject, a bar a category with its interval, hardest category first.

The categories are the values of a sample's label; an item with several counts in each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.records import Sample
from harness.reporting.browser.categories import atoms, categories
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
from harness.scores import Estimate, SubjectInfo
from harness.stages.gather import Item
from harness.stages.score import Cells, estimate_over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, LETTERS, TITLE_LETTERS, LEAST = 4, 24, 23, 0.19
MOST = 20
"""Categories that are shown by themselves; the smallest of more are shown together."""


class CategoryRow(NamedTuple):
    """One subject on one category, in printed units; ``value`` is empty where nothing was scored."""

    subject: str
    label: str
    category: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    method: str
    n_scored: int
    n_planned: int


def categories_plot(name: str, layout: Layout, source: Source) -> Plot | Skipped:
    """The figure, or why there is none."""
    found = shown(name, layout, source, items=True, means=True)
    if isinstance(found, Skipped):
        return found
    assert source.cells is not None
    assert layout.by is not None
    rows = category_rows(found, source.cells, layout.by)
    if source.redact and rows and not _unsaid(found, source.cells, layout.by):
        return Skipped(name, f"values of the label '{layout.by}' stand in prompts, which this report leaves out")
    if not rows:
        return Skipped(name, f"no sample of {found.series[0].metric.task} has the label '{layout.by}'")
    with style():
        files = pictures(_draw(found, rows))
    notes = notes_of(
        layout,
        "Bars with 95% intervals, hardest category first; n = items planned, over all seeds. Line: the subject's value "
        "over all categories. The intervals are those of one bar each: with many bars, some differ by chance.",
    )
    return Plot(name, layout.title, layout.caption, notes, files.png, files.pdf, csv_of(rows))


def category_rows(found: Shown, cells: Cells, by: str) -> list[CategoryRow]:
    """Each subject on each category, the hardest (over all subjects) first."""
    series = found.series[0]
    rows = []
    for subject, name in found.subjects:
        for category, one in _estimates(subject, series, cells, by):
            value, low, high = (None if x is None else x * series.scale for x in (one.value, one.low, one.high))
            rows.append(
                CategoryRow(
                    subject.name,
                    name,
                    category,
                    series.metric.name,
                    value,
                    low,
                    high,
                    one.method,
                    one.n_scored,
                    one.n_total,
                )
            )
    order = _hardest_first(rows, series)
    places = {subject.name: place for place, (subject, _) in enumerate(found.subjects)}
    return sorted(rows, key=lambda row: (places[row.subject], order.index(row.category)))


def categories_of(sample: Sample, by: str) -> list[str]:
    """The categories of a sample, each once (see `harness.reporting.browser.categories.atoms`)."""
    return list(dict.fromkeys(atoms(sample.labels.get(by))))


def _unsaid(found: Shown, cells: Cells, by: str) -> bool:
    """True where no category stands word for word in a prompt."""
    subject = found.subjects[0][0]
    items = cells.items(found.series[0].metric, subject.name, subject.seeds[0])
    return by in categories([item.sample for item in items], redact=True)


def _estimates(subject: SubjectInfo, series: Series, cells: Cells, by: str) -> Iterator[tuple[str, Estimate]]:
    metric = series.metric
    items = {seed: cells.items(metric, subject.name, seed) for seed in subject.seeds}
    kinds = {seed: [categories_of(item.sample, by) for item in each] for seed, each in items.items()}
    together = _grouping(Counter(kind for each in kinds.values() for names in each for kind in names))
    parts: dict[str, dict[int, list[Item]]] = {
        category: {seed: [] for seed in subject.seeds} for category in dict.fromkeys(together.values())
    }
    for seed, each in items.items():
        for item, names in zip(each, kinds[seed], strict=True):
            for category in dict.fromkeys(together[kind] for kind in names):
                parts[category][seed].append(item)
    for category, part in parts.items():
        own = Cells({(subject.name, seed, metric.task): each for seed, each in part.items()})
        yield category, estimate_over_seeds(metric, subject.name, subject.seeds, own)


def _grouping(counts: Counter[str]) -> dict[str, str]:
    """Category → the name that it is shown under; the largest ones under their own."""
    ranked = sorted(counts, key=lambda kind: (-counts[kind], kind))
    if len(ranked) <= MOST:
        return {kind: kind for kind in ranked}
    rest = f"{len(ranked) - MOST + 1} smaller categories"
    return {kind: kind if place < MOST - 1 else rest for place, kind in enumerate(ranked)}


def _hardest_first(rows: Sequence[CategoryRow], series: Series) -> list[str]:
    sign = -1.0 if series.metric.higher_is_better is False else 1.0
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row.category, []).extend([] if row.value is None else [sign * row.value])
    return sorted(values, key=lambda kind: (sum(values[kind]) / max(len(values[kind]), 1), kind))


def _draw(found: Shown, rows: Sequence[CategoryRow]) -> Figure:
    kinds = list(dict.fromkeys(row.category for row in rows))
    n_rows, _ = grid_of(len(found.subjects), COLUMNS)
    planned = {row.category: row.n_planned for row in reversed(rows)}
    names = [label(f"{kind} (n={planned[kind]})", LETTERS) for kind in kinds]
    figure = new_figure(0.3 + n_rows * (0.55 + row_height(names, LEAST) * len(kinds)))
    panels = panels_of(figure, len(found.subjects), COLUMNS, sharex=True)
    for panel, (subject, name) in zip(panels, found.subjects, strict=True):
        _panel(panel, [row for row in rows if row.subject == subject.name], kinds, found)
        panel.set_title(label(name, TITLE_LETTERS), loc="left", fontsize=7.5)
    panels[0].set_yticks(range(len(kinds)), names)
    panels[0].set_ylim(len(kinds) - 0.5, -0.5)
    panels[0].set_xlim(*found.series[0].bounds)
    figure.supxlabel(drawable(found.series[0].heading.title()), fontsize=8.5)
    return figure


def _panel(panel: Axes, rows: Sequence[CategoryRow], kinds: Sequence[str], found: Shown) -> None:
    series = found.series[0]
    left = series.bounds[0]
    for row in rows:
        place = kinds.index(row.category)
        if row.value is None:
            panel.text(left, place, " not measured", va="center", fontsize=6.5, color=SOFT)
            continue
        panel.barh(place, row.value - left, 0.74, left=left, color=COLOURS[4], edgecolor="white", linewidth=0.3)
        if row.low is not None and row.high is not None:
            panel.plot([row.low, row.high], [place, place], color=INK, linewidth=1.0)
            panel.plot([row.low, row.high], [place, place], "|", color=INK, markersize=3.5)
    whole = found.estimate(rows[0].subject, series.metric.name)
    if whole is not None and whole.value is not None:
        panel.axvline(whole.value * series.scale, color=COLOURS[5], linewidth=0.9, linestyle="--")
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
