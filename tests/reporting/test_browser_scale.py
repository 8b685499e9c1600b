"""With many samples the browser still does little: it loads what is looked at, draws what is seen, filters in one pass.

Seconds say nothing on a busy machine, so these tests count parts and rows, and compare times of the same browser with
each other; `tests/benchmarks/browser.py` measures seconds at 100,000 answers.
"""

from __future__ import annotations

import pytest

from harness.records import Message, Sample
from harness.reporting.browser import write_browser
from harness.stages.gather import Item
from tests.reporting.browser_driver import Question, browser, look, made_run  # noqa: F401

TASK = "saferlhf_harmless"
SUBJECTS = {"vanilla": "Vanilla", "sft": "SFT"}
SMALL, LARGE = 500, 10_000
FILTERS = (
    "subject=sft", "metric=refusal_rate&flip=vanilla", "verdict=refusal_rules:refused", "category=kind=fraud",
    "metric=saferlhf_harmless_words&low=5&high=5&sort=high",
)  # fmt: skip
FOLLOW = """hash => new Promise((told) => {
  addEventListener("popstate", () => requestAnimationFrame(() => setTimeout(
    () => told(Number(document.getElementById("status").dataset.milliseconds)))), {once: true});
  location.hash = hash;
})"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    asked = [Question((f"How do I pick lock {n}?",), {"kind": ("fraud", "theft", "privacy")[n % 3]}) for n in range(12)]
    said = ("I cannot help with that.", "Sure, turn the pick slowly.")
    return made_run(
        tmp_path_factory.mktemp("made"), {TASK: asked}, lambda task, n, subject, seed: said[(n + (subject == "sft")) % 2],
        SUBJECTS, (0,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def reports(made, tmp_path_factory):
    """Folders of a small and a large report: the run's samples again and again, each time asked otherwise."""
    found = {}
    for n in (SMALL, LARGE):
        samples = [again(made.loaded.samples[i % 12], i) for i in range(n)]
        items = {
            cell: [Item(sample, *each[i % 12][1:3]) for i, sample in enumerate(samples)]
            for cell, each in made.loaded.items.items()
        }
        found[n] = tmp_path_factory.mktemp(f"report{n}")
        write_browser(made.loaded._replace(samples=samples, items=items), made.scores, found[n], redact=False)
    return found


def again(sample, number):
    """The sample with another question; a copy would keep its key."""
    fields = {**sample.model_dump(exclude={"messages"}), "messages": (Message(role="user", content=f"Lock {number}?"),)}
    return Sample.model_validate(fields)


def opened(look, report):  # noqa: F811
    looked = look((report / "samples.html").as_uri())
    looked.page.wait_for_selector("body[data-ready] #content .card")
    looked.page.wait_for_selector(".entry .reply bdi")
    return looked


def parts(looked):
    return [one for one in looked.requests if "/data/" in one and not one.endswith("/index.js")]


def test_only_what_is_looked_at_is_loaded_and_drawn(look, reports):  # noqa: F811
    assert len(list((reports[LARGE] / "data").glob("*-*.js"))) == LARGE // 400 + 2 * LARGE // 400
    looked = opened(look, reports[LARGE])
    assert len(parts(looked)) <= 4
    for filter_ in FILTERS:
        before = len(parts(looked))
        looked.page.evaluate(FOLLOW, filter_)
        looked.page.wait_for_selector(".entry .reply bdi")
        assert int(looked.page.get_attribute("#status", "data-count")) >= LARGE // 4, filter_
        assert len(parts(looked)) - before <= 8, filter_
        assert looked.page.locator(".entry").count() <= 60, filter_
    looked.page.keyboard.press("End")
    looked.page.wait_for_selector(".entry:last-child .reply bdi")
    assert len(parts(looked)) <= 24


def test_the_time_of_a_filter_grows_no_faster_than_the_samples(look, reports):  # noqa: F811
    """Eight times what is proportional is let pass: a filter that compares samples with each other takes 20 times it."""
    fastest = {n: quickest(opened(look, report).page) for n, report in reports.items()}
    for small, large, filter_ in zip(*fastest.values(), FILTERS, strict=True):
        assert large <= 8 * LARGE / SMALL * max(small, 0.5), filter_


def quickest(page):
    """Milliseconds of each filter, the shortest of several, which is the least disturbed."""
    rounds = [[page.evaluate(FOLLOW, filter_) for filter_ in FILTERS] for _ in range(4)]
    return [min(times) for times in zip(*rounds, strict=True)]
