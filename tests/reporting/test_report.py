"""The whole report of a made-up run: files, determinism, and what the page says."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_demo import demo_scores
from rich.console import Console

from harness.errors import UserError
from harness.reporting.card import write_cards
from harness.reporting.files import LIST, replacing, write_whole
from harness.reporting.layout import layout_names
from harness.reporting.report import build_tables, write_report
from harness.reporting.terminal import print_report
from harness.scores import Scores
from harness.store import Run

KINDS = ("md", "tex", "csv", "html", "png")
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Balance(HTMLParser):
    """Notes unbalanced tags and everything that would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return demo_scores()


@pytest.fixture(scope="module")
def report(scores: Scores, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    out = tmp_path_factory.mktemp("report")
    return out, write_report(scores, layout_names(), out, run_notes=["An added <b>note</b>."])


def test_all_files_are_written(report: tuple[Path, list[Path]]) -> None:
    out, files = report
    assert files[0] == out / "index.html"
    assert {".html", ".md", ".tex", ".csv", ".png", ".pdf", ".json"} <= {path.suffix for path in files}
    assert all(path.stat().st_size > 200 for path in files)
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("generation_vs_discrimination", "seeds") for kind in ("png", "pdf", "csv")
    }, "the others need items"
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(files), "no temporary file stays"


def test_the_page_is_whole_and_self_contained(report: tuple[Path, list[Path]]) -> None:
    out, _ = report
    page = Balance()
    page.feed((out / "index.html").read_text(encoding="utf-8"))
    assert page.wrong == []
    assert page.open == []
    assert not [link for link in page.links if link.startswith(("http", "//"))]
    assert all((out / link).is_file() for link in page.links if not link.startswith("#"))


def test_the_page_says_what_it_must(report: tuple[Path, list[Path]]) -> None:
    text = (report[0] / "index.html").read_text(encoding="utf-8")
    assert "An added &lt;b&gt;note&lt;/b&gt;." in text
    assert "+40.3 [32.7, 47.9] points, p = 0.001 (Holm p = 0.003)" in text
    assert "Three training seeds" in text
    assert "no difference" in text
    assert "696/720" in text
    assert "win_rate: none of its metrics was measured" in text
    assert "6 answers were no label" in text


def test_text_files_repeat_byte_for_byte(report: tuple[Path, list[Path]], scores: Scores, tmp_path: Path) -> None:
    out, _ = report
    again = write_report(scores, ["discrimination"], tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in again} > {
        f"tables/discrimination.{kind}" for kind in KINDS
    }
    assert again[-1].name == LIST
    for path in again[1:-1]:
        assert path.read_bytes() == (out / path.relative_to(tmp_path)).read_bytes()


def test_narrow_subjects_stay_in_their_table(scores: Scores) -> None:
    tables = {table.name: table for table in build_tables(scores, ["alignment_from_scratch", "narrow_coverage"])}
    main, narrow = tables["alignment_from_scratch"], tables["narrow_coverage"]
    assert not [row for row in main.rows if row.subject.endswith("-narrow")]  # type: ignore[union-attr]
    assert [row.subject for row in narrow.rows] == ["vanilla", "sft-narrow", "ma-narrow"]  # type: ignore[union-attr]


def test_a_wrong_layout_stops_before_anything_is_written(scores: Scores, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'over_refusal'"):
        write_report(scores, ["discrimination", "over_refusl"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_replaces_the_earlier_one_and_leaves_what_others_put_there(scores: Scores, tmp_path: Path) -> None:
    out = tmp_path / "report"
    first = write_report(scores, ["discrimination", "seeds", "over_refusal"], out)
    own = [out / "notes.txt", out / "tables" / "mine.csv", out / "figures" / "mine.png"]
    for path in own:
        path.write_text("my own")
    second = write_report(scores, ["discrimination"], out)
    gone = set(first) - set(second)
    assert {out / "tables" / "over_refusal.md", out / "figures" / "seeds.png"} <= gone
    assert {path for path in out.rglob("*") if path.is_file()} == {*second, *own}
    assert all(path.read_text() == "my own" for path in own)


def test_a_list_of_files_reaches_nothing_outside_of_the_report(scores: Scores, tmp_path: Path) -> None:
    out, precious = tmp_path / "report", tmp_path / "precious.txt"
    precious.write_text("mine")
    write_report(scores, ["discrimination"], out)
    (out / LIST).write_text(json.dumps({"files": ["../precious.txt", str(precious), 3, "tables/none.md"]}))
    write_report(scores, ["discrimination"], out)
    assert precious.read_text() == "mine"


def test_a_report_that_died_leaves_the_old_one_whole_and_none_of_its_own(scores: Scores, tmp_path: Path) -> None:
    out = tmp_path / "report"
    write_report(scores, ["discrimination"], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def dies() -> None:
        with replacing(out) as stage:
            write_whole(stage / "index.html", "half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        dies()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_cards_are_replaced_with_the_report_that_they_belong_to(scores: Scores, tmp_path: Path) -> None:
    write_report(scores, ["discrimination"], tmp_path)
    cards = write_cards(Run(tmp_path / "run"), scores, tmp_path)
    assert all(path.exists() for path in cards)
    write_report(scores, ["discrimination"], tmp_path)
    assert not (tmp_path / "cards").exists()


def test_nothing_is_redacted_into_a_report_whose_files_are_not_known(scores: Scores, tmp_path: Path) -> None:
    write_report(scores, ["discrimination"], tmp_path)
    (tmp_path / LIST).unlink()
    with pytest.raises(UserError, match=r"holds a report without written.json, .* choose --out"):
        write_report(scores, ["discrimination"], tmp_path, redact=True)


def test_the_console_shows_claims_and_tables(scores: Scores) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_report(build_tables(scores, ["discrimination", "win_rate"]), scores, console)
    text = console.export_text()
    assert "supported: A model recognises harm" in text
    assert "n=720/720" in text


def test_the_report_of_an_empty_run_is_a_page_without_tables(tmp_path: Path) -> None:
    empty = Scores(run="empty", subjects=(), metrics=(), estimates=())
    files = write_report(empty, layout_names(), tmp_path)
    assert files[0] == tmp_path / "index.html"
    assert not (tmp_path / "tables").exists()
    assert not (tmp_path / "figures").exists()
    assert "Tables that were not made" in files[0].read_text(encoding="utf-8")
