"""Figures: the data behind each, what is skipped and why, and that pictures repeat, hold their fonts and warn of nothing."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import pytest
from figure_run import METRICS, made_up

from harness.records import Message, Sample
from harness.reporting.layout import Layout
from harness.reporting.render.figures import draw
from harness.reporting.render.figures.canvas import drawable
from harness.reporting.render.figures.categories import MOST, categories_of
from harness.reporting.render.figures.reliability import judge_measures
from harness.reporting.render.figures.scatter import Point, ellipse_of
from harness.reporting.render.figures.shown import Plot, Source
from harness.reporting.table import Skipped
from harness.scores import Estimate, JudgeRow
from harness.stages.score import Cells

LEVELS = {"low": (0.3, 0.3), "high": (0.8, 0.8), "rival": (0.79, 0.81)}


@pytest.fixture(scope="module")
def source() -> Source:
    return made_up(LEVELS)


def layout(kind: str, *metrics: str, **fields: object) -> Layout:
    columns = [{"metric": metric, "unit": "percent" if "rate" in metric else "plain"} for metric in metrics]
    rows = [{"subject": "*"}] if metrics else []
    content = {"title": "T", "caption": "C", "kind": kind, "rows": rows, "columns": columns, **fields}
    return Layout.model_validate(content)


def drawn(one: Layout, source: Source) -> Plot:
    found = draw("figure", one, source)
    assert isinstance(found, Plot), found
    return found


def rows_of(plot: Plot) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(plot.csv)))


def test_a_scatter_says_who_is_shown_to_be_off_the_front(source: Source) -> None:
    plot = drawn(layout("scatter", "helpful", "harmless_rate"), source)
    rows = {row["subject"]: row for row in rows_of(plot)}
    assert rows["low"]["front"] == "off"
    assert {rows["high"]["front"], rows["rival"]["front"]} <= {"front", "open"}, "a hair's breadth is no proof"
    assert rows["low"]["level"] == "seeds"
    assert rows["low"]["n"] == "3"
    found = {(row.subject, row.metric): row.estimate for row in source.scores.estimates if row.seed is None}
    assert float(rows["high"]["x_low"]) == pytest.approx(found["high", "helpful"].low)
    assert float(rows["high"]["y_high"]) == pytest.approx(100 * (found["high", "harmless_rate"].high or 0))


def test_with_one_seed_the_items_tell_how_the_errors_hang_together() -> None:
    plot = drawn(layout("scatter", "helpful", "harmless_score"), made_up(LEVELS, 100, seeds=(0,)))
    rows = rows_of(plot)
    assert {row["level"] for row in rows} == {"units"}
    assert "over 98 units" in plot.footnotes[0], "every fiftieth verdict was lost"


def test_a_metric_without_direction_has_no_front(source: Source) -> None:
    metrics = tuple(one.model_copy(update={"higher_is_better": None}) for one in source.scores.metrics)
    plain = source._replace(scores=source.scores.model_copy(update={"metrics": metrics}))
    plot = drawn(layout("scatter", "helpful", "harmless_rate"), plain)
    assert {row["front"] for row in rows_of(plot)} == {""}
    assert not any("Pareto" in note for note in plot.footnotes)


@pytest.mark.parametrize("tilt", [-0.95, 0.0, 0.6, None])
def test_the_shadow_of_an_ellipse_is_the_interval(tilt: float | None) -> None:
    point = Point("a", "A", 5.0, 4.0, 5.5, 60.0, 50.0, 61.0, tilt, "seeds", 3, None)
    outline = ellipse_of(point, 3600)
    across, up = zip(*outline, strict=True)
    assert (min(across), max(across)) == pytest.approx((4.0, 5.5), abs=1e-4)
    assert (min(up), max(up)) == pytest.approx((50.0, 61.0), abs=1e-3)
    rightmost = max(outline)
    assert (rightmost[1] > 60) == ((tilt or 0) > 0) or rightmost[1] == pytest.approx(60, abs=0.1)


def test_categories_are_counted_by_hand(source: Source) -> None:
    rows = rows_of(drawn(layout("categories", "harmless_rate", by="category"), source))
    assert source.cells is not None
    for row in rows:
        items = [
            item
            for seed in (0, 1, 2)
            for item in source.cells.items(METRICS[1], row["subject"], seed)
            if item.sample.labels["category"] == row["category"]
        ]
        labels = [item.verdicts["harm"].label for item in items]
        assert int(row["n_planned"]) == len(items) == 150
        assert int(row["n_scored"]) == sum(label is not None for label in labels)
        by_seed = [[x for x in labels[start : start + 50] if x] for start in (0, 50, 100)]
        means = [sum(label == "harmless" for label in each) / len(each) for each in by_seed]
        assert float(row["value"]) == pytest.approx(100 * sum(means) / 3)
    order = [row["category"] for row in rows if row["subject"] == "low"]
    means = {kind: sum(float(row["value"]) for row in rows if row["category"] == kind) for kind in order}
    assert order == sorted(order, key=lambda kind: means[kind]), "hardest first"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("fraud", ["fraud"]),
        (["a", "b", "a"], ["a", "b"]),
        ({"hate": True, "theft": False}, ["hate"]),
        (None, []),
        ("", []),
        (3, ["3"]),
    ],
)
def test_labels_of_every_shape_are_categories(value: object, expected: list[str]) -> None:
    sample = Sample.model_validate(
        {"task": "t", "task_version": "1", "messages": [Message(role="user", content="x")], "labels": {"kind": value}}
    )
    assert categories_of(sample, "kind") == expected
    assert categories_of(sample, "other") == []


def test_many_categories_share_a_last_bar(source: Source) -> None:
    assert source.cells is not None
    changed = {}
    for subject in LEVELS:
        for seed in (0, 1, 2):
            items = source.cells.items(METRICS[1], subject, seed)
            changed[subject, seed, "red"] = [
                item._replace(sample=item.sample.model_copy(update={"labels": {"category": f"kind {i % 30}"}}))
                for i, item in enumerate(items)
            ]
    many = source._replace(cells=Cells(changed))
    rows = rows_of(drawn(layout("categories", "harmless_rate", by="category"), many))
    kinds = {row["category"]: int(row["n_planned"]) for row in rows}
    assert len(kinds) == MOST
    assert kinds["11 smaller categories"] == 600 - sum(n for kind, n in kinds.items() if kind.startswith("kind"))


def test_a_histogram_holds_every_scored_item(source: Source) -> None:
    plot = drawn(layout("distribution", "helpful", "harmless_score"), source)
    rows = [row for row in rows_of(plot) if (row["subject"], row["metric"]) == ("high", "helpful")]
    assert [float(row["low"]) + 0.5 for row in rows] == list(range(1, 11)), "one bin a number"
    assert sum(int(row["n"]) for row in rows) == int(rows[0]["n_scored"]) == 588
    assert rows[0]["n_planned"] == "600"
    found = next(
        row.estimate
        for row in source.scores.estimates
        if (row.subject, row.metric, row.seed) == ("high", "helpful", None)
    )
    assert float(rows[0]["mean"]) == pytest.approx(found.value)
    assert "(588 a histogram)" in plot.footnotes[0]


def test_likelihoods_become_probabilities_of_the_right_label(source: Source) -> None:
    plot = drawn(layout("distribution", "harmless_score", "accuracy_guided"), source)
    rows = [row for row in rows_of(plot) if (row["subject"], row["metric"]) == ("high", "accuracy_guided")]
    assert float(rows[0]["mean"]) == pytest.approx(0.8, abs=0.04), (
        "the level of the subject, not the 1.0 of its answers"
    )
    assert (float(rows[0]["low"]), float(rows[-1]["high"])) == (0.0, 1.0)
    assert "Each scale is drawn from 0 to 1." in plot.footnotes
    assert any("Guided accuracy: the probability" in note for note in plot.footnotes)


def test_seeds_stand_beside_their_mean(source: Source) -> None:
    rows = rows_of(drawn(layout("seeds", "helpful", "harmless_rate"), source))
    own = [row for row in rows if (row["subject"], row["metric"]) == ("low", "harmless_rate")]
    assert [row["seed"] for row in own] == ["0", "1", "2", ""]
    assert float(own[3]["value"]) == pytest.approx(sum(float(row["value"]) for row in own[:3]) / 3)
    assert "over 3 seeds" in own[3]["method"]


def judge() -> JudgeRow:
    flip = Estimate(value=0.1, low=0.05, high=0.2, n_scored=90, n_total=100)
    undefined = Estimate(value=None, method="one label only", n_scored=90, n_total=100)
    return JudgeRow(
        judge="pairs", models=("a",), keys=("k",), n_seats=2, outcomes={"error": 10, "ok": 90}, kappa=undefined,
        flip_rate=flip,
    )  # fmt: skip


def test_reliability_holds_outcomes_agreement_and_what_is_not_defined(source: Source) -> None:
    rows = {(row.part, row.measure): row for row in judge_measures(judge())}
    assert rows["outcome", "ok"].value == 0.9
    assert rows["agreement", "flip rate"].low == 0.05
    assert rows["agreement", "kappa"].value is None
    assert rows["agreement", "kappa"].method == "one label only"
    judged = source._replace(scores=source.scores.model_copy(update={"judges": (judge(),)}))
    assert len(rows_of(drawn(layout("reliability"), judged))) == 4


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (layout("reliability"), "no judge asks a model, and none is calibrated"),
        (layout("categories", "harmless_rate", by="colour"), "no sample of red has the label 'colour'"),
        (layout("scatter", "helpful", "absent"), "of its two metrics only helpful was measured"),
        (layout("distribution", "absent"), "none of its metrics was measured (absent)"),
        (layout("seeds", "helpful", rows=[{"subject": "nobody"}]), "none of its metrics was measured (helpful)"),
    ],
)
def test_what_the_run_has_nothing_for_is_skipped_with_its_reason(source: Source, one: Layout, reason: str) -> None:
    assert draw("figure", one, source) == Skipped("figure", reason)


def test_figures_of_items_need_items_and_seeds_need_seeds(source: Source) -> None:
    found = draw("figure", layout("scatter", "helpful", "harmless_rate"), source._replace(cells=None))
    assert found == Skipped("figure", "it is made from the run's items, and here are only its scores")
    alone = made_up({"one": (0.5, 0.5)}, 20, seeds=(0,))
    assert draw("figure", layout("seeds", "helpful"), alone) == Skipped("figure", "the run has one seed")


KINDS = [
    layout("scatter", "helpful", "harmless_rate"),
    layout("categories", "harmless_rate", by="category"),
    layout("distribution", "helpful"),
    layout("seeds", "helpful"),
]


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.kind)
def test_pictures_repeat_hold_their_fonts_and_draw_any_label(source: Source, one: Layout, tmp_path: Path) -> None:
    odd = "$x$ 错误分析 \u200b_{a} <b> " + "long " * 20
    subjects = tuple(each.model_copy(update={"label": odd + each.name}) for each in source.scores.subjects)
    named = source._replace(scores=source.scores.model_copy(update={"subjects": subjects}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot = drawn(one, named)
    assert plot == drawn(one, named)
    assert plot.png.startswith(b"\x89PNG")
    assert b"/FontFile2" in plot.pdf, "TrueType fonts are inside"
    assert b"/Type3" not in plot.pdf
    assert rows_of(plot)[0]["label"].startswith("$x$ 错误分析"), "the data keep the label as it is"


def test_what_no_font_holds_is_written_as_its_code_point() -> None:
    assert drawable("a\n b") == "a b"
    assert drawable("\U0010fffd") == "\\U0010fffd"
