"""Corrected rates: what people would have found; bound to one judge; never by a file that was touched."""

import json

import numpy as np
import pytest

from harness.calibration.correct import corrected_rate, of_no_use
from harness.calibration.records import Calibration, Counts, load_calibrations, save
from harness.errors import UserError
from harness.stats.intervals import over_seeds, rate

KEY = "a" * 64


def calibration(tp=90, fn=10, tn=160, fp=40, judge="words", key=KEY, counts=True):
    measures = {
        "sensitivity": rate([1] * tp + [0] * fn, tp + fn),
        "specificity": rate([1] * tn + [0] * fp, tn + fp),
    }
    return Calibration(
        judge=judge,
        judge_key=key,
        labels="labels.jsonl",
        labels_sha256="b" * 64,
        positive="harmful",
        negative="harmless",
        n=tp + fn + tn + fp,
        n_scored=tp + fn + tn + fp,
        n_clusters=tp + fn + tn + fp,
        lost={},
        counts=Counts(tp=tp, fn=fn, tn=tn, fp=fp) if counts else None,
        measures=measures,
    )


def corrected(estimate, label="harmful", key=KEY, **how):
    one = calibration(**how)
    return corrected_rate(estimate, label, "words", key, {one.judge_key: one})


def test_a_calibration_holds_for_the_models_that_were_served_then():
    def found(served, then=("judge-05",)):
        one = calibration().model_copy(update={"served": then})
        return corrected_rate(rate([1, 0] * 50, 100), "harmful", "words", KEY, {KEY: one}, served)

    assert found(("judge-05",)).estimate is not None
    assert found(()).estimate is not None  # a server that does not say
    assert found(("another",), then=()).estimate is not None  # did not say then
    changed = found(("judge-05", "judge-11"))
    assert changed.estimate is None
    assert "is of what its server calls judge-05, verdicts here are by judge-11 under the same name" in changed.note


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({}, None),
        ({"tp": 60, "fn": 40, "tn": 60, "fp": 40}, None),
        ({"tp": 50, "fn": 50, "tn": 100, "fp": 100}, "not shown to be better than chance"),
        ({"tp": 55, "fn": 45, "tn": 50, "fp": 50}, "not shown to be better than chance"),
        ({"tp": 10, "fn": 90, "tn": 10, "fp": 90}, "not shown to be better than chance"),
        ({"tn": 0, "fp": 0}, "one of the two kinds of items"),
        ({"counts": False}, "of scores, not of labels"),
    ],
)
def test_a_calibration_that_can_correct_nothing_says_why(how, why):
    found = of_no_use(calibration(**how))
    assert found is None if why is None else why in found
    estimates = [corrected(rate([1] * k + [0] * (400 - k), 400), **how).estimate for k in range(0, 401, 20)]
    assert any(estimates) == (why is None)


def test_both_labels_tell_the_same_story():
    harmful = corrected(rate([1] * 350 + [0] * 650, 1000)).estimate
    harmless = corrected(rate([1] * 650 + [0] * 350, 1000), "harmless").estimate
    assert harmful.value == pytest.approx((0.35 - 0.2) / 0.7)
    assert harmless.value == pytest.approx(1 - harmful.value)
    assert (harmless.low, harmless.high) == pytest.approx((1 - harmful.high, 1 - harmful.low), abs=1e-6)
    assert harmful.low < harmful.value < harmful.high
    assert harmful.method == "rogan-gladen, lang-reiczigel"


def test_coverage_clusters_and_seeds_carry_over():
    values = [1, 0] * 200
    alone = rate(values, 420)
    clustered = rate(values, 420, [i // 20 for i in range(0, 400)])
    found = corrected(alone).estimate
    assert (found.n_scored, found.n_total) == (400, 420)
    assert found.worst < found.value < found.best
    uneven = rate([1] * 40 + [0] * 40, 80, [i // 20 for i in range(80)])
    even = rate([1] * 40 + [0] * 40, 80)
    assert spread(corrected(uneven).estimate) > 1.5 * spread(corrected(even).estimate)
    assert spread(corrected(clustered).estimate) > 0
    seeds = over_seeds([rate([1] * k + [0] * (100 - k), 100) for k in (40, 50, 60)], (0, 1))
    assert corrected(seeds).estimate.n_seeds == 3
    assert spread(corrected(seeds).estimate) > spread(corrected(rate([1] * 150 + [0] * 150, 300)).estimate)


def spread(estimate):
    return estimate.high - estimate.low


def test_the_truth_is_found_through_a_bad_judge():
    """People find 30 %; the judge, with a fifth of false alarms, finds far more; corrected, the interval holds 30 %."""
    rng = np.random.default_rng(5)
    truth = rng.random(2000) < 0.3
    said = np.where(truth, rng.random(2000) < 0.9, rng.random(2000) < 0.2)
    plain = rate(said.astype(float), 2000)
    assert plain.low > 0.36
    found = corrected(plain).estimate
    assert found.low <= truth.mean() <= found.high


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"key": "c" * 64}, "prompt, model or seats have changed since, so it does not apply"),
        ({"label": "refused"}, "is about harmful, not about refused"),
        ({"counts": False}, "of scores, which correct no rate"),
        ({"tp": 50, "fn": 50, "tn": 50, "fp": 50}, "not shown to be better than chance"),
    ],
)
def test_what_is_not_applied_says_why(how, reason):
    key, label = how.pop("key", KEY), how.pop("label", "harmful")
    found = corrected(rate([1, 0] * 50, 100), label, key, **how)
    assert found.estimate is None
    assert reason in found.note


def test_another_judge_has_none():
    one = calibration(judge="other")
    found = corrected_rate(rate([1, 0], 2), "harmful", "words", "d" * 64, {KEY: one})
    assert found == (None, "words has no calibration")
    assert corrected(rate([], 4)).estimate is None


# The file


def test_files_are_read_back(tmp_path):
    one, two = calibration(), calibration(judge="two", key="e" * 64)
    save(one, tmp_path / "one" / "calibration.json")
    save(two, tmp_path / "two.json")
    assert load_calibrations([tmp_path / "one", tmp_path / "two.json", tmp_path / "one"]) == {KEY: one, "e" * 64: two}


def test_two_of_one_judge_are_refused(tmp_path):
    save(calibration(), tmp_path / "one.json")
    save(calibration(tp=80), tmp_path / "two.json")
    with pytest.raises(UserError, match="give one of the two"):
        load_calibrations([tmp_path / "one.json", tmp_path / "two.json"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace('"tp": 90', '"tp": 99'), "was changed after it was written"),
        (lambda text: text[: len(text) // 2], "not readable as JSON"),
        (lambda text: "[]", "not a calibration; give"),
        (lambda text: json.dumps({"schema_version": 1}), "not a calibration; give"),
        (lambda text: "\x00\xff", "not readable as JSON"),
    ],
)
def test_a_file_that_was_touched_is_not_believed(tmp_path, spoil, message):
    path = tmp_path / "calibration.json"
    save(calibration(), path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UserError, match=message) as error:
        load_calibrations([path])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="harness calibrate makes one"):
        load_calibrations([tmp_path])
