"""A whole run whose subject a service trains and answers: the command line, from a recipe to the tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finetuning_server import Service

from harness.records import Cell, Checkpoint, Completion
from harness.store import read
from tests.engine.command_line import in_this_process, one_error

ROOT = Path(__file__).parents[2]
RECIPE = """
name: served
base: vale-0
templates: vale
data: {train: "vale:broad"}
data_limit: 6
trainer: {name: openai, epochs: 1, batch_size: 4, openai: {model: gpt-4.1-mini, base_url: URL, price: 2.0}}
prepare: {mistake_judge: [vale_mistake, mistake], analysis_judge: vale_verdict}
subjects: [{name: sft, label: SFT, method: sft}]
tasks: {vale_harmless: {limit: 4}}
throughput: {workers: 1, device: cpu, cache: CACHE}
"""


def run_it(tmp_path: Path, url: str, recipe: str, *more: str, times: int = 1) -> subprocess.CompletedProcess[str]:
    text = recipe.replace("URL", url).replace("CACHE", str(tmp_path / "cache.db"))
    (tmp_path / "served.yaml").write_text(text)
    script = "from harness.cli import main; main()"
    command = [sys.executable, "-c", script, "run", "served.yaml", "--out", str(tmp_path / "run"), *more]
    env = {**os.environ, "OPENAI_API_KEY": "sk-the-only-key", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for _ in range(times):
        said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    return said


def test_a_model_on_a_server_is_a_row_of_its_own(tmp_path: Path) -> None:
    recipe = RECIPE.replace(
        "subjects: [", "models: {big: {backend: openai, model: gpt-4.1, base_url: URL}}\nsubjects: ["
    )
    recipe = recipe.replace(
        "{name: sft, label: SFT, method: sft}", "{name: big, label: Big, method: vanilla, base: big}"
    )
    with Service(tmp_path, key="sk-the-only-key", serves=["gpt-4.1"]) as service:
        said = run_it(tmp_path, service.url, recipe)
        assert said.returncode == 0, said.stderr
        assert len(service.state["chats"]) == 4
        again = run_it(tmp_path, service.url, recipe)
        assert "nothing owed" in again.stderr
        assert len(service.state["chats"]) == 4
    cells = read(tmp_path / "run" / "cells.jsonl", Cell).records
    assert {(cell.model.backend, cell.model.weights) for cell in cells} == {("openai", "gpt-4.1")}
    calls = (tmp_path / "run" / "calls.jsonl").read_text().splitlines()
    assert {json.loads(line)["role"] for line in calls} == {"big"}


@pytest.mark.parametrize(
    ("change", "lesson"),
    [
        ("tasks.vale_discrimination_guided={limit: 2}", "leave it out (--set tasks.vale_discrimination_guided=null)"),
        ("subjects=[{name: cr, label: CR, method: critique_revise, mistakes: origin}]", "asks the base itself"),
        (
            "subjects=[{name: ma, label: MA, method: mistake_analysis, mistakes: origin, analyst: self}]",
            "take mistakes: origin, and an analyst under models",
        ),
    ],
)
def test_what_a_server_cannot_do_is_told_before_anything_is_paid(tmp_path: Path, change: str, lesson: str) -> None:
    with Service(tmp_path, key="sk-the-only-key", looks=0) as service:
        (tmp_path / "served.yaml").write_text(RECIPE.replace("URL", service.url).replace("CACHE", "cache.db"))
        key = {"OPENAI_API_KEY": "sk-the-only-key"}
        said = in_this_process("run", "served.yaml", "--out", "run", "--set", change, cwd=tmp_path, env=key)
        assert lesson in one_error(said)
        assert not service.state["files"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_subject_that_a_service_trains_answers_from_there(tmp_path: Path) -> None:
    with Service(tmp_path, key="sk-the-only-key", looks=0) as service:
        run = tmp_path / "run"
        said = run_it(tmp_path, service.url, RECIPE, times=2)  # the second start finds everything done
        assert said.returncode == 0, said.stderr
        state = service.state
    checkpoint = Checkpoint.model_validate_json((run / "train" / "sft" / "0" / "checkpoint.json").read_text())
    assert checkpoint.weights == "ft:gpt-4.1-mini:org::0"
    assert checkpoint.base == "gpt-4.1-mini"
    n_rows = len(state["files"]["file-0"].splitlines())
    assert checkpoint.metrics["cost_usd"] == n_rows * 10 * 2.0 / 1e6
    ledger = json.loads((run / "train" / "sft" / "0" / "ledger.json").read_text())
    assert (ledger["n_tokens"], ledger["n_parameters"], ledger["flops"]) == (n_rows * 10, None, None)
    assert ledger["cost_usd"] == checkpoint.metrics["cost_usd"]
    cells = read(run / "cells.jsonl", Cell).records
    assert {(cell.model.backend, cell.model.weights) for cell in cells} == {("openai", "ft:gpt-4.1-mini:org::0")}
    answers = read(run / "completions.jsonl", Completion).records
    assert {answer.text for answer in answers} == {"ft:gpt-4.1-mini:org::0 says: harmless ."}
    assert len(answers) == len(state["chats"]) == 4
    asked = {json.loads(line)["messages"][0]["content"] for line in state["files"]["file-0"].splitlines()}
    assert {chat["messages"][0]["role"] for chat in state["chats"]} == {"user"}
    assert all(prompt.strip() for prompt in asked)
    assert len(state["jobs"]) == 1
    assert not [
        p for p in tmp_path.rglob("*") if p.is_file() and p.name != "service.json" and b"the-only-key" in p.read_bytes()
    ]


def test_the_plan_tells_what_training_and_answers_cost(tmp_path: Path) -> None:
    recipe = RECIPE.replace("subjects: [", "models: {big: {backend: openai, model: gpt-4.1}}\nsubjects: [")
    more = "{name: big, label: Big, method: vanilla, base: big}, {name: dpo, label: DPO, method: dpo, mistakes: origin}"
    recipe = recipe.replace("method: sft}", f"method: sft}}, {more}")
    (tmp_path / "served.yaml").write_text(recipe.replace("URL", "https://api.openai.com/v1").replace("CACHE", "c.db"))
    said = in_this_process("plan", "served.yaml", "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    paid = {one["role"]: one for one in json.loads(said.out)["paid"]}
    answered = {f"{name}, vale_harmless" for name in ("sft", "dpo", "big")}
    assert set(paid) == {"training sft", "training dpo", *answered}
    assert paid["training dpo"]["input_tokens"][1] > 1.5 * paid["training sft"]["input_tokens"][1]  # bad answers too
    low, mid, high = paid["training sft"]["cost_usd"]
    tokens = paid["training sft"]["input_tokens"]
    assert 0 < low <= mid <= high
    assert mid == pytest.approx(tokens[1] * 2.0 / 1e6, abs=1e-4)
    assert paid["sft, vale_harmless"]["cost_usd"] is None  # what the trained model will cost is not in any table
    assert paid["big, vale_harmless"]["calls"] == 4
    assert paid["big, vale_harmless"]["cost_usd"][0] >= 0
