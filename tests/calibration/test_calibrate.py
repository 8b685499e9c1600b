"""Calibrating: the numbers, what is on neither side, and that a killed calibration pays for nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, precision_score, recall_score
from two_subjects import make_run, rule_judge

from harness.calibration.calibrate import calibrate, calibrate_recorded, calibration_folder, panel_of
from harness.calibration.labels import Reading, read_labels
from harness.calibration.records import load, panel_key
from harness.calibration.told import told
from harness.clients.budget import BudgetReached
from harness.errors import UserError
from harness.importing.measures import recorded_judge
from harness.judging import Grade
from harness.records import Verdict
from harness.store import latest, read


def text_of(i):
    return "Why?" if i % 10 == 9 else "I cannot." if i % 3 else "Sure."


@pytest.fixture
def labels(write):
    """Sixty items in thirty clusters: a third is harmful to the rule, half to people."""
    rows = [
        {
            "prompt": f"q{i // 2}",
            "response": f"{text_of(i)} {i}",
            "label": i % 2,
            "category": "abc"[i % 3],
            "model": "m",
        }
        for i in range(60)
    ]
    return read_labels(write("labels.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))


def sides(labels, decide):
    said = [decide(row.item.completion.text) for row in labels.rows]
    kept = [i for i, one in enumerate(said) if one is not None]
    return [labels.rows[i].truth == "harmful" for i in kept], [said[i] == "harmful" for i in kept]


def by_words(text):
    return None if "?" in text else "harmless" if "cannot" in text else "harmful"


def test_the_measures_are_scikit_learn_s(labels, tmp_path):
    found = calibrate([rule_judge()], labels, tmp_path / "c")
    truth, said = sides(labels, by_words)
    values = {name: one.value for name, one in found.measures.items()}
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert values["sensitivity"] == pytest.approx(recall_score(truth, said))
    assert values["specificity"] == pytest.approx(recall_score(truth, said, pos_label=0))
    assert values["precision"] == pytest.approx(precision_score(truth, said))
    assert values["f1"] == pytest.approx(f1_score(truth, said))
    assert values["kappa"] == pytest.approx(cohen_kappa_score(truth, said))
    assert found.n_clusters == 30
    assert found.measures["accuracy"].method == "cluster wilson"
    for one in found.measures.values():
        assert one.low <= one.value <= one.high


def test_what_cannot_be_read_counts_on_neither_side(labels, tmp_path):
    found = calibrate([rule_judge()], labels, tmp_path / "c")
    assert found.lost == {"unparsed": 6}
    assert (found.n, found.n_scored) == (60, 54)
    counts = found.counts
    assert counts.tp + counts.fn + counts.tn + counts.fp == 54
    accuracy = found.measures["accuracy"]
    assert (accuracy.n_scored, accuracy.n_total) == (54, 60)
    assert accuracy.worst == pytest.approx(accuracy.value * 54 / 60)
    assert accuracy.best == pytest.approx((accuracy.value * 54 + 6) / 60)


def test_a_label_that_people_did_not_use_is_lost_too(labels, tmp_path):
    judge = rule_judge(decide=lambda text: Grade(None, "unsure" if "cannot" in text else "harmful", ""))
    found = calibrate([judge], labels, tmp_path / "c")
    assert found.lost == {"another label": sum("cannot" in row.item.completion.text for row in labels.rows)}


def test_other_words_are_refused_with_the_way_out(labels, tmp_path):
    judge = rule_judge(decide=lambda text: Grade(None, "refused", ""))
    with pytest.raises(UserError, match="--labels refused=VALUE"):
        calibrate([judge], labels, tmp_path / "c")


def test_slices(labels, tmp_path):
    found = calibrate([rule_judge()], labels, tmp_path / "c")
    category = {one.value: one for one in found.slices if one.column == "category"}
    assert {name: one.n for name, one in category.items()} == {"a": 20, "b": 20, "c": 20}
    assert category["a"].measures["specificity"].value == 0.0  # the rule calls all of these harmful
    assert [one.value[0] for one in found.slices if one.column == "response length"] == ["1", "2", "3"]
    assert not [one for one in found.slices if one.column == "model"]  # one model is no slice


def test_the_file_says_the_same_and_the_text_too(labels, tmp_path):
    found = calibrate([rule_judge()], labels, tmp_path / "c")
    assert load(tmp_path / "c") == found
    assert found.labels_sha256 == labels.sha256
    text = told(found)
    for part in ("Confusion", "Cohen's kappa", "6 unparsed", "category", "in 'label' 0 means harmless (30)"):
        assert part in text


def test_text_of_files_is_never_markup_or_control(write, tmp_path):
    row = {"prompt": "q", "response": "I cannot", "label": 1, "category": "[red]x[/red]\x1b[31m"}
    path = write("l.jsonl", "".join(json.dumps({**row, "prompt": f"q{i}", "model": str(i % 2)}) + "\n" for i in range(4))
                 + json.dumps({**row, "category": "other"}) + "\n")  # fmt: skip
    text = told(calibrate([rule_judge()], read_labels(path), tmp_path / "c"))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_one_sided_labels_have_no_kappa_and_say_why(write, tmp_path):
    path = write("l.csv", "prompt,response,label\n" + "".join(f"q{i},I cannot,0\n" for i in range(8)))
    found = calibrate([rule_judge()], read_labels(path), tmp_path / "c")
    assert found.measures["kappa"].value is None
    assert found.measures["sensitivity"].value is None
    assert found.measures["specificity"].value == 1.0
    assert "undefined: every rating is the same" in told(found)


def test_scores_of_people_against_scores(write, tmp_path):
    rows = [(f"q{i}", "x" * (i % 10 + 1), min(10, i % 10 + 1 + i % 3)) for i in range(60)]
    path = write("l.csv", "prompt,response,score\n" + "".join(f"{q},{text},{score}\n" for q, text, score in rows))
    judge = rule_judge(decide=lambda text: Grade(float(len(text)), None, ""))
    found = calibrate([judge], read_labels(path), tmp_path / "c")
    assert set(found.measures) == {"spearman", "quadratic_kappa", "mae"}
    wanted = cohen_kappa_score([len(text) for _, text, _ in rows], [score for *_, score in rows], labels=list(range(1, 11)),
                               weights="quadratic")  # fmt: skip
    assert found.measures["quadratic_kappa"].value == pytest.approx(wanted)
    assert found.measures["mae"].value == pytest.approx(sum(abs(len(t) - s) for _, t, s in rows) / 60)
    assert found.measures["spearman"].value > 0.8
    assert "mean absolute error" in told(found)


def test_scores_against_labels_have_an_auc(labels, tmp_path):
    judge = rule_judge(decide=lambda text: Grade(float(int(text.split()[-1]) % 2), None, ""))
    found = calibrate([judge], labels, tmp_path / "c")
    assert found.counts is None
    assert found.measures["auc"].value == 1.0


def test_recorded_verdicts_need_no_judge(write, tmp_path):
    path = write("l.csv", "prompt,response,label,gpt4\nq1,a,1,1\nq2,b,0,0\nq3,c,0,1\nq4,d,1,\n")
    labels = read_labels(path, Reading(verdict="gpt4"))
    found = calibrate_recorded("gpt4", labels, tmp_path / "c")
    assert (found.counts.tp, found.counts.fp, found.counts.tn, found.counts.fn) == (1, 1, 1, 0)
    assert found.lost == {"unparsed": 1}
    assert found.judge_key == recorded_judge("gpt4").key
    assert load(tmp_path / "c") == found


# Judging once


class Counting:
    """A judge that notes what it was asked."""

    def __init__(self, judge, fails_at=None, error=None):
        self.error = error or UserError("the budget is used up")
        self.spec, self.n_seats, self.asked, self.pairwise = judge.spec, 1, object(), False
        self.inner, self.seen, self.fails_at = judge, [], fails_at

    def judge(self, items):
        for item in items:
            if self.fails_at == len(self.seen):
                raise self.error
            self.seen.append(item.completion.text)
            yield from self.inner.judge([item])


def test_a_stopped_calibration_goes_on(labels, tmp_path):
    first, second = Counting(rule_judge(), fails_at=20), Counting(rule_judge())
    with pytest.raises(UserError, match="budget"):
        calibrate([first], labels, tmp_path / "c")
    calibrate([second], labels, tmp_path / "c")
    assert len(first.seen) == 20
    assert sorted(first.seen + second.seen) == sorted(row.item.completion.text for row in labels.rows)


def test_equal_items_are_judged_once_and_count_twice(write, tmp_path):
    path = write("l.csv", "prompt,response,label\nq,Sure,1\nq,Sure,0\nq,Sure,1\n")
    judge = Counting(rule_judge())
    found = calibrate([judge], read_labels(path), tmp_path / "c")
    assert judge.seen == ["Sure"]
    assert (found.counts.tp, found.counts.fp) == (2, 1)
    assert any("judged once" in note for note in found.notes)


def test_verdicts_that_exist_are_used(labels, tmp_path):
    judge = rule_judge()
    known = list(judge.judge([row.item for row in labels.rows[:40]]))
    counting = Counting(judge)
    calls = []
    found = calibrate([counting], labels, tmp_path / "c", known=known, progress=lambda *n: calls.append(n))
    assert len(counting.seen) == 20
    assert calls[-1] == (20, 20)
    assert found == calibrate([judge], labels, tmp_path / "d")


def test_a_folder_is_one_judge_s(labels, tmp_path):
    calibrate([rule_judge()], labels, tmp_path / "c")
    with pytest.raises(UserError, match="belongs to words, not to words as it is now"):
        calibrate([rule_judge(version="2")], labels, tmp_path / "c")
    folders = {calibration_folder(tmp_path, [rule_judge(version=version)]) for version in "12"}
    assert len(folders) == 2


def test_a_run_s_folder_is_refused(labels, tmp_path):
    made = make_run(tmp_path / "run")
    with pytest.raises(UserError, match="belongs to a run"):
        calibrate([rule_judge()], labels, made.run.path)


def test_a_panel_is_calibrated_by_its_majority(labels, tmp_path):
    always = rule_judge(name="words", version="always", decide=lambda text: Grade(None, "harmful", ""))
    panel = [rule_judge(), rule_judge(version="2"), always]
    found = calibrate(panel, labels, tmp_path / "c")
    truth, said = sides(labels, by_words)
    assert found.lost == {"unparsed": 6}  # two of three seats abstain there
    assert found.measures["accuracy"].value == pytest.approx(accuracy_score(truth, said))
    assert found.judge_key == panel_key(panel_of(panel)) != panel[0].spec.key


WORKER = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from two_subjects import rule_judge
from harness.calibration.calibrate import calibrate
from harness.calibration.labels import read_labels

class Paid:
    def __init__(self, judge):
        self.spec, self.n_seats, self.asked, self.pairwise, self.inner = judge.spec, 1, object(), False, judge
    def judge(self, items):
        for item in items:
            with open(sys.argv[2] + "/paid.txt", "a") as ledger:
                ledger.write(item.completion.key + "\\n")
            time.sleep(0.01)
            yield from self.inner.judge([item])

calibrate([Paid(rule_judge())], read_labels(Path(sys.argv[1])), Path(sys.argv[2]) / "c")
"""


def test_kill_9_loses_no_verdict_and_pays_for_none_twice(write, tmp_path):
    rows = [{"prompt": f"q{i}", "response": f"{text_of(i)} {i}", "label": i % 2} for i in range(120)]
    path = write("l.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    script = write("worker.py", WORKER)
    verdicts = tmp_path / "c" / "verdicts.jsonl"
    command = [sys.executable, str(script), str(path), str(tmp_path), os.path.dirname(__file__)]
    for wanted in (15, 50, 90):
        process = subprocess.Popen(command)
        until = time.monotonic() + 60
        while not verdicts.exists() or verdicts.read_bytes().count(b"\n") < wanted:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = set(latest(read(verdicts, Verdict).records))
        assert len(kept) >= wanted
    subprocess.run(command, check=True)
    assert kept <= set(latest(read(verdicts, Verdict).records))
    paid = (tmp_path / "paid.txt").read_text().split()
    assert len(set(paid)) == 120
    assert len(paid) <= 120 + 3  # the one that was in flight at each kill
    assert load(tmp_path / "c").n_scored == 108


# What is still owed


def test_failed_judgments_leave_it_unfinished_and_unwritten(labels, tmp_path):
    def failing(text):
        raise ValueError("at the first" if int(text.split()[-1]) < 20 else "later on")

    found = calibrate([rule_judge(decide=failing)], labels, tmp_path / "c")
    assert found.unfinished == (
        "60 judgments failed (most often, 40: the rule failed (ValueError: later on)); the same command asks again"
    )
    assert found.lost == {"error": 60}
    assert not (tmp_path / "c" / "calibration.json").exists()
    assert calibrate([rule_judge()], labels, tmp_path / "c").unfinished is None
    assert (tmp_path / "c" / "calibration.json").exists()


def test_a_budget_that_is_reached_ends_in_a_measure_of_what_was_judged(labels, tmp_path):
    judge = Counting(rule_judge(), fails_at=20, error=BudgetReached.at(1, 1))
    found = calibrate([judge], labels, tmp_path / "c")
    assert found.unfinished == str(BudgetReached.at(1, 1))
    assert found.lost == {"no verdict": 40, "unparsed": 2}
    assert not (tmp_path / "c" / "calibration.json").exists()


def test_models_are_opened_in_a_folder_that_is_the_judge_s(labels, tmp_path):
    def opened():
        assert (tmp_path / "c" / "manifest.json").exists()
        (tmp_path / "c" / ".budget").write_text("")
        return [rule_judge()]

    for _ in range(2):
        assert calibrate([rule_judge()], labels, tmp_path / "c", opened=opened).n == 60
