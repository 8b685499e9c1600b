"""Rows of RLHF, DPO and KTO beside one of SFT: one recipe from training to the table, the curves and the ledger."""

import csv
import json

import pytest
from command_line import RECIPE, harness, records

from harness.records import CompletionOutcome
from tests.tiny import make_word_llama

SUBJECTS = """[
  {name: sft, label: SFT, method: sft},
  {name: rlhf, label: RLHF, method: rlhf, mistakes: origin},
  {name: dpo, label: DPO, method: dpo, mistakes: origin},
  {name: kto, label: KTO, method: kto, mistakes: origin}]"""
TRAINER = {
    "steps": 2, "max_length": 256,
    "rlhf": {"steps": 2, "generations": 2, "max_new_tokens": 8, "reward_batch_size": 8},
}  # fmt: skip
CURVES = {
    "sft": {"loss"},
    "dpo": {"loss", "margin", "accuracy"},
    "kto": {"loss", "margin", "kl"},
    "rlhf": {"loss", "reward", "kl", "length", "reward_model_loss", "reward_model_accuracy"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preferences")
    base = make_word_llama(folder / "base")
    changes = {
        "base": base, "seeds": "[0]", "data_limit": 12, "subjects": SUBJECTS, "trainer": json.dumps(TRAINER),
        "tasks": "{vale_harmless: {limit: 4}}", "baselines": "[sft]", "claims": "[]",
        "layouts": "[alignment_from_scratch]", "throughput.workers": 1,
    }  # fmt: skip
    sets = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    said = harness("run", RECIPE, *sets, "--out", folder / "run")
    assert said.code == 0, said.err
    return folder / "run"


def test_each_method_has_its_answers_its_score_and_its_row(run):
    found = records(run)
    assert {(cell.subject, cell.seed) for cell in found.cells} == {(name, 0) for name in CURVES}
    assert all(completion.outcome is not CompletionOutcome.ERROR for completion in found.completions)
    models = {cell.subject: cell.model.weights for cell in found.cells}
    assert len(set(models.values())) == len(CURVES), "each trained weights of its own"


def test_the_table_holds_a_rate_of_all_answers_for_each_of_them(run):
    file = run / "report" / "tables" / "alignment_from_scratch.csv"
    rows = [row for row in csv.DictReader(file.open()) if row["metric"] == "harmless_rate"]
    assert [row["subject"] for row in rows] == ["sft", "rlhf", "dpo", "kto"]
    for row in rows:
        assert (row["n_scored"], row["n_total"]) == ("4", "4")
        assert 0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 100


@pytest.mark.parametrize("subject", sorted(CURVES))
def test_each_training_leaves_its_curves_and_they_are_drawn(run, subject):
    log = json.loads((run / "train" / subject / "0" / "checkpoint" / "training_log.json").read_text())
    assert {name: len(values) for name, values in log.items()} == dict.fromkeys(CURVES[subject], 2)
    figure = "training-loss" if subject == "sft" else f"training-{subject}"
    assert (run / "report" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    drawn = list(csv.DictReader((run / "report" / "figures" / f"{figure}.csv").open()))
    assert {row["quantity"] for row in drawn if row["subject"] == subject} == CURVES[subject]


def test_the_report_says_that_the_rows_did_not_read_equally_much(run):
    read = {name: json.loads((run / "train" / name / "0" / "ledger.json").read_text())["n_tokens"] for name in CURVES}
    assert read["rlhf"] > 1.05 * read["sft"]
    page = (run / "report" / "index.html").read_text()
    assert "The rows did not read equally much" in page
    assert "RLHF trains for rlhf.steps" in page
