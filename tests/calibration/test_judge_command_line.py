"""What the verbs about judges refuse, stop at and leave owed, from the command line against a real server."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from harness.records import Call
from harness.store import Run, read
from tests.clients.server import fault_server
from tests.engine.test_judging_by_models import bind, harness, imported

N = 40
LABELS = "harmful=1,harmless=0"
CALIBRATE = ("calibrate", "harmless_verdict", "labels.jsonl", "--labels", LABELS, "--judging", "judging.yaml")


@pytest.fixture
def labelled(tmp_path):
    """A folder with labels of people."""
    rows = [{"prompt": f"Question {i}?", "response": f"Answer number {i}.", "label": i % 2} for i in range(N)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A folder with a run of two subjects."""
    imported(cwd := tmp_path_factory.mktemp("answered"), "one", "two", n=8)
    return cwd


@pytest.fixture
def cwd(answered, tmp_path):
    """A copy of it."""
    return shutil.copytree(answered, tmp_path, dirs_exist_ok=True)


def folder_of(cwd):
    (folder,) = (cwd / "calibrations").iterdir()
    return folder


def last_line(done):
    return done.stderr.splitlines()[-1]


def filled(cwd, judge, label):
    """A sheet for a judge, with the labels that a person gives to its rows."""
    harness("label", "run", "--judge", judge, "--out", "sheet", "-n", 10, cwd=cwd)
    with (cwd / "sheet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (cwd / "filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": label(i)} for i, row in enumerate(rows))
    return ("label-import", "run", "ana=filled.csv", "--key", "sheet.key.json", "--judge", judge)


def test_a_budget_stops_a_calibration_which_a_larger_one_finishes(labelled):
    with fault_server(reply="Verdict: [[1]]") as server:
        bind(labelled, server.url)
        stopped = harness(*CALIBRATE, "--json", "--budget-usd", 2, cwd=labelled, check=5)
        assert last_line(stopped).startswith("harness: the budget is reached: ")
        found = json.loads(stopped.stdout)
        assert found["unfinished"].startswith("the budget is reached")
        assert 0 < found["n_scored"] < N
        assert found["lost"] == {"no verdict": N - found["n_scored"]}
        assert server.stats()["billed"] == found["n_scored"]
        folder = folder_of(labelled)
        assert sum(call.cost_usd for call in read(Run(folder).calls_file, Call).records) <= 2
        assert not (folder / "calibration.json").exists()
        assert "calibration.json" in harness(*CALIBRATE, "--budget-usd", 100, cwd=labelled).stderr
        assert server.stats()["billed"] == N


def test_a_budget_may_stand_among_the_settings(labelled):
    with fault_server(reply="Verdict: [[1]]") as server:
        bind(labelled, server.url)
        done = harness(*CALIBRATE, "--set", "throughput.budget_usd=0.001", cwd=labelled, check=5)
        assert "the budget is reached" in last_line(done)
        assert server.stats()["billed"] == 0


def test_failed_calls_leave_a_calibration_unfinished(labelled):
    with fault_server(reply="Verdict: [[1]]", faults={"400": 0.4}, max_faults=100) as server:
        bind(labelled, server.url)
        done = harness(*CALIBRATE, "--json", cwd=labelled, check=5)
        found = json.loads(done.stdout)
        n = found["lost"]["error"]
        assert 0 < n < N
        assert f"harness: {n} judgments failed (" in last_line(done)
        assert "400" in last_line(done)
        assert last_line(done).endswith("; the same command asks again")
    assert not (folder_of(labelled) / "calibration.json").exists()
    with fault_server(reply="Verdict: [[1]]") as server:
        bind(labelled, server.url)
        assert "calibration.json" in harness(*CALIBRATE, cwd=labelled).stderr
        assert server.stats()["billed"] == n
    assert (folder_of(labelled) / "calibration.json").exists()


def test_people_s_labels_calibrate_within_a_budget_and_by_prompt(cwd):
    with fault_server(reply="Verdict: [[1]]") as server:
        bind(cwd, server.url)
        command = (*filled(cwd, "refusal", lambda i: ("refused", "answered")[i % 2]), "--judging", "judging.yaml")
        done = harness(*command, "--budget-usd", 0.001, cwd=cwd, check=5)
        assert "the budget is reached" in done.stderr
        found = json.loads(harness(*command, "--json", "--set", "judging.models=[j]", cwd=cwd).stdout)
    assert found["n"] == 10
    assert 5 <= found["n_clusters"] <= 10  # two subjects answer each prompt


def test_pairs_are_not_labelled_and_not_calibrated(cwd, labelled):
    why = "judge 'preference' compares two answers, and labels of single answers cannot test that"
    assert why in last_line(harness("calibrate", "preference", *CALIBRATE[2:5], cwd=labelled, check=1))
    said = harness("label", "run", "--judge", "preference", "--out", "pairs", "-n", 5, cwd=labelled, check=1)
    assert why in last_line(said)
    assert not list(labelled.glob("pairs*"))
    command = (*filled(labelled, "refusal", lambda i: "refused")[:-1], "preference")
    assert why in last_line(harness(*command, cwd=labelled, check=1))


def test_drift_compares_one_kind_and_known_labels(cwd):
    drift = ("drift", "run", "--judge", "harmless_score", "--other-judge")
    with fault_server(reply="Rating: [[1]]") as server:
        bind(cwd, server.url)
        add = "tasks.saferlhf_harmless.judges=[harmless_verdict, over_refusal]"
        harness("judge", "run", "--judging", "judging.yaml", "--set", add, cwd=cwd)
    said = last_line(harness(*drift, "harmless_verdict", cwd=cwd, check=1))
    assert "run: harmless_score gives scores and run: harmless_verdict gives labels: drift compares" in said
    drift = ("drift", "run", "--judge", "harmless_verdict", "--other-judge", "over_refusal", "--label")
    said = last_line(harness(*drift, "harmful ", cwd=cwd, check=1))
    assert "unknown label 'harmful ': did you mean 'harmful'?" in said
    assert "share of harmful" in harness(*drift, "harmful", cwd=cwd).stdout  # offered, and never said
