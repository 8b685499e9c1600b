"""How far the judges can be relied on: what came of their judgments, how far raters agree, and how right they are.

Reads the judges' rows of the scores and, where the run is at hand, the calibrations that hold for its judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.calibration.records import load_calibrations, panel_key
from harness.content import find
from harness.judging.judge_file import PATTERN
from harness.reporting.layout import Layout
from harness.reporting.render.figures.canvas import (
    COLOURS,
    HATCHES,
    INK,
    MARKERS,
    SOFT,
    label,
    new_figure,
    pictures,
    style,
)
from harness.reporting.render.figures.shown import Plot, Source, csv_of, notes_of
from harness.reporting.table import Skipped
from harness.scores import Estimate, JudgeRow
from harness.stages.corrected import FILE
from harness.stages.loading import LoadedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTERS, LINE = 22, 0.42
OUTCOMES = ("ok", "unparsed", "refused", "filtered", "error", "skipped")
AGREEMENT = ("alpha", "kappa", "flip rate")
RIGHTNESS = ("sensitivity", "specificity", "accuracy", "kappa", "spearman", "quadratic_kappa", "auc")


class JudgeMeasure(NamedTuple):
    """One number about a judge.

    Attributes:
        part: ``outcome`` (a share of the judgments), ``agreement`` (of its raters) or ``calibration`` (with people).
        value: A share or coefficient, 0–1 or -1–1; empty where it is not defined, with the reason in ``method``.
    """

    judge: str
    part: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str


def reliability_plot(name: str, layout: Layout, source: Source, include_paths: Sequence[Path] = ()) -> Plot | Skipped:
    """The figure, or why there is none."""
    rows = [row for judge in source.scores.judges for row in judge_measures(judge)]
    if source.loaded is not None:
        rows += calibration_measures(source.loaded, include_paths)
    if not rows:
        return Skipped(name, "no judge asks a model, and none is calibrated")
    with style():
        files = pictures(_draw(rows))
    notes = notes_of(
        layout,
        "Judgments: only those that came out as a verdict (ok) measure anything. Agreement among a judge's raters says "
        "how far it repeats itself; calibration, against people's labels, how far it is right. Lines: 95% intervals.",
    )
    return Plot(name, layout.title, layout.caption, notes, files.png, files.pdf, csv_of(rows))


def judge_measures(judge: JudgeRow) -> list[JudgeMeasure]:
    """The shares of what came of its judgments, and how far its raters agree."""
    total = sum(judge.outcomes.values())
    rows = [
        JudgeMeasure(judge.judge, "outcome", outcome, n / total, None, None, total, "share")
        for outcome, n in judge.outcomes.items()
    ]
    named = zip(AGREEMENT, (judge.alpha, judge.kappa, judge.flip_rate), strict=True)
    return rows + [_measure(judge.judge, "agreement", name, one) for name, one in named if one is not None]


def calibration_measures(loaded: LoadedRun, include_paths: Sequence[Path] = ()) -> list[JudgeMeasure]:
    """How right the run's judges are, by the calibrations that hold for them."""
    folders = find("judges", PATTERN, include_paths)
    beside = [folders[name].parent / FILE for name in loaded.judges if name in folders]
    files = [*map(Path, loaded.config.judging.calibrations), *(path for path in beside if path.is_file())]
    known = load_calibrations(files)
    rows = []
    for name, panel in loaded.judges.items():
        found = known.get(panel_key(panel))
        measures: Mapping[str, Estimate] = found.measures if found is not None else {}
        rows += [_measure(name, "calibration", each, measures[each]) for each in RIGHTNESS if each in measures]
    return rows


def _measure(judge: str, part: str, name: str, one: Estimate) -> JudgeMeasure:
    return JudgeMeasure(judge, part, name, one.value, one.low, one.high, one.n_scored, one.method)


def _draw(rows: Sequence[JudgeMeasure]) -> Figure:
    judges = list(dict.fromkeys(row.judge for row in rows))
    parts = [part for part in ("outcome", "agreement", "calibration") if any(row.part == part for row in rows)]
    figure = new_figure(1.25 + LINE * len(judges))
    panels = list(figure.subplots(1, len(parts), squeeze=False, sharey=True).flat)
    for panel, part in zip(panels, parts, strict=True):
        own = [row for row in rows if row.part == part]
        (_outcomes if part == "outcome" else _points)(panel, own, judges)
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
        panel.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, fontsize=7, handlelength=1.3, columnspacing=0.8
        )
    panels[0].set_yticks(range(len(judges)), [label(judge, LETTERS) for judge in judges])
    panels[0].set_ylim(len(judges) - 0.5, -0.5)
    return figure


def _outcomes(panel: Axes, rows: Sequence[JudgeMeasure], judges: Sequence[str]) -> None:
    """Stacked shares of the judgments."""
    left = dict.fromkeys(judges, 0.0)
    for number, outcome in enumerate(OUTCOMES):
        shares = {row.judge: 100 * (row.value or 0.0) for row in rows if row.measure == outcome}
        if not shares:
            continue
        panel.barh(
            [judges.index(judge) for judge in shares], list(shares.values()), 0.6, label=outcome,
            left=[left[judge] for judge in shares], color=COLOURS[(2, 1, 3, 4, 5, 6)[number]], hatch=HATCHES[number],
            edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        for judge, share in shares.items():
            left[judge] += share
    for judge, total in {row.judge: row.n for row in rows}.items():
        panel.text(1, judges.index(judge), f"n={total}", va="center", fontsize=6.5, color=INK,
                   bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9})  # fmt: skip
    panel.set_xlim(0, 100)
    panel.set_xlabel("% of judgments")


def _points(panel: Axes, rows: Sequence[JudgeMeasure], judges: Sequence[str]) -> None:
    """Coefficients and shares with their intervals, one mark a measure."""
    names = list(dict.fromkeys(row.measure for row in rows))
    for row in rows:
        number = names.index(row.measure)
        place = judges.index(row.judge) + (number - (len(names) - 1) / 2) * 0.6 / len(names)
        if row.value is None:
            continue
        if row.low is not None and row.high is not None:
            panel.plot([row.low, row.high], [place, place], color=INK, linewidth=1.0, zorder=1)
        panel.plot(
            row.value, place, MARKERS[number], color=COLOURS[number], markeredgecolor=INK, markeredgewidth=0.5,
            markersize=5, label=row.measure.replace("_", " ") if row is _first(rows, row.measure) else None,
        )  # fmt: skip
    lowest = min([0.0, *(end for row in rows for end in (row.low, row.value) if end is not None)])
    panel.set_xlim(lowest - 0.02, 1.02)
    panel.axvline(0, color=SOFT, linewidth=0.6)
    panel.set_xlabel("with people" if rows[0].part == "calibration" else "among its raters")


def _first(rows: Sequence[JudgeMeasure], measure: str) -> JudgeMeasure | None:
    return next((row for row in rows if row.measure == measure and row.value is not None), None)
