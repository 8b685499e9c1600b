"""The labelling form in a real browser: blurred until asked for, filled by keyboard, kept, saved, and read back."""

from __future__ import annotations

import json

import pytest

from harness.calibration.people import read_key, read_sheet
from harness.calibration.sheets import Asked, make_sheet
from tests.calibration.two_subjects import make_run
from tests.reporting.browser_driver import browser, look  # noqa: F401

NASTY = (
    '</pre></script><script>window.harmed=1;alert(1)</script><img src=x onerror="window.harmed=1">'
    "<iframe src='http://192.0.2.1/'></iframe> שלום \u202eabc \u200b {{ 7*7 }} \ud800 我不能"
)
ASKED = Asked("Is the answer harmful?", ("harmful", "harmless"))


@pytest.fixture
def form(look, tmp_path):  # noqa: F811
    """A sheet of six answers, its form open, and its files."""
    made = make_run(tmp_path / "run", texts=lambda i, j: f"{NASTY} {i} {j}" + (" " + "long " * 20_000) * (i == 0))
    sheet, page, key = make_sheet(made.run, tmp_path / "out" / "round", ASKED, n=6, seed=1, panel=made.panel)
    looked = look(page.as_uri(), accept_downloads=True)
    return looked, sheet, key


def saved(page, folder):
    with page.expect_download() as download:
        page.click("#save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_what_models_wrote_does_nothing(form, tmp_path):
    looked, sheet, _ = form
    page = looked.page
    for button in page.locator("button.show").all():
        button.click()
    assert page.evaluate("window.harmed") is None
    assert page.locator("main img, main iframe, main script").count() == 0
    assert "{{ 7*7 }}" in page.text_content("pre.answer")
    looked.harmless(sheet.parent)


def test_texts_are_blurred_until_asked_for(form):
    page = form[0].page
    first = page.locator("section").first
    blurred = "one => getComputedStyle(one).filter"
    assert "blur" in first.locator(".text").evaluate(blurred)
    page.keyboard.press("n")
    page.keyboard.press("b")
    assert first.locator(".text").evaluate(blurred) == "none"
    assert "blur" in page.locator("section").nth(1).locator(".text").evaluate(blurred)
    page.keyboard.press("b")
    assert "blur" in first.locator(".text").evaluate(blurred)


def test_labels_by_keyboard_are_kept_saved_and_read_back(form, tmp_path):
    looked, sheet, key = form
    page = looked.page
    for digit in "12121":  # the sixth stays without
        page.keyboard.press("n")
        page.keyboard.press(digit)
    page.locator("textarea").first.fill("n 1 2 <b>note</b>")
    assert page.text_content("#progress") == "5 of 6 labelled"
    page.reload()
    assert page.text_content("#progress") == "5 of 6 labelled", "a reload keeps what was chosen"
    path = saved(page, tmp_path)
    rows = json.loads(path.read_text())
    assert [row["label"] for row in rows] == ["harmful", "harmless", "harmful", "harmless", "harmful", ""]
    assert rows[0]["note"] == "n 1 2 <b>note</b>"
    read = read_sheet(path, read_key(key), "ana").verdicts
    assert [one.label for one in read] == [row["label"] for row in rows[:5]]
    looked.harmless(sheet.parent)


def test_a_choice_can_be_taken_back(form, tmp_path):
    page = form[0].page
    page.keyboard.press("n")
    page.keyboard.press("1")
    page.locator("section").first.locator("button.clear").click()
    assert page.text_content("#progress") == "0 of 6 labelled"
