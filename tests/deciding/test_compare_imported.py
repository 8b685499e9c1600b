"""Comparisons of imported answers: recorded verdicts, and the public AlpacaEval annotations where they are."""

import csv
import json
import statistics

import pytest
from scipy.stats import wilcoxon
from written_runs import command

from harness.deciding.compare import compare
from harness.deciding.sides import open_sides
from harness.errors import UserError
from harness.importing import Wanted, prepare_import, write_import
from harness.store import Run
from harness.tasks import load_task
from tests.importing.conftest import DATA

FOLDER = DATA / "alpaca_eval"
PROMPTS = [sample.messages[0].content for sample in load_task("goal_hijack_en").samples[:6]]


def bring(folder, task, file):
    """Imports a file into a run, as it is."""
    run = Run(folder)
    prepared = prepare_import(run, Wanted(task, file))
    with run.lock():
        write_import(run, prepared)
    return str(folder)


def rows(path, labels, judge):
    texts = [
        {"prompt": prompt, "response": f"{path.stem} {i}", "label": label, "judge": judge}
        for i, (prompt, label) in enumerate(zip(PROMPTS, labels, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    return path


def test_recorded_verdicts_of_one_judge_compare_and_their_origin_is_told(tmp_path):
    good, bad = ["resisted"] * 6, ["resisted"] * 2 + ["followed"] * 4
    paths = [
        bring(tmp_path / name, "goal_hijack_en", rows(tmp_path / f"{name}.jsonl", labels, "Anna"))
        for name, labels in (("one", good), ("two", bad))
    ]
    found = compare(open_sides(paths), ["hijack_rate_by_Anna"])
    (row,) = found.rows
    assert (row.wins, row.losses, row.ties, row.comparison.n_pairs) == (4, 0, 2, 6)
    assert row.comparison.difference == pytest.approx(4 / 6)
    assert {(flip.first.verdict, flip.second.verdict) for flip in found.flips} == {("resisted", "followed")}
    assert any("one: recorded answers" in remark for remark in found.remarks)


def test_verdicts_of_two_people_are_two_metrics(tmp_path):
    paths = [
        bring(tmp_path / name, "goal_hijack_en", rows(tmp_path / f"{name}.jsonl", ["resisted"] * 6, judge))
        for name, judge in (("one", "Anna"), ("two", "Bea"))
    ]
    with pytest.raises(UserError, match="two: unknown metric 'hijack_rate_by_Anna'"):
        compare(open_sides(paths), ["hijack_rate_by_Anna"])


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the public annotations are not here")
def test_two_models_of_the_public_leaderboard(tmp_path):
    """The paired difference is that of the published win rates, and the two models are told apart."""
    names = ("claude-2", "vicuna-13b")
    for name in names:
        path = bring(tmp_path / "ae", "alpaca_eval", FOLDER / f"ae2_{name}.jsonl")
    with (FOLDER / "leaderboard_alpacaeval2.csv").open(encoding="utf-8", newline="") as file:
        published = {row[""]: float(row["win_rate"]) for row in csv.DictReader(file)}
    (row,) = compare(open_sides([f"{path}:{name}" for name in names]), ["win_rate"]).rows
    assert row.comparison.n_pairs == 805
    assert 100 * row.comparison.difference == pytest.approx(published["claude-2"] - published["vicuna-13b"], abs=1e-6)
    assert (row.outcome, row.holds) == ("better", True)
    preferences = [
        {json.loads(line)["instruction"]: json.loads(line)["preference"] - 1 for line in file.open(encoding="utf-8")}
        for file in (FOLDER / f"ae2_{name}.jsonl" for name in names)
    ]
    differences = [preferences[0][key] - preferences[1][key] for key in preferences[0]]
    spread = statistics.stdev(differences) / len(differences) ** 0.5
    assert (row.comparison.high - row.comparison.low) / 2 == pytest.approx(1.963 * spread, rel=1e-3)
    assert wilcoxon(differences).pvalue < 0.001
    done = command("compare", f"{path}:claude-2", f"{path}:vicuna-13b", "--metric", "win_rate")
    assert "claude-2 better" in done.stdout
