"""A sweep for people and programs: text, CSV, JSON, and its files with the picture; pure but for `write_files`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from harness.calibration.cells import neutral
from harness.calibration.told import line, text_table
from harness.deciding.sweep import Point, Sweep
from harness.deciding.sweep_figure import sweep_figure
from harness.reporting.files import write_whole
from harness.reporting.table import Heading, plain_heading, show, show_interval, show_p
from harness.scores import Estimate

COLUMNS = (
    "step",
    "checkpoint",
    "all items [95%]",
    "dev half",
    "test half [95%]",
    "− chosen, test half [95%]",
    "Holm",
    "",
)
FIELDS = (
    "step", "label", "run", "subject", "value", "low", "high", "n_scored", "n_planned", "dev", "test", "test_low",
    "test_high", "to_best", "to_best_low", "to_best_high", "p_value", "p_adjusted", "tied", "best", "caveats",
)  # fmt: skip


def to_text(found: Sweep) -> str:
    """A table by step, and what may be said of the best checkpoint."""
    heading = plain_heading(found.metric)
    rows = [_cells(found, point, heading) for point in found.points]
    parts = [f"CAVEAT {line(one)}." for one in found.caveats]
    parts += [text_table(f"{found.metric.name}: {heading.title()}", COLUMNS, rows), *verdict(found)]
    return "\n".join(parts)


def verdict(found: Sweep) -> list[str]:
    """The best checkpoint in sentences, with its value on items that it was not chosen on."""
    heading = plain_heading(found.metric)
    best, same = found.point(found.best), found.point(found.same_items)
    remarks = [f"Note: {line(remark)}." for remark in found.remarks]
    if best is None or same is None:
        return remarks
    others = [point for point in found.points if point is not best]
    tied = [point.label for point in others if point.tied]
    untested = [point.label for point in others if point.tied is None]
    ahead = [point.label for point in found.points if _ahead(point, found)]
    told = [
        f"Best on the dev half: {best.label} (step {best.step:g}), with {_told(best.dev, heading)} there.",
        f"On the test half, that it was not chosen on: {_told(best.test, heading)}.",
        f"Optimistic, by choosing and reporting on the same items: {same.label} (step {same.step:g}) with "
        f"{_told(same.all_items, heading)}.",
    ]
    if untested:
        told.append(f"Not compared with it, for want of a test on the test half: {', '.join(untested)}.")
    if len(tied) == len(others):
        whole = max(point.all_items.n_total for point in found.points)
        advice = "; take the cheapest" if all(point.all_items.n_scored == whole for point in found.points) else ""
        told.append(f"Nothing can be told apart: all checkpoints are tied on the test half{advice}.")
    elif tied:
        told.append(f"Tied with it on the test half: {', '.join(tied)}.")
    elif len(untested) < len(others):
        told.append("No other checkpoint is tied with it on the test half.")
    if ahead:
        told.append(f"Better than it on the test half: {', '.join(ahead)}; the dev half has misled the choice.")
    return [*map(line, told), *remarks]


def to_csv(found: Sweep) -> str:
    """One line a checkpoint, in the metric's own unit; empty is not measured."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    for point in found.points:
        one, compared = point.all_items, point.to_best
        row = {
            **point.model_dump(include={"step", "tied"}),
            **{name: neutral(getattr(point, name)) for name in ("label", "run", "subject")},
            **{
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "n_scored": one.n_scored,
                "n_planned": one.n_total,
            },
            **{"dev": point.dev.value, "best": point.label == found.best, "caveats": "; ".join(found.caveats)},
            **{"test": point.test.value, "test_low": point.test.low, "test_high": point.test.high},
        }
        if compared is not None:
            row |= {"to_best": compared.difference, "to_best_low": compared.low, "to_best_high": compared.high}
            row |= {"p_value": compared.p_value, "p_adjusted": compared.p_adjusted}
        writer.writerow(row)
    return out.getvalue()


def to_json(found: Sweep) -> str:
    """The record as JSON."""
    return json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False)


def write_files(found: Sweep, folder: Path) -> list[Path]:
    """Writes the picture (PNG, PDF) and the table (CSV, JSON) into a folder, named after the metric."""
    content: dict[str, str | bytes] = {**sweep_figure(found), "csv": to_csv(found), "json": to_json(found) + "\n"}
    return [write_whole(folder / f"{found.metric.name}.{kind}", data) for kind, data in content.items()]


def _cells(found: Sweep, point: Point, heading: Heading) -> list[str]:
    compared = point.to_best
    difference = "–"
    if compared is not None:
        difference = "not measured"
        if compared.difference is not None:
            ends = show_interval(compared.low, compared.high, heading)
            difference = f"{show(compared.difference, heading)} {ends}"
    p_value = "–" if compared is None else show_p(compared.p_adjusted).removeprefix("p ").removeprefix("= ")
    mark = "chosen" if point.label == found.best else {True: "tied", False: "", None: "not compared"}[point.tied]
    mark = "" if found.best is None else mark
    dev = "not measured" if point.dev.value is None else show(point.dev.value, heading)
    return [
        f"{point.step:g}", point.label, _told(point.all_items, heading), dev, _told(point.test, heading), difference,
        p_value, mark,
    ]  # fmt: skip


def _told(found: Estimate, heading: Heading) -> str:
    coverage = f"({found.n_scored}/{found.n_total})"
    if found.value is None:
        return f"not measured {coverage}"
    return f"{show(found.value, heading)} {show_interval(found.low, found.high, heading)} {coverage}"


def _ahead(point: Point, found: Sweep) -> bool:
    """Whether a point is better than the chosen one on the test half, Holm included."""
    if point.tied is not False or point.to_best is None or point.to_best.difference is None:
        return False
    return (point.to_best.difference > 0) == (found.metric.higher_is_better is not False)
