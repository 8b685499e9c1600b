"""What a figure shows: the subjects and metrics of its layout that were measured, and the files that come of it.

Reads scores and, where a figure needs items, the run that they were made from. A figure that has nothing to show is a
`Skipped` with its reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.reporting.layout import Layout
from harness.reporting.table import Heading, Skipped, heading_of, unique_names
from harness.scores import Estimate, MetricInfo, Scores, SubjectInfo
from harness.stages.loading import LoadedRun
from harness.stages.score import ITEM_MEANS, Cells


class Source(NamedTuple):
    """What figures are made from.

    Attributes:
        scores: What was measured.
        loaded: The run with its items; ``None`` leaves the figures out that need them.
        cells: The same items with what metrics read from them, kept between figures.
        redact: Nothing that stands in a prompt may be drawn.
    """

    scores: Scores
    loaded: LoadedRun | None = None
    cells: Cells | None = None
    redact: bool = False


class Plot(NamedTuple):
    """A figure with its files and what to say about it.

    Attributes:
        name: Name of the layout, which names the files too.
        title: Heading.
        caption: What is compared.
        footnotes: How to read it.
        png: The picture.
        pdf: The same for print.
        csv: The data behind it, with a header line.
    """

    name: str
    title: str
    caption: str
    footnotes: tuple[str, ...]
    png: bytes
    pdf: bytes
    csv: str


class Series(NamedTuple):
    """A metric of a figure and how it is printed."""

    metric: MetricInfo
    heading: Heading

    @property
    def scale(self) -> float:
        """Factor from the metric's own unit to the printed one."""
        return 100.0 if self.heading.percent else 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value, printed unit."""
        return self.metric.bounds[0] * self.scale, self.metric.bounds[1] * self.scale


class Shown(NamedTuple):
    """The measured subjects with a unique name each, and the measured metrics."""

    subjects: list[tuple[SubjectInfo, str]]
    series: list[Series]
    estimates: dict[tuple[str, str, int | None], Estimate]

    def estimate(self, subject: str, metric: str, seed: int | None = None) -> Estimate | None:
        """An estimate that has a value."""
        found = self.estimates.get((subject, metric, seed))
        return found if found is not None and found.value is not None else None


def shown(name: str, layout: Layout, source: Source, *, items: bool = False, means: bool = False) -> Shown | Skipped:
    """What there is of a layout.

    Args:
        name: Name of the layout.
        layout: The layout.
        source: Scores and run.
        items: The figure needs the run's items.
        means: The figure needs metrics that are means over items.
    """
    if items and source.cells is None:
        return Skipped(name, "it is made from the run's items, and here are only its scores")
    estimates = {(row.subject, row.metric, row.seed): row.estimate for row in source.scores.estimates}
    found = Shown([], [], estimates)
    metrics = {metric.name: metric for metric in source.scores.metrics}
    chosen = layout.subjects(source.scores.subjects)
    for column in layout.columns:
        metric = metrics.get(column.metric)
        if metric is None or not any(found.estimate(one.name, metric.name) for one in chosen):
            continue
        if means and metric.kind not in ITEM_MEANS:
            return Skipped(name, f"{metric.name} is no mean over items, which this figure needs")
        found.series.append(Series(metric, heading_of(column, metric)))
    if not found.series:
        return Skipped(name, f"none of its metrics was measured ({', '.join(c.metric for c in layout.columns)})")
    kept = [one for one in chosen if any(found.estimate(one.name, s.metric.name) for s in found.series)]
    names = unique_names(kept)
    found.subjects.extend((one, names[one.name]) for one in kept)
    return found


def csv_of(rows: Sequence[Any]) -> str:
    """Rows of one NamedTuple as CSV with a header line; ``None`` is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    for row in rows:
        writer.writerow([f"{cell:.10g}" if isinstance(cell, float) else "" if cell is None else cell for cell in row])
    return out.getvalue()


def notes_of(layout: Layout, *notes: str) -> tuple[str, ...]:
    """Footnotes, the layout's own last."""
    return tuple(note for note in (*notes, layout.note) if note)
