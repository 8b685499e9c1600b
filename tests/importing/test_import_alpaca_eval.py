"""Annotations of AlpacaEval: the leaderboard's numbers from the public annotations, and every kind of preference."""

import csv
import json
import statistics

import pytest
from scipy.stats import t

from harness.errors import UserError
from harness.importing import told
from harness.records import VerdictOutcome
from tests.importing.conftest import DATA

FOLDER = DATA / "alpaca_eval"
PUBLISHED = {"claude-2": (17.188, 1.175), "vicuna-13b": (5.831, 0.742)}


def annotation(number, preference, **other):
    row = {
        "instruction": f"question {number}", "output_1": f"base {number}", "generator_1": "gpt4", "output_2": f"ours {number}",
        "generator_2": "my model", "annotator": "judge-1", "preference": preference,
    }  # fmt: skip
    return {**row, **other}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the public annotations are not here")
def test_the_leaderboard_s_win_rates_and_standard_errors(bring):
    with (FOLDER / "leaderboard_alpacaeval2.csv").open(encoding="utf-8", newline="") as file:
        leaderboard = {row[""]: row for row in csv.DictReader(file)}
    for name in PUBLISHED:
        found = bring("alpaca_eval", FOLDER / f"ae2_{name}.jsonl")
    samples, cells, _, verdicts = found.records()
    assert (len(samples), len(cells), len(verdicts)) == (805, 2, 1610)
    for name, (win_rate, error) in PUBLISHED.items():
        estimate = found.estimate(name, "win_rate")
        assert (estimate.n_scored, estimate.n_total, estimate.method) == (805, 805, "BCa bootstrap")
        assert 100 * estimate.value == pytest.approx(float(leaderboard[name]["win_rate"]), abs=1e-9)
        assert round(100 * estimate.value, 3) == win_rate
        scores = _scores(found, name)
        standard_error = 100 * statistics.stdev(scores) / len(scores) ** 0.5
        assert standard_error == pytest.approx(float(leaderboard[name]["standard_error"]), abs=1e-9)
        assert round(standard_error, 3) == error
        half = 100 * (estimate.high - estimate.low) / 2
        assert half == pytest.approx(t.ppf(0.975, 804) * standard_error, rel=0.05)
    (row,) = found.scores.comparisons
    assert (row.subject, row.baseline, row.comparison.decision) == ("vicuna-13b", "claude-2", "lower")
    assert row.comparison.n_pairs == 805


def _scores(found, subject):
    _, cells, completions, verdicts = found.records()
    (model,) = [cell.model.key for cell in cells if cell.subject == subject]
    own = {completion.key for completion in completions if completion.model_key == model}
    return [verdict.score for verdict in verdicts if verdict.completion_key in own]


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the public annotations are not here")
def test_the_command_prints_the_table_and_writes_the_report(command, tmp_path):
    code, out, err = command("import", tmp_path / "run", "--task", "alpaca_eval", "--from", FOLDER / "ae2_claude-2.jsonl")
    assert code == 0
    assert "805 of 805 rows are answers of claude-2 to alpaca_eval; new: 805 items, 805 answers, 805 verdicts" in err
    assert "17.19" in out
    assert "n=805/805" in out
    page = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert "against gpt4_1106_preview" in page
    assert "with verdicts of weighted_alpaca_eval_gpt4_turbo" in page


def test_every_kind_of_preference(bring, write):
    kinds = [1, 2, 0, 1.5, "1.25", "0.0", None, "null", 2.0]
    found = bring("alpaca_eval", write("a.json", json.dumps([annotation(n, p) for n, p in enumerate(kinds)])))
    verdicts = found.records()[3]
    assert [verdict.score for verdict in verdicts] == [0, 1, 0.5, 0.5, 0.25, 0.5, None, None, 1]
    assert [v.outcome for v in verdicts if v.score is None] == [VerdictOutcome.UNPARSED] * 2
    estimate = found.estimate("my-model", "win_rate")
    assert (estimate.value, estimate.n_scored, estimate.n_total) == (pytest.approx(3.75 / 7), 7, 9)
    assert (estimate.worst, estimate.best) == (pytest.approx(3.75 / 9), pytest.approx(5.75 / 9))
    assert found.summary["lost"] == {"verdict unparsed": 2}
    assert "lost of 9 items: 2 verdict unparsed" in told(found.summary)
    (subject,) = found.scores.subjects
    assert (subject.name, subject.label, subject.method) == ("my-model", "my model", "recorded")


@pytest.mark.parametrize("preference", [3, 0.5, -1, "m", True, "1,5", 1e999, [1]])
def test_a_preference_that_is_none_is_told_with_its_line_and_nothing_is_written(bring, write, preference, tmp_path):
    rows = [annotation(0, 1), annotation(1, preference)]
    file = write("a.jsonl", "".join(json.dumps(row).replace("Infinity", "1e999") + "\n" for row in rows))
    with pytest.raises(UserError, match=r"^a\.jsonl:2: 'preference' must be 0, null or a number from 1 to 2"):
        bring("alpaca_eval", file)
    assert not (tmp_path / "run").exists()


def test_models_annotators_and_baselines_are_never_mixed(bring, write, tmp_path):
    two = [annotation(0, 1), annotation(0, 2, generator_2="another", output_2="b")]
    with pytest.raises(UserError, match=r"names 2 models \(my model, another\); import one at a time with --subject"):
        bring("alpaca_eval", write("two.jsonl", two))
    found = bring("alpaca_eval", tmp_path / "two.jsonl", subject="another")
    assert found.estimate("another", "win_rate").value == 1
    assert found.summary["dropped"] == {"of another model": 1}
    judge = write("judge.jsonl", [annotation(0, 1, annotator="judge-2")])
    with pytest.raises(UserError, match=r"verdicts there are of judge-1, these of judge-2, which do not compare"):
        bring("alpaca_eval", judge)
    with pytest.raises(UserError, match="against gpt4, these against davinci"):
        bring("alpaca_eval", write("side.jsonl", [annotation(0, 1, generator_1="davinci")]))
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert "imports.jsonl" in before
    mixed = write("mixed.jsonl", [annotation(0, 1), annotation(0, 2, annotator="judge-2")])
    with pytest.raises(UserError, match=r"--judge NAME"):
        bring("alpaca_eval", mixed)
    assert bring("alpaca_eval", mixed, folder="other", judge="judge-2").estimate("my-model", "win_rate").value == 1


def test_another_task_s_items_are_not_taken_from_annotations(bring, write, tmp_path):
    file = write("a.jsonl", [annotation(0, 1), annotation(1, 2)])
    with pytest.raises(UserError, match=r"answers no item of goal_hijack_en .* another task\?"):
        bring("goal_hijack_en", file)
    items = write("items.jsonl", [{"instruction": f"question {n}"} for n in range(3)])
    found = bring("alpaca_farm", file, data=str(items))
    assert found.estimate("my-model", "over_refusal").n_total == 3
    assert "the scores of judge-1 are kept" in found.summary["warnings"][0]


def test_a_win_rate_without_verdicts_is_not_measured(bring, write):
    found = bring("alpaca_eval", write("a.jsonl", [{"instruction": "q", "output": "a"}]))
    estimate = found.estimate("a", "win_rate")
    assert (estimate.value, estimate.n_scored, estimate.n_total) == (None, 0, 1)
