"""A table of typed cells, built from `Scores` and a layout by a pure function; it is all that a renderer reads.

A cell holds what was measured (an `Estimate`), the paired difference to the baseline (a `Comparison`), the published
number and the text of each. The comparisons of a table are one family: p values are adjusted over that table. Numbers
stay in the metric's own unit; only texts are in per cent. What the run does not have is left out of the table, and a
table with nothing in it is a `Skipped` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.reporting.layout import Column, Layout, PublishedRow, PublishedTable, SubjectFilter
from harness.scores import ALPHA, Comparison, Estimate, MetricInfo, Scores, SubjectInfo
from harness.stats.family import as_family

ABSENT = "–"
UNKNOWN = "?"
NO_DIFFERENCE = "n.s."
STANDS = "*"
"""Marks a difference that stands after Holm's correction over its table."""
SOURCES = {"self": "Own", "origin": "Origin"}
HEADINGS = {"label": "Method", "method": "Method", "mistakes": "Mistake source", "analysis": "Analysis source"}


class Published(NamedTuple):
    """A published number as printed, and its difference to the published baseline; ``None`` is unknown."""

    value: float | None
    difference: float | None


class CellText(NamedTuple):
    """The parts of a cell as text, each empty where there is nothing to say; renderers only arrange them."""

    value: str
    interval: str = ""
    difference: str = ""
    coverage: str = ""
    bounds: str = ""
    published: str = ""

    def line(self) -> str:
        """All parts on one line, such as ``87.2 [63.1, 100.0] (+35.1) n=720/720``."""
        measured = " ".join(part for part in (self.value, *self.details()) if part)
        return f"{measured}; {self.published}" if self.published else measured

    def details(self) -> tuple[str, str, str, str]:
        """What stands behind the value on one line."""
        return self.interval, self.difference, self.coverage, self.bounds


class Cell(NamedTuple):
    """One metric of one subject."""

    estimate: Estimate | None
    difference: Comparison | None
    published: Published | None
    text: CellText


class Heading(NamedTuple):
    """A metric column: what it is called, in which unit and with how many digits it is printed."""

    metric: str
    label: str
    percent: bool
    digits: int
    higher_is_better: bool | None

    def title(self) -> str:
        """Label, unit and direction, such as ``Harmless rate (%) ↑``; the arrow does not leave its word."""
        arrow = {True: "\u00a0↑", False: "\u00a0↓", None: ""}[self.higher_is_better]
        return f"{self.label}{' (%)' if self.percent else ''}{arrow}"


class Row(NamedTuple):
    """One subject: its leading cells, and a name that is unique within the table."""

    subject: str
    heads: tuple[str, ...]
    name: str
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """What renderers read."""

    name: str
    title: str
    kind: str
    caption: str
    groups: tuple[str, ...]
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]


class Skipped(NamedTuple):
    """A layout that the run has nothing for, and why."""

    name: str
    reason: str


class _Lookup(NamedTuple):
    """By subject and metric: what was measured, and the difference to the table's baseline."""

    estimates: dict[tuple[str, str], Estimate]
    comparisons: dict[tuple[str, str], Comparison]


def build_table(
    name: str, layout: Layout, scores: Scores, published: PublishedTable | None = None, source: str = ""
) -> Table | Skipped:
    """The table that a layout makes of a run's scores.

    Args:
        name: Name of the layout, which names the files too.
        layout: Rows, columns, baseline.
        scores: What was measured; estimates over all seeds are those with ``seed`` None.
        published: The published table beside it, if the layout asks for one.
        source: Where the published numbers come from.
    """
    metrics = {metric.name: metric for metric in scores.metrics}
    columns = [column for column in layout.columns if column.metric in metrics]
    subjects = layout.subjects(scores.subjects)
    if not columns:
        return Skipped(name, f"none of its metrics was measured ({', '.join(c.metric for c in layout.columns)})")
    baseline = _baseline(layout, scores.subjects)
    lookup = _lookup(scores, subjects, columns, baseline)
    shown = [one for one in subjects if any((one.name, column.metric) in lookup.estimates for column in columns)]
    if not shown:
        return Skipped(name, "none of its subjects was measured" if subjects else "none of its subjects is in the run")
    used = [column for column in columns if any((one.name, column.metric) in lookup.estimates for one in shown)]
    headings = tuple(heading_of(column, metrics[column.metric]) for column in used)
    names = unique_names(shown)
    rows = _distinct(_row(one, names[one.name], layout, headings, lookup, published) for one in shown)
    groups = tuple(HEADINGS[group] for group in layout.groups)
    table = Table(name, layout.title, layout.kind, layout.caption, groups, headings, rows, ())
    return table._replace(footnotes=_footnotes(table, layout, baseline, published, source))


def show(value: float, heading: Heading) -> str:
    """A value in the column's printed unit, never as ``-0.0``."""
    return f"{_rounded(value, heading):.{heading.digits}f}"


def show_difference(comparison: Comparison, heading: Heading) -> str:
    """A difference in brackets: ``(+35.1)``, ``(+2.5 n.s.)`` where its interval includes zero, or nothing."""
    if comparison.difference is None:
        return ""
    mark = {"no difference": f" {NO_DIFFERENCE}", "not measured": " no interval"}.get(comparison.decision, "")
    return f"({_rounded(comparison.difference, heading):+.{heading.digits}f}{mark})"


def stands(comparison: Comparison) -> bool:
    """Whether a difference stands after Holm's correction: its adjusted p value is 5 % or less."""
    return comparison.p_adjusted is not None and comparison.p_adjusted <= ALPHA


def show_interval(low: float | None, high: float | None, heading: Heading) -> str:
    """An interval in square brackets, or words where none can be given."""
    if low is None or high is None:
        return "[no interval]"
    return f"[{show(low, heading)}, {show(high, heading)}]"


def show_p(p_value: float | None) -> str:
    """A p value with three digits, such as ``p = 0.013``."""
    if p_value is None:
        return "no p value"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def plain_heading(metric: MetricInfo) -> Heading:
    """How a metric is printed where no layout says: rates in per cent, everything else on its own scale."""
    percent = metric.bounds == (0.0, 1.0) and metric.kind != "auc"
    digits = 1 if percent else 3 if metric.kind == "auc" else 2
    return Heading(metric.name, metric.label, percent, digits, metric.higher_is_better)


def _rounded(value: float, heading: Heading) -> float:
    return round(value * 100 if heading.percent else value, heading.digits) + 0.0


def _lookup(
    scores: Scores, subjects: Sequence[SubjectInfo], columns: Sequence[Column], baseline: SubjectInfo | None
) -> _Lookup:
    rows, metrics = {one.name for one in subjects}, {column.metric for column in columns}
    tested = {
        (row.subject, row.metric): row.comparison
        for row in scores.comparisons
        if baseline is not None and row.baseline == baseline.name and row.subject in rows and row.metric in metrics
    }
    return _Lookup(
        {(row.subject, row.metric): row.estimate for row in scores.estimates if row.seed is None},
        dict(zip(tested, as_family(list(tested.values())), strict=True)),
    )


def heading_of(column: Column, metric: MetricInfo) -> Heading:
    """How a layout prints a metric."""
    label = column.label or metric.label
    return Heading(metric.name, label, column.unit == "percent", column.digits, metric.higher_is_better)


def _baseline(layout: Layout, subjects: tuple[SubjectInfo, ...]) -> SubjectInfo | None:
    if layout.baseline is None:
        return None
    chosen = layout.model_copy(update={"rows": (layout.baseline,)}).subjects(subjects)
    return chosen[0] if chosen else None


def unique_names(subjects: Sequence[SubjectInfo]) -> dict[str, str]:
    """Labels; where several subjects share one, with the sources behind it, or else the subject's name."""
    found = {one.name: one.label for one in subjects}
    for repeat in (lambda one: f"{one.label} ({_sources(one)})", lambda one: one.name):
        taken = list(found.values())
        found = {one.name: repeat(one) if taken.count(found[one.name]) > 1 else found[one.name] for one in subjects}
    return found


def _sources(subject: SubjectInfo) -> str:
    parts = [("mistakes", subject.mistakes), ("analysis", subject.analysis)]
    return ", ".join(f"{SOURCES.get(name, name).lower()} {what}" for what, name in parts if name) or subject.style


def _head(subject: SubjectInfo, group: str) -> str:
    if group == "label":
        return subject.label
    if group == "method":
        return subject.method.replace("_", " ")
    source = subject.mistakes if group == "mistakes" else subject.analysis
    return ABSENT if source is None else SOURCES.get(source, source)


def _row(
    subject: SubjectInfo,
    name: str,
    layout: Layout,
    headings: tuple[Heading, ...],
    lookup: _Lookup,
    published: PublishedTable | None,
) -> Row:
    heads = [_head(subject, group) for group in layout.groups]
    if not {"mistakes", "analysis"} & set(layout.groups):
        heads[0] = name
    cells = (
        _cell(
            lookup.estimates.get((subject.name, heading.metric)),
            lookup.comparisons.get((subject.name, heading.metric)),
            _published(published, subject, heading),
            heading,
        )
        for heading in headings
    )
    return Row(subject.name, tuple(heads), name, tuple(cells))


def _cell(
    estimate: Estimate | None, difference: Comparison | None, published: Published | None, heading: Heading
) -> Cell:
    printed = "" if published is None else _published_text(published, heading)
    if estimate is None:
        return Cell(None, None, published, CellText(ABSENT, published=printed))
    coverage = f"n={estimate.n_scored}/{estimate.n_total}"
    if estimate.value is None:
        return Cell(estimate, difference, published, CellText("not measured", coverage=coverage, published=printed))
    bounds = ""
    if estimate.n_scored < estimate.n_total and estimate.worst is not None and estimate.best is not None:
        bounds = f"worst–best {show(estimate.worst, heading)}–{show(estimate.best, heading)}"
    text = CellText(
        show(estimate.value, heading),
        show_interval(estimate.low, estimate.high, heading),
        "" if difference is None else _marked(difference, heading),
        coverage,
        bounds,
        printed,
    )
    return Cell(estimate, difference, published, text)


def _marked(difference: Comparison, heading: Heading) -> str:
    text = show_difference(difference, heading)
    marked = difference.decision in ("higher", "lower") and stands(difference)
    return text.replace(")", f"{STANDS})") if marked else text


def _published(published: PublishedTable | None, subject: SubjectInfo, heading: Heading) -> Published | None:
    if published is None:
        return None
    row = next((one for one in published.rows if one.takes(subject)), None)
    if row is None or heading.metric not in row.values:
        return None
    value = row.values[heading.metric]
    base = next((one.values.get(heading.metric) for one in published.rows if _is_base(published.baseline, one)), None)
    unknown = value is None or base is None or _is_base(published.baseline, row)
    return Published(value, None if unknown or value is None or base is None else round(value - base, 6))


def _is_base(baseline: SubjectFilter, row: PublishedRow) -> bool:
    return row.method == baseline.method


def _published_text(published: Published, heading: Heading) -> str:
    if published.value is None:
        return f"paper {UNKNOWN}"
    difference = "" if published.difference is None else f" ({published.difference:+.{heading.digits}f})"
    return f"paper {published.value:.{heading.digits}f}{difference}"


def _distinct(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows whose leading cells are all alike get the subject's name in the first."""
    listed = tuple(rows)
    heads = [row.heads for row in listed]
    return tuple(
        row._replace(heads=(f"{row.heads[0]} ({row.subject})", *row.heads[1:])) if heads.count(row.heads) > 1 else row
        for row in listed
    )


def _footnotes(
    table: Table, layout: Layout, baseline: SubjectInfo | None, published: PublishedTable | None, source: str
) -> tuple[str, ...]:
    cells = [cell for row in table.rows for cell in row.cells]
    measured = [cell.estimate for cell in cells if cell.estimate is not None]
    notes = [
        f"value [{_confidence(measured)}% interval] n = items scored/planned, over all seeds. {_methods(measured)}"
    ]
    if baseline is not None and any(cell.text.difference for cell in cells):
        notes.append(
            f"In round brackets: paired difference to {baseline.label}, in the column's unit; "
            f"{NO_DIFFERENCE}: the interval of that difference includes zero; {STANDS}: it stands at {ALPHA:.0%} after "
            f"Holm's correction over the {_n_tested(table)} comparisons of this table."
        )
    if any(cell.text.bounds for cell in cells):
        notes.append("worst–best: the value if every item that was not scored had come out worst, or best.")
    if published is not None and any(cell.published is not None for cell in cells):
        notes.append(
            f"paper: printed in {source} for {published.setting}; other models, data and judges, so compare "
            "directions, not values. In round brackets: its difference to that paper's vanilla row."
        )
        if any(cell.published is not None and cell.published.value is None for cell in cells):
            notes.append(f"{UNKNOWN}: the published number is unknown to us.")
    return tuple([*notes, layout.note] if layout.note else notes)


def _n_tested(table: Table) -> int:
    """Distinct comparisons with a p value: the size of the family."""
    return len(
        {
            (row.subject, heading.metric)
            for row in table.rows
            for heading, cell in zip(table.headings, row.cells, strict=True)
            if cell.difference is not None and cell.difference.p_value is not None
        }
    )


def _confidence(estimates: list[Estimate]) -> str:
    return "/".join(sorted({f"{100 * estimate.confidence:g}" for estimate in estimates}))


def _methods(estimates: list[Estimate]) -> str:
    methods = sorted({estimate.method for estimate in estimates if estimate.value is not None})
    return f"Intervals: {'; '.join(methods)}." if methods else ""
