"""A whole run whose subject a program trains: the command line, from a recipe to the tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models.weights import weights_hash
from harness.records import Cell, Checkpoint
from harness.store import read

ROOT = Path(__file__).parents[2]
RECIPE = """
name: by-program
base: vale-0
templates: vale
data: {train: "vale:broad"}
data_limit: 6
trainer:
  name: command
  steps: 4
  command: {arguments: [PYTHON, SCRIPT, "{base}", "{data}", "{out}", "{seed}", "{steps}"]}
prepare: {mistake_judge: [vale_mistake, mistake], analysis_judge: vale_verdict}
subjects: [{name: sft, label: SFT, method: sft}]
tasks: {vale_harmless: {limit: 4}}
throughput: {workers: 1, device: cpu}
"""


@pytest.mark.slow
def test_a_subject_that_a_program_trains_answers_from_its_checkpoint(tmp_path: Path) -> None:
    script = Path(__file__).with_name("twenty_lines.py")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("PYTHON", sys.executable).replace("SCRIPT", str(script)))
    run = tmp_path / "run"
    command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "recipe.yaml", "--out", str(run)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
    assert said.returncode == 0, said.stderr
    folder = run / "train" / "sft" / "0"
    checkpoint = Checkpoint.model_validate_json((folder / "checkpoint.json").read_text())
    assert checkpoint.weights == weights_hash(folder / "checkpoint")
    assert checkpoint.weights != checkpoint.base
    assert checkpoint.metrics["n_steps"] == json.loads((folder / "ledger.json").read_text())["n_steps"] == 4
    assert {cell.model.weights for cell in read(run / "cells.jsonl", Cell).records} == {checkpoint.weights}
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == set()
