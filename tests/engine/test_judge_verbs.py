"""calibrate, drift, label, label-import and judge-fit, from the command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from harness.calibration.records import load as load_calibration
from harness.scores import Scores
from harness.stages.corrected import corrected
from harness.stages.loading import load
from harness.store import Run
from tests.clients.server import fault_server
from tests.engine.test_judging_by_models import bind, imported
from tests.engine.test_judging_by_models import here as harness

LABELS = "harmful=1,harmless=0"


def labelled(cwd: Path, n: int = 60) -> None:
    rows = [{"prompt": f"Question {i}?", "response": f"Answer number {i}.", "label": i % 2} for i in range(n)]
    (cwd / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_judge_is_calibrated_once_and_its_rates_are_corrected(tmp_path):
    labelled(tmp_path)
    with fault_server(reply="It is fine.\n\nVerdict: [[1]]") as server:
        bind(tmp_path, server.url)
        command = ("calibrate", "harmless_verdict", "labels.jsonl", "--labels", LABELS, "--judging", "judging.yaml")
        found = json.loads(harness(*command, "--json", cwd=tmp_path).stdout)
        assert found["measures"]["accuracy"]["value"] == 0.5
        assert server.stats()["billed"] == 60
        again = harness(*command, cwd=tmp_path)
        assert "harmful" in again.stdout
        (told,) = (line for line in again.stderr.splitlines() if line.startswith("calibration: "))
        assert "corrects no rate: the judge is not shown to be better than chance" in told  # it always says the same
        assert server.stats()["billed"] == 60
    assert [path.name for path in (tmp_path / "calibrations").glob("*/calibration.json")]


def test_a_corrected_rate_stands_beside_the_judges_own(tmp_path):
    labelled(tmp_path, 200)
    run = imported(tmp_path, "one")
    with fault_server() as server:  # gives numbers from 1 to 10, of which a verdict offers 0 and 1
        bind(tmp_path, server.url)
        text = (
            (tmp_path / "judging.yaml")
            .read_text()
            .replace("price:", "extra: {scripted_reply: 'Verdict: [[1]]'}\n    price:")
        )
        (tmp_path / "judging.yaml").write_text(text)
        harness(
            "calibrate",
            "harmless_verdict",
            "labels.jsonl",
            "--labels",
            LABELS,
            "--judging",
            "judging.yaml",
            cwd=tmp_path,
        )
        (file,) = (tmp_path / "calibrations").glob("*/calibration.json")
        harness("judge", "run", "--judging", "judging.yaml", "--set", f"judging.calibrations=[{file}]", cwd=tmp_path)
    scores = Scores.model_validate_json(run.scores_file.read_text())
    assert "harmless_rate" in {metric.name for metric in scores.metrics}
    assert any("corrected" in note for note in scores.notes)  # a judge that always says the same corrects nothing
    harness("judge", "run", "--set", "models.j.model=another", "--set", "judging.judges.harmless_verdict.models=[]",
            "--set", "judging.models=[]", cwd=tmp_path)  # fmt: skip
    scores = Scores.model_validate_json(run.scores_file.read_text())
    (note,) = (note for note in scores.notes if "corrects nothing" in note)
    assert note == f"{file} corrects nothing: it is of harmless_verdict, which does not judge in this run."


def test_recorded_verdicts_are_measured_without_asking_anybody(tmp_path):
    rows = [{"prompt": f"q{i}", "response": f"a{i}", "label": i % 2, "old_judge": int(i % 4 == 1)} for i in range(80)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("calibrate", "old", "labels.jsonl", "--labels", LABELS, "--verdict-column", "old_judge",
               "--verdict-values", LABELS, "--json")  # fmt: skip
    found = json.loads(harness(*command, cwd=tmp_path).stdout)
    assert found["measures"]["accuracy"]["value"] == 0.75
    assert found["measures"]["sensitivity"]["value"] == 0.5
    assert found["measures"]["specificity"]["value"] == 1.0


def test_people_label_blind_and_their_labels_calibrate_a_judge(tmp_path):
    imported(tmp_path, "one", "two")
    harness("label", "run", "--judge", "refusal", "--out", "sheet", "-n", 20, cwd=tmp_path)
    sheet = tmp_path / "sheet.csv"
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert not any("subject" in column for column in rows[0])
    for name, turned in (("ana", 0), ("ben", 3)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows({**row, "label": "refused" if i >= turned else "answered"} for i, row in enumerate(rows))
    done = harness("label-import", "run", "ana=ana.csv", "ben=ben.csv", "--key", "sheet.key.json", cwd=tmp_path)
    assert "alpha" in done.stdout
    assert "40 new labels" in done.stderr


def test_two_judges_of_one_run_drift_apart_or_not(tmp_path):
    imported(tmp_path, "one")
    with fault_server() as server:
        bind(tmp_path, server.url)
        harness("judge", "run", "--judging", "judging.yaml", cwd=tmp_path)
    command = ("drift", "run", "--judge", "harmless_score", "--other-judge", "harmless_helpfulness", "--json")
    found = json.loads(harness(*command, cwd=tmp_path).stdout)
    assert found["n_shared"] == found["n_paired"] == 40
    assert found["score"]["n_pairs"] == 40
    (tmp_path / "elsewhere").mkdir()
    imported(tmp_path / "elsewhere", "two")
    done = harness("drift", "run", "elsewhere/run", "--judge", "refusal_rules", cwd=tmp_path, check=1)
    (line,) = done.stderr.splitlines()
    assert "have no judged answer in common" in line
    assert "nothing to compare" in harness("drift", "run", "--judge", "refusal_rules", cwd=tmp_path, check=1).stderr


def test_drift_is_never_measured_on_what_the_cache_gave(tmp_path):
    imported(tmp_path, "one")
    for name in ("june", "july"):
        shutil.copytree(tmp_path / "run", tmp_path / name)
    with fault_server() as server:
        bind(tmp_path, server.url)
        harness("judge", "run", "--judging", "judging.yaml", cwd=tmp_path)
        harness("judge", "june", "--judging", "judging.yaml", cwd=tmp_path)
        for sides in (("run", "june"), ("june", "run")):
            done = harness("drift", sides[0], "--judge", "harmless_score", sides[1], cwd=tmp_path, check=1)
            (line,) = done.stderr.splitlines()
            assert "all 40 verdicts that both have were answered from the cache: no new judging happened" in line
        anew = line.split("harness judge COPY ")[1].replace("FILE", "july.sqlite").split()
        harness("judge", "july", "--judging", "judging.yaml", *anew, cwd=tmp_path)
    found = json.loads(harness("drift", "run", "--judge", "harmless_score", "july", "--json", cwd=tmp_path).stdout)
    assert (found["n_paired"], found["n_cached"]) == (40, 0)


def test_a_calibration_holds_for_the_model_that_was_served(tmp_path):
    labelled(tmp_path)
    run = imported(tmp_path, "one")
    with fault_server(reply="Verdict: [[1]]") as server:
        bind(tmp_path, server.url)
        harness("calibrate", "harmless_verdict", "labels.jsonl", "--labels", LABELS, "--judging", "judging.yaml",
                cwd=tmp_path)  # fmt: skip
        (file,) = (tmp_path / "calibrations").glob("*/calibration.json")
        assert load_calibration(file).served == ("judge-1",)
        harness("judge", "run", "--judging", "judging.yaml", "--set", f"judging.calibrations=[{file}]", cwd=tmp_path)
        assert not any("under the same name" in note for note in notes(run))
    with fault_server(reply="Verdict: [[1]]", faults={"other_model": 1.0}) as server:
        bind(tmp_path, server.url)
        for name in ("verdicts.jsonl", "calls.jsonl"):
            (run.path / name).unlink()
        harness("judge", "run", "--judging", "judging.yaml", "--set", f"judging.calibrations=[{file}]", cwd=tmp_path)
    (note,) = (note for note in notes(run) if "under the same name" in note)
    assert "is of what its server calls judge-1, verdicts here are by " in note


def notes(run: Run) -> list[str]:
    """What there is to say of the corrected rates of a run."""
    loaded = load(run)
    estimates = Scores.model_validate_json(run.scores_file.read_text()).estimates
    return corrected(loaded.config, loaded.judges, loaded.metrics, estimates, run=run).notes


@pytest.mark.parametrize("suffix", ["", "s"])
def test_a_fitted_judge_judges_a_run(tmp_path, suffix):
    words = {0: "garden flower recipe kindly water morning", 1: "poison weapon steal hurt secretly weapon"}
    rows = [{"prompt": f"prompt {i}", "response": f"{words[i % 2]} {words[i % 2].split()[i % 6]}{suffix}", "label": i % 2}
            for i in range(300)]  # fmt: skip
    (tmp_path / "fit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    harness("judge-fit", "mine", "--from", "fit.jsonl", "--out", "own", "--labels", LABELS, cwd=tmp_path)
    run = imported(tmp_path, "one")
    harness("judge", "run", "--include-path", "own", "--set", "tasks.saferlhf_harmless.judges=[mine]", cwd=tmp_path)
    scores = Scores.model_validate_json(Run(run.path).scores_file.read_text())
    assert "saferlhf_harmless_mine" in {metric.name for metric in scores.metrics}
