"""Model cards and the claims file say what the scores say, in the form that model hubs read."""

import json
import re

import pytest
import yaml
from report_demo import demo_scores

from harness.reporting.card import write_cards
from harness.reporting.claims import write_claims
from harness.store import Run


@pytest.fixture
def cards(tmp_path):
    scores = demo_scores()
    files = write_cards(Run(tmp_path / "run"), scores, tmp_path / "report")
    return scores, {file.stem: file.read_text() for file in files}


def test_every_subject_has_a_card_with_metadata(cards):
    scores, texts = cards
    assert set(texts) == {subject.name for subject in scores.subjects}
    for name, text in texts.items():
        _, front, body = text.split("---\n", 2)
        results = yaml.safe_load(front)["model-index"][0]["results"]
        given = {one["type"]: one["value"] for result in results for one in result["metrics"]}
        measured = {
            row.metric: row.estimate.value
            for row in scores.estimates
            if row.subject == name and row.seed is None and row.estimate.value is not None
        }
        assert given.keys() == measured.keys()
        for metric, value in measured.items():
            assert given[metric] == pytest.approx(value, abs=1e-6)
        assert body.count("|---") >= 2


def test_a_label_cannot_break_the_table(tmp_path):
    scores = demo_scores()
    first = scores.subjects[0]
    evil = first.model_copy(update={"label": "a | b\n\n<script>alert(1)</script>"})
    scores = scores.model_copy(update={"subjects": (evil, *scores.subjects[1:])})
    write_cards(Run(tmp_path / "run"), scores, tmp_path)
    text = (tmp_path / "cards" / f"{first.name}.md").read_text()
    assert "<script>" not in text
    assert "# a \\| b" in text


def test_no_name_or_label_is_markup(tmp_path):
    """Markdown turned into HTML: no link, image, code or tag comes of what a run's author or a model is called."""
    scores = demo_scores()
    evil = "[x](http://e.example) ![y](z.png) `code` <b>b</b> **bold** ~~gone~~ \x1b[31m"
    first = scores.subjects[0].model_copy(update={"label": evil, "mistakes": evil})
    scores = scores.model_copy(
        update={"run": "a `run` <i>", "subjects": (first, *scores.subjects[1:]), "notes": (evil,),
                "metrics": tuple(one.model_copy(update={"label": evil}) for one in scores.metrics)}
    )  # fmt: skip
    write_cards(Run(tmp_path / "run"), scores, tmp_path)
    text = (tmp_path / "cards" / f"{first.name}.md").read_text().split("---\n", 2)[2]
    assert text.count("\\[x\\](http://e.example) !\\[y\\](z.png) \\`code\\` \\<b\\>b\\</b\\> \\*\\*bold\\*\\*") >= 4
    assert not re.findall(r"(?<!\\)\]\(|(?<!\\)<\w|\x1b", text.replace("`` a `run` <i> ``", ""))
    assert "`` a `run` <i> ``" in text


def test_a_card_made_without_markup_reads_as_before(cards):
    body = cards[1]["sft"].split("---\n", 2)[2]
    assert "run `Demo of the small world`;" in body
    assert re.search(r"\| Harmless Rate \(%\) ↑ \| [\d.]+ \[[\d.]+, [\d.]+\] \| 720/720 \|", body)


def test_the_claims_file_holds_test_effect_interval_and_decision(tmp_path):
    scores = demo_scores()
    found = json.loads(write_claims(scores, tmp_path).read_text())["claims"]
    assert [one["name"] for one in found] == [claim.name for claim in scores.claims]
    for one, claim in zip(found, scores.claims, strict=True):
        assert (one["effect"], one["decision"]) == (claim.comparison.difference, claim.decision)
        assert one["test"] == claim.comparison.test
        if claim.comparison.low is not None:
            assert one["interval"] == [claim.comparison.low, claim.comparison.high]
