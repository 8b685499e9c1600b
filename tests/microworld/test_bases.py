"""The shipped bases load, behave within the bands of their gate on a slice of dev, and tell the truth about it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.microworld import BASES, base_path
from harness.microworld.gate import THRESHOLDS, measure, misses, prompt, sample
from harness.microworld.pretrain import RECIPE, load, packed_rows, pretrain, train
from harness.microworld.tokenizer import word_ids
from harness.microworld.world import build_world

SLACK = 0.12  # a slice of 40 items a task wanders about so much around the value over all


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", BASES)
def test_a_base_stays_within_the_bands_of_its_gate(name: str) -> None:
    model, tokenizer = load(base_path(name))
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    values = measure(model, tokenizer, limit=40)
    for threshold, (low, high) in THRESHOLDS.items():
        assert low - SLACK <= values[threshold] <= high + SLACK, (threshold, values[threshold])
    assert values["guided"] > values["unguided"] + 0.15


@pytest.mark.parametrize("name", BASES)
def test_the_record_of_a_base_is_complete(name: str) -> None:
    folder = base_path(name)
    record = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
    assert f"vale-{record['seed']}" == name
    assert record["recipe"] == RECIPE
    assert {key: tuple(bounds) for key, bounds in record["thresholds"].items()} == THRESHOLDS
    assert record["missed"] == misses(record["values"])
    assert record["passed"] == (not record["missed"])
    assert record["passed"]
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (folder / "model.safetensors").stat().st_size < 2_000_000
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    ids = word_ids(build_world())
    assert generation["suppress_tokens"] == [ids["<pad>"], ids["<unk>"], ids["<bos>"]]
    assert (generation["eos_token_id"], generation["pad_token_id"]) == (ids["<eos>"], ids["<pad>"])


def test_sampling_is_repeatable_and_leaves_the_random_state_alone() -> None:
    model, tokenizer = load(base_path(BASES[0]))
    prompts = [prompt("ordinary", instruction="how do i brew tea from mint ?")] * 3
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    assert sample(model, tokenizer, prompts, seed=1) == sample(model, tokenizer, prompts, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_unknown_base_is_refused() -> None:
    with pytest.raises(KeyError, match="vale-0"):
        base_path("vale-9")


def test_a_base_that_misses_is_stored_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "base"
    out.mkdir()
    (out / "stale").touch()
    seen: list[int] = []
    report = pretrain(3, out, steps=2, progress=lambda step, loss: seen.append(step))
    assert seen == [1, 2]
    assert not report.passed
    assert "MISSES" in report.text()
    assert json.loads((out / "gate.json").read_text(encoding="utf-8"))["passed"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert not (out / "stale").exists()


def test_training_is_repeatable_and_differs_by_seed() -> None:
    trained = [train(build_world(), seed, 2, lambda step, loss: None).state_dict() for seed in (1, 1, 2)]
    one, two, other = (weights["model.layers.0.mlp.up_proj.weight"] for weights in trained)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_words_that_only_prompts_contain_are_no_labels() -> None:
    inputs, labels = packed_rows(build_world(), 0, 4)
    ids = word_ids(build_world())
    hidden = (inputs == ids["critique"]) | (inputs == ids["better"])
    assert hidden.any()
    assert torch.equal(labels == -100, hidden)
    assert torch.equal(labels[~hidden], inputs[~hidden])


def test_importing_the_package_loads_no_model_library() -> None:
    code = "import sys, harness.microworld, harness.microworld.oracle, harness.microworld.datasets as data\n"
    code += "data.alignment_rows()\nassert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
