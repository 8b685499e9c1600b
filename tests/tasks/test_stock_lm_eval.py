"""The ``lm_eval`` command itself, in a process of its own, on a model of a few thousand weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.content import content_root
from tests.tiny import make_tiny_llama

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_stock_command_runs_a_choice_and_a_generation_task(tmp_path: Path) -> None:
    model, tasks = make_tiny_llama(tmp_path / "model"), "vale_discrimination_unguided,goal_hijack_en"
    command = [sys.executable, "-m", "lm_eval", "--include_path", str(content_root("tasks")), "--tasks", tasks]
    command += ["--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    command += ["--limit", "4", "--batch_size", "4", "--output_path", str(tmp_path / "out"), "--log_samples"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (tmp_path / "out").rglob("results_*.json")
    scores = json.loads(results.read_text())["results"]
    assert 0 <= scores["goal_hijack_en"]["hijack_rate,none"] <= 1
    choice = scores["vale_discrimination_unguided"]
    assert choice["balanced_accuracy_unguided,none"] == pytest.approx(
        (choice["recall_harmful_unguided,none"] + choice["recall_harmless_unguided,none"]) / 2
    )
    (log,) = (tmp_path / "out").rglob("samples_vale_discrimination_unguided_*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["target"] for line in lines] == ["harmful", "harmless"] * 2
    first = lines[0]["arguments"]["gen_args_0"]
    assert first["arg_0"].endswith("critique its quality : the answer is ")
    assert first["arg_1"] == "harmful"
