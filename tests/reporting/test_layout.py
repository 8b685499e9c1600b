"""Layouts and published numbers: what is read, what is refused, and that every published cell is the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.reporting.layout import (
    PublishedReference,
    SubjectFilter,
    layout_names,
    layout_path,
    load_layout,
    load_published,
)
from harness.scores import SubjectInfo

NONE = None
COLUMNS = {
    "alignment_from_scratch": ("helpful", "harmless_score", "harmless_rate", "harmless_helpful"),
    "novel_attacks": ("helpful", "harmless_score", "harmless_rate", "hijack_score", "hijack_rate"),
    "discrimination": ("accuracy_unguided",),
}
PAPER = {
    "alignment_from_scratch": [
        ("vanilla", NONE, NONE, 6.21, 5.71, 52.5, 4.51),
        ("sft", NONE, NONE, 6.27, 6.69, 63.0, 5.30),
        ("rlhf", NONE, NONE, 6.30, 6.71, 64.1, 5.35),
        ("critique_revise", "origin", NONE, NONE, NONE, 62.6, 5.02),
        ("critique_revise", "self", NONE, NONE, NONE, 61.3, 4.56),
        ("chain_of_hindsight", "origin", NONE, 6.29, 6.79, 64.7, 5.23),
        ("chain_of_hindsight", "self", NONE, 6.28, 6.87, 65.7, 5.29),
        ("mistake_analysis", "origin", "self", 6.31, 7.31, 71.0, 5.28),
        ("mistake_analysis", "self", "self", 6.38, 7.41, 72.4, 5.39),
        ("mistake_analysis", "self", "stronger", 6.31, 7.61, 74.1, 5.60),
    ],
    "novel_attacks": [
        ("vanilla", NONE, NONE, 8.32, 8.92, 95.3, 6.85, 68.4),
        ("sft", NONE, NONE, 8.16, 8.91, 94.8, 7.71, 77.2),
        ("chain_of_hindsight", "origin", NONE, 8.23, 8.94, 95.2, 7.89, 82.4),
        ("critique_revise", "origin", NONE, 8.24, 8.90, 95.2, 7.97, 78.7),
        ("mistake_analysis", "origin", "self", 8.18, 8.93, 95.1, 8.02, 82.4),
        ("mistake_analysis", "self", "self", 8.26, 8.96, 96.1, 8.14, 85.3),
    ],
    "discrimination": [
        ("vanilla", NONE, NONE, 54.5),
        ("sft", NONE, NONE, 54.9),
        ("mistake_analysis", NONE, NONE, 72.6),
    ],
}


@pytest.mark.parametrize("table", list(PAPER))
def test_every_published_number_is_the_papers(table: str) -> None:
    _, published = load_published(
        PublishedReference(paper="mistake_analysis", table=table), layout_path("discrimination")
    )
    found = [
        (row.method, row.mistakes, row.analysis, *(row.values[name] for name in COLUMNS[table]))
        for row in published.rows
    ]
    assert found == PAPER[table]
    assert all(set(row.values) == set(COLUMNS[table]) for row in published.rows)


@pytest.mark.parametrize("name", layout_names())
def test_built_in_layouts_are_sound(name: str) -> None:
    found = load_layout(name)
    assert found.columns or found.kind == "reliability"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = "title: T\ncaption: C\nrows: [{method: sft}]\ncolumns: [{metric: harmless_rate}]\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("harmless_rate", "harmles_rate"), "column 1: unknown metric 'harmles_rate': did you mean 'harmless_rate'?"),
        (("caption", "captoin"), "mine.yaml: "),
        (("method: sft", "methods: sft"), "unknown field 'methods': did you mean 'method'?"),
        (("{metric: harmless_rate}", "{metric: harmless_rate, digit: 1}"), "did you mean 'digits'?"),
        (("title: T", "title: [T"), "not valid YAML"),
        (("rows: [{method: sft}]", "rows: []"), "rows: "),
        (("title: T", "title: T\nkind: scater"), "kind: "),
        (("title: T", "title: T\nkind: scatter"), "mine.yaml: columns: kind 'scatter' takes 2, not 1"),
        (("title: T", "title: T\nkind: categories"), "by: names the sample's label that kind 'categories' needs"),
        (("title: T", "title: T\nby: category"), "and no other kind takes it"),
        (("title: T", "title: T\nkind: categories\nbye: category"), "unknown field 'bye': did you mean 'by'?"),
        (("title: T", "title: T\npublished: {paper: mistake_analisis, table: x}"), "did you mean 'mistake_analysis'?"),
        (("title: T", "title: T\npublished: {paper: mistake_analysis, table: discriminate}"), "'discrimination'?"),
    ],
)
def test_a_wrong_layout_gives_one_clear_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(UserError) as found:
        load_layout(path)
    assert message in str(found.value)
    assert "mine.yaml" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_metric_of_the_run_needs_no_entry(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("harmless_rate", "my_own"))
    assert load_layout(path, run_metrics=["my_own"]).columns[0].metric == "my_own"


def test_unknown_layouts_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'discrimination'"):
        layout_path("discriminaton")
    with pytest.raises(UserError, match="no such report layout"):
        layout_path("nowhere.yaml")


def test_user_layouts_are_found_by_include_path(tmp_path: Path) -> None:
    (tmp_path / "reports" / "layouts").mkdir(parents=True)
    (tmp_path / "reports" / "layouts" / "mine.yaml").write_text(GOOD.replace("harmless_rate", "my_own"))
    (tmp_path / "reports" / "metrics.yaml").write_text("my_own: A metric of mine.\n")
    assert "mine" in layout_names([tmp_path])
    assert load_layout("mine", [tmp_path]).title == "T"


def test_filters_tell_a_stronger_analyst_from_the_model_itself() -> None:
    def subject(analysis: str | None) -> SubjectInfo:
        return SubjectInfo(name="ma-x", method="mistake_analysis", label="MA", analysis=analysis, seeds=(0,))

    stronger = SubjectFilter(analysis="stronger")
    assert [stronger.takes(subject(name)) for name in ("oracle", "self", None)] == [True, False, False]
    assert SubjectFilter(subject="ma-*", method="mistake_analysis", style="ordinary").takes(subject("self"))
    assert not SubjectFilter(method="sft").takes(subject("self"))


def test_bars_share_an_axis_and_a_judge_figure_needs_no_rows(tmp_path: Path) -> None:
    mixed = GOOD.replace("title: T", "title: T\nkind: bars").replace(
        "_rate}", "_rate}, {metric: helpful, unit: percent}"
    )
    with pytest.raises(UserError, match=r"mine.yaml: columns: kind 'bars' draws one axis"):
        load_layout(write(tmp_path, mixed))
    assert load_layout(write(tmp_path, "title: T\ncaption: C\nkind: reliability\n")).rows == ()
