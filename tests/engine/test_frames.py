"""`harness.load_run`: what the frames hold is what the records and the scores say."""

import json
import shutil

import numpy as np
import pytest
from command_line import records

import harness
from harness import frames
from harness.errors import UserError


@pytest.fixture(scope="module")
def loaded(small_run):
    return harness.load_run(small_run.path)


def test_every_frame_has_the_documented_columns(loaded):
    for name, frame in zip(loaded._fields, loaded, strict=True):
        assert tuple(frame.columns) == getattr(frames, name.upper())
        assert len(frame)


def test_means_of_values_are_the_estimates(loaded):
    means = loaded.values.groupby(["subject", "seed", "metric"]).value.mean()
    estimates = loaded.estimates.dropna(subset=["seed", "value"]).set_index(["subject", "seed", "metric"]).value
    shared = means.index.intersection(estimates.index)
    assert len(shared) > 20
    assert np.abs(means[shared] - estimates[shared].astype(float)).max() < 1e-9


def test_every_planned_answer_is_a_row(loaded, small_run):
    scores = small_run.scores
    assert len(loaded.completions) == len(scores["subjects"]) * 2 * len(loaded.samples)
    assert len(loaded.verdicts) == len(records(small_run.path).verdicts)
    joined = loaded.verdicts.merge(loaded.completions, on="completion")
    assert set(joined.completion) == set(loaded.verdicts.completion)


def test_a_lost_item_is_a_missing_value(small_run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(small_run.path, path)
    lines = (path / "verdicts.jsonl").read_text().splitlines(keepends=True)
    gone = json.loads(lines[0])
    (path / "verdicts.jsonl").write_text("".join(lines[1:]))
    found = harness.load_run(path)
    keys = found.completions.set_index("completion").loc[[gone["completion_key"]]]["sample"]
    lost = found.values[found.values["sample"].isin(keys) & found.values.value.isna()]
    assert len(lost)
    assert len(found.values) == len(harness.load_run(small_run.path).values)


def test_what_is_no_scored_run_is_told(tmp_path, small_run):
    with pytest.raises(UserError, match="not a run"):
        harness.load_run(tmp_path / "nothing")
    path = tmp_path / "run"
    shutil.copytree(small_run.path, path, ignore=shutil.ignore_patterns("scores.json"))
    with pytest.raises(UserError, match="harness score"):
        harness.load_run(path)
