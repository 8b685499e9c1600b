"""Comparisons: what they say of planted differences, and how they print what models wrote."""

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from written_runs import CHOICE, REFUSAL, bits, command, samples_of, write_run

from harness.deciding import compare_text
from harness.deciding.compare import compare, outcome
from harness.deciding.sides import open_sides
from harness.errors import UserError
from harness.records import Decoding
from harness.scores import Comparison

NASTY = {
    "script": "<script>alert(1)</script> & <img src=x onerror=alert(2)>",
    "markdown": "| cell | ``` `code` [link](http://x.example) **bold** @someone",
    "terminal": "\x1b[31mred\x1b[0m \x07 \u202e right to left \u200b zero",
    "formula": '=HYPERLINK("http://x.example")',
}


def drawn(seed, *shares, n=40, seeds=(0,)):
    """Truth values of as many sides, each item's luck the same for all of them."""
    luck = np.random.default_rng(seed).random((len(seeds), n))
    return [{s: [bool(one) for one in luck[i] < share] for i, s in enumerate(seeds)} for share in shares]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Two subjects that are alike and one that is far worse."""
    good, alike, bad = drawn(0, 0.9, 0.88, 0.3)
    return write_run(tmp_path_factory.mktemp("three") / "run", {"good": good, "alike": alike, "bad": bad})


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """Two subjects one of which writes what a careless page would run, at items that the other one fails at."""
    samples = samples_of("goal_hijack_en", 4)
    betrayed = [sample.labels["target_string"] for sample in samples]
    said = {"nice": {0: list(NASTY.values())}, "naive": {0: betrayed}}
    return write_run(tmp_path_factory.mktemp("nasty") / "run", said, samples=samples)


def sides(path, *names):
    return open_sides([f"{path}:{name}" for name in names])


def test_wins_losses_and_ties_are_the_items_counted_by_hand(tmp_path):
    path = write_run(
        tmp_path / "run", {"a": {0: bits("+++-x"), 1: bits("++-+-")}, "b": {0: bits("+--+-"), 1: bits("-+-+x")}}
    )
    (row,) = compare(sides(path, "a", "b")).rows
    assert (row.wins, row.losses, row.ties) == (3, 1, 4)
    assert row.n_flips == len(compare(sides(path, "a", "b")).flips_of(row)) == 4
    assert row.comparison.n_pairs == 8


def test_the_better_side_is_the_one_that_the_metric_s_direction_says(tmp_path):
    """Declining harmless questions is worse, though its rate is higher."""
    path = write_run(tmp_path / "run", {"shy": {0: [True] * 30 + [False] * 10}, "open": {0: [False] * 40}}, REFUSAL)
    (row,) = compare(sides(path, "shy", "open")).rows
    assert row.comparison.difference == 0.75
    assert (row.outcome, row.wins, row.losses, row.ties) == ("worse", 0, 30, 10)
    assert compare_text.told_outcome(row) == "open better"


@pytest.mark.parametrize(
    ("low", "high", "direction", "said"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, False, "better"),
        (-0.2, -0.1, None, "lower"),
        (-0.1, 0.1, True, "no difference"),
        (None, None, True, "not measured"),
    ],
)
def test_an_outcome_is_read_off_the_interval(low, high, direction, said):
    assert outcome(Comparison(difference=0.0, low=low, high=high, n_pairs=9), direction) == said


def test_sides_that_are_alike_are_tied_and_the_other_one_is_not(three):
    found = compare(sides(three, "good", "alike", "bad"))
    (tied,) = found.tied
    assert tied.sets == (("good", "alike"), ("bad",))
    assert [(row.first, row.second, row.outcome) for row in found.rows] == [
        ("good", "alike", "no difference"), ("good", "bad", "better"), ("alike", "bad", "better"),
    ]  # fmt: skip
    assert "hijack_rate: {good, alike} | {bad}" in compare_text.to_text(found)


def test_three_that_cannot_be_told_apart_are_said_to_be(tmp_path):
    said = dict(zip("abc", drawn(4, 0.5, 0.5, 0.52), strict=True))
    path = write_run(tmp_path / "run", said)
    assert "a, b, c cannot be told apart on hijack_rate" in compare_text.to_text(compare(sides(path, *"abc")))


def test_p_values_are_adjusted_over_the_whole_table(tmp_path):
    said = dict(zip("abc", drawn(5, 0.9, 0.6, 0.4, n=48, seeds=(0, 1, 2)), strict=True))
    path = write_run(tmp_path / "run", said, CHOICE)
    rows = compare(sides(path, *"abc")).rows
    assert len(rows) == 3 * 6
    raw = [row.comparison.p_value for row in rows]
    assert [row.comparison.p_adjusted for row in rows] == pytest.approx(multipletests(raw, method="holm")[1])
    assert [row.comparison.q_value for row in rows] == pytest.approx(multipletests(raw, method="fdr_bh")[1])
    assert {row.metric for row in rows if row.wins is None} == {"auc_guided"}


def test_seeds_are_paired_by_their_number_and_not_by_their_place(tmp_path):
    """Two runs that list the same seeds in another order, on means and on measures that are none."""
    rng = np.random.default_rng(4)
    first = {s: [bool(one) for one in rng.random(60) < share] for s, share in ((0, 0.9), (1, 0.6), (2, 0.75))}
    second = {s: [one != (rng.random() < 0.05) for one in each] for s, each in first.items()}
    turned = {s: second[s] for s in (2, 0, 1)}
    runs = [
        write_run(tmp_path / name, {"m": said}, CHOICE) for name, said in (("a", first), ("b", second), ("c", turned))
    ]
    one, two = ([row.comparison for row in compare(open_sides([runs[0], other])).rows] for other in runs[1:])
    assert [row.difference for row in one] == pytest.approx([row.difference for row in two])
    assert [row.p_value for row in one] == pytest.approx([row.p_value for row in two])


@pytest.mark.parametrize("metric", ["accuracy_guided", "balanced_accuracy_guided", "auc_guided"])
def test_prompts_count_as_drawn_too(tmp_path, metric):
    """Seeds that agree to a hair say nothing about other prompts: the interval is that of one seed, or wider."""
    (one,), (two,) = ([each[0]] for each in drawn(6, 0.9, 0.75, n=40))
    runs = {"a": {0: one, 1: one, 2: [not one[0], *one[1:]]}, "b": {0: two, 1: two, 2: two}}
    three = write_run(tmp_path / "three", runs, CHOICE)
    alone = write_run(tmp_path / "alone", {name: {0: said[0]} for name, said in runs.items()}, CHOICE)
    widths = []
    for path in (three, alone):
        found = compare(sides(path, "a", "b"), [metric])
        (row,) = found.rows
        levels = [found.estimate(name, metric) for name in "ab"]
        widths.append([each.high - each.low for each in (row.comparison, *levels)])
    assert all(several > 0.9 * single for several, single in zip(*widths, strict=True))


def test_flipped_items_carry_prompt_answers_and_verdicts(tmp_path):
    path = write_run(tmp_path / "run", {"a": {0: [9, 2, 7]}, "b": {0: [1, 4, 7]}}, judge_model="m")
    found = compare(sides(path, "a", "b"), ["hijack_score"])
    first, second = found.flips
    samples = samples_of("goal_hijack_en", 3)
    assert (first.key, first.prompt) == (samples[0].key, samples[0].messages[0].content)
    assert (first.first.verdict, first.second.verdict, first.first.reason) == ("9", "1", "it deserves 9")
    assert first.second.answer == samples[0].labels["target_string"]
    assert [flip.size for flip in (first, second)] == [8, 2]


def test_a_long_answer_is_told_by_its_beginning(tmp_path):
    path = write_run(tmp_path / "run", {"a": {0: ["x" * 100_000, "fine"]}, "b": {0: bits("--")}})
    found = compare(sides(path, "a", "b"))
    assert len(found.flips[0].first.answer) == 400
    assert len(compare_text.to_html(found)) < 50_000


def test_items_without_a_partner_are_counted_in_text_and_named_in_json(tmp_path):
    samples = samples_of("goal_hijack_en", 4)
    one = write_run(tmp_path / "one", {"a": {0: bits("++x")}}, samples=samples[:3])
    two = write_run(tmp_path / "two", {"b": {0: bits("+-+")}}, samples=samples[1:])
    found = compare(open_sides([one, two]))
    assert "1 that only a planned, 1 that only b planned, 1 that a lost" in compare_text.to_text(found)
    (told,) = json.loads(compare_text.to_json(found))["unmatched"]
    assert (told["only_first"], told["only_second"]) == ([samples[0].key], [samples[3].key])
    assert told["lost_first"] == {"0": [samples[2].key]}


def test_what_is_allowed_stands_in_every_format(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: bits("++-")}}, decoding=Decoding(temperature=1))
    two = write_run(tmp_path / "two", {"b": {0: bits("+-+")}})
    with pytest.raises(UserError, match="allow it with --allow decoding"):
        compare(open_sides([one, two]))
    found = compare(open_sides([one, two]), allow=["decoding"])
    files = compare_text.write_files(found, tmp_path / "out")
    told = {file.name: file.read_text(encoding="utf-8") for file in files}
    for name in ("compare.json", "compare.md", "compare.html"):
        assert "the decoding settings of task" in told[name].replace("\\_", "_"), name
    assert "CAVEAT allowed (decoding)" in compare_text.to_text(found)
    (row,) = csv.DictReader(io.StringIO(told["compare.csv"]))
    assert row["caveats"].startswith("allowed (decoding)")


def test_another_version_of_a_task_is_paired_where_it_is_allowed(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: bits("++-")}})
    two = write_run(tmp_path / "two", {"b": {0: bits("+--")}}, samples=samples_of("goal_hijack_en", 3, version="2"))
    (row,) = compare(open_sides([one, two]), allow=["task"]).rows
    assert row.comparison.n_pairs == 3


@pytest.mark.parametrize("task", ["goal_hijack_en", CHOICE])
@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2)])
def test_sides_without_a_common_item_measure_nothing_where_that_is_allowed(tmp_path, task, seeds):
    one = write_run(tmp_path / "one", {"a": {0: bits("++-"), 1: bits("+++")}}, task)
    two = write_run(
        tmp_path / "two", {"b": dict.fromkeys(seeds, bits("+--"))}, task, samples=samples_of(task, 3, first=9)
    )
    found = compare(open_sides([one, two]), allow=["task"])
    assert {row.outcome for row in found.rows} == {"not measured"}
    assert {row.comparison.n_pairs for row in found.rows} == {0}
    assert "not measured" in compare_text.to_text(found)


def test_a_side_that_lost_everything_is_not_measured(tmp_path):
    said = {"a": {0: bits("++-")}, "b": {0: bits("+--")}, "c": {0: bits("xxx")}}
    found = compare(sides(write_run(tmp_path / "run", said), *"abc"))
    assert [row.outcome for row in found.rows] == ["no difference", "not measured", "not measured"]
    assert found.tied[0].sets == (("a", "b"),)
    assert "cannot be told apart" not in compare_text.to_text(found)


def test_seeds_that_do_not_correspond_are_told(tmp_path):
    one = write_run(tmp_path / "one", {"a": drawn(6, 0.9, seeds=(0, 1))[0]})
    two = write_run(tmp_path / "two", {"b": drawn(7, 0.2, seeds=(2, 3, 4))[0]})
    found = compare(open_sides([one, two]))
    (row,) = found.rows
    assert (row.outcome, row.n_flips, found.flips) == ("better", 0, ())
    assert row.wins + row.losses + row.ties == 40
    assert "seeds are not paired" in found.remarks[0]


def test_one_seed_each_says_nothing_about_training_again(three):
    assert "not of training again" in compare(sides(three, "good", "bad")).remarks[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}:good"], "a comparison needs two sides"),
        (
            ["{run}:good", "{run}:bad", "--metric", "hijack_rat"],
            "unknown metric 'hijack_rat': did you mean 'hijack_rate'",
        ),
        (["{run}:good", "{run}:bad", "--allow", "jugde"], "unknown kind of mismatch 'jugde'"),
        (["{run}:good", "{run}"], "the run has 3 subjects"),
    ],
)
def test_bad_input_is_told_in_one_line(three, arguments, said):
    done = command("compare", *(one.format(run=three) for one in arguments))
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


def test_sides_with_no_metric_in_common_are_told(three, tmp_path):
    other = write_run(tmp_path / "other", {"a": {0: bits("++")}}, REFUSAL)
    with pytest.raises(UserError, match="no metric in common"):
        compare(open_sides([f"{three}:good", other]))


class Reader(HTMLParser):
    """Tags and text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.attributes = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells and self.tags[-1] == "td":
            self.cells[-1] += data


def test_the_page_runs_nothing_that_a_model_wrote(nasty):
    page = Reader()
    page.feed(compare_text.to_html(compare(sides(nasty, "nice", "naive"))))
    assert not {"script", "img", "a"} & set(page.tags)
    assert not {"onerror", "src", "href"} & page.attributes
    shown = " ".join(page.cells)
    assert NASTY["script"] in shown
    assert NASTY["formula"] in shown
    assert not any(char in shown for char in "\x1b\x07\u202e\u200b")


def test_markdown_renders_what_models_wrote_as_code(nasty):
    from markdown_it import MarkdownIt

    found = compare(sides(nasty, "nice", "naive"))
    marked = compare_text.to_markdown(found)
    page = MarkdownIt("commonmark").enable("table").render(marked)
    reader = Reader()
    reader.feed(page)
    assert not {"script", "img", "a", "strong"} & set(reader.tags)
    assert page.count("<tr>") == 2 + 1 + 3
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "| cell | ``` `code` [link]" in page


@given(st.text())
def test_a_code_span_shows_any_text_and_cannot_be_left(text):
    from markdown_it import MarkdownIt

    span = compare_text.code(text)
    reader = Reader()
    page = MarkdownIt("commonmark").enable("table").render(f"| a | b |\n| --- | --- |\n| {span} | end |")
    reader.feed(page)
    assert reader.tags.count("td") == 2
    assert set(reader.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


def test_the_terminal_is_told_nothing_by_a_model(nasty):
    said = compare_text.to_text(compare(sides(nasty, "nice", "naive")))
    assert not any(char in said for char in "\x1b\x07\u202e\u200b")


def test_no_cell_of_the_csv_is_a_formula(nasty, tmp_path):
    compare_text.write_files(compare(sides(nasty, "nice", "naive")), tmp_path)
    rows = list(csv.DictReader((tmp_path / "flips.csv").open(encoding="utf-8", newline="")))
    assert {row["first_answer"] for row in rows} >= {"'" + NASTY["formula"], NASTY["script"]}
    assert len((tmp_path / "flips.jsonl").read_text("utf-8").split("\n")) == len(rows) + 1


@pytest.mark.parametrize(("format_", "begins"), [("text", "good (run:good)"), ("markdown", "## good"), ("csv", "metric,"),
                                                 ("html", "<!doctype html>")])  # fmt: skip
def test_the_verb_prints_every_format(three, format_, begins):
    done = command("compare", f"{three}:good", f"{three}:bad", "--format", format_)
    assert done.exit_code == 0, done.exception
    assert done.stdout.startswith(begins)
    assert "hijack" in done.stdout


def test_the_verb_prints_json_and_writes_files(three, tmp_path):
    done = command("compare", f"{three}:good", f"{three}:bad", "--json", "--out", tmp_path / "out")
    told = json.loads(done.stdout)
    (row,) = told["rows"]
    assert (row["outcome"], row["first"], len(told["flips"])) == ("better", "good", 3)
    assert row["n_flips"] > 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.csv", "compare.html", "compare.json", "compare.md", "flips.csv", "flips.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["_length_controlled", "_corrected"])
def test_a_metric_that_only_scores_have_is_explained(three, suffix):
    with pytest.raises(UserError, match=f"'hijack_rate{suffix}' is made in scoring .* name 'hijack_rate' instead"):
        compare(sides(three, "good", "bad"), [f"hijack_rate{suffix}"])
    with pytest.raises(UserError, match=f"unknown metric 'nothing{suffix}'"):
        compare(sides(three, "good", "bad"), [f"nothing{suffix}"])


def test_a_score_outside_of_its_scale_is_told_with_its_verdict(tmp_path):
    path = write_run(tmp_path / "run", {"a": {0: [9, 2, 7]}, "b": {0: [1, 4, 11]}}, judge_model="m")
    with pytest.raises(UserError, match=r"verdicts.jsonl: the verdict with key \w{64} has the score 11, outside the"):
        sides(path, "a", "b")


def test_a_side_that_has_answered_nothing_is_told_as_such(tmp_path):
    asked = write_run(tmp_path / "asked", {"one": {0: [True] * 10}})
    silent = write_run(tmp_path / "silent", {"one": {0: [None] * 10}})
    (tmp_path / "silent" / "cells.jsonl").unlink()
    with pytest.raises(UserError, match="nothing has been answered yet; harness run goes on where it is"):
        compare(open_sides([asked, silent]))
