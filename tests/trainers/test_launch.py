"""Trainings in two processes learn what one does: curves, weights, sharded weights, early stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launched import BASIC, MEBI, TWO, assert_same_weights, good, losses, records, train

from harness.models.weights import check_checkpoint
from harness.trainers import TrainerSettings
from harness.trainers.launch import command
from harness.trainers.ledger import Meter, ledger_entry

pytestmark = pytest.mark.usefixtures("one_thread")


def test_two_processes_learn_as_one_does(base: Path, tmp_path: Path) -> None:
    """Over epochs whose last batch is not full, with several records at once and gradients of several passes."""
    steps: list[int] = []
    one = train(base, tmp_path / "one", good(), {})
    with Meter("cpu") as meter:
        two = train(base, tmp_path / "two", good(), {**TWO, "micro_batch_size": 1}, progress=lambda: steps.append(1))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert losses(tmp_path / "one")[-1] < losses(tmp_path / "one")[0] / 2
    assert_same_weights(base, tmp_path / "one", tmp_path / "two")
    check_checkpoint(tmp_path / "two")
    assert len(steps) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert two.metrics == pytest.approx(one.metrics, rel=1e-4)
    settings = TrainerSettings.model_validate({**BASIC, **TWO})
    entry = ledger_entry(tmp_path / "two", settings, two.metrics, meter, two.peak_memory_bytes)
    assert entry.n_tokens == one.metrics["n_tokens"]
    assert (entry.peak_memory_bytes or 0) > 2 * 150 * MEBI
    assert entry.device.startswith("2 × CPU")


def test_two_processes_hold_answers_good_or_bad_as_one_does(base: Path, tmp_path: Path) -> None:
    """KTO: the same order in each epoch, the same mismatched answers, one KL; 36 answers do not fill the last batch."""
    told = {"steps": 7, "batch_size": 8}
    for name, more in (("one", {}), ("two", TWO)):
        train(base, tmp_path / name, records(), {**told, **more}, "kto")
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("one", "two")]
    for quantity in ("loss", "margin"):
        assert logs[0][quantity] == pytest.approx(logs[1][quantity], rel=1e-3)
    assert logs[0]["kl"] == pytest.approx(logs[1]["kl"], abs=1e-3)
    assert_same_weights(base, tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_learn_a_reward_as_one_does_and_a_policy_each_with_answers_of_its_own(
    base: Path, tmp_path: Path
) -> None:
    rlhf = {"steps": 3, "generations": 2, "max_new_tokens": 6, "reward_epochs": 2, "reward_batch_size": 8,
            "reward_learning_rate": 1e-3}  # fmt: skip
    for name, more in (("one", {}), ("two", TWO)):
        train(base, tmp_path / name, records(), {"batch_size": 8, "rlhf": rlhf, **more}, "rlhf")
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("one", "two")]
    assert logs[0]["reward_model_loss"] == pytest.approx(logs[1]["reward_model_loss"], rel=1e-3)
    assert [len(logs[1][name]) for name in ("loss", "reward", "kl", "length")] == [3] * 4
    check_checkpoint(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"lora": {"rank": 4, "alpha": 8}}], ids=["full", "lora"])
def test_sharded_weights_learn_and_stop_as_whole_ones_do(
    base: Path, tmp_path: Path, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the shipped configuration and real shards, on the CPU, where `sharded_on_cpu` makes accelerate heed it."""

    def sharded(*arguments: Any) -> list[str]:
        made = command(*arguments)
        return [*made[:-3], str(Path(__file__).with_name("sharded_on_cpu.py")), made[-1]]

    monkeypatch.setattr("harness.trainers.launch.command", sharded)
    monkeypatch.setattr("harness.trainers.launch.check_devices", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    more = {**more, "steps": 30, "learning_rate": 5e-3, "early_stopping": {"share": 0.3, "every": 2, "patience": 1}}
    one = train(base, tmp_path / "one", good(), more)
    two = train(base, tmp_path / "two", good(), {**more, "launch": {"processes": 2, "config": "fsdp"}})
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("one", "two")]
    for quantity in ("loss", "dev_loss"):
        assert logs[0][quantity] == pytest.approx(logs[1][quantity], rel=1e-3)
    assert one.metrics == pytest.approx(two.metrics, rel=1e-3)
    assert_same_weights(base, tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "weights_were").read_text() == "DTensor"
    assert (tmp_path / "two" / "adapter" / "adapter_model.safetensors").is_file() == ("lora" in more)
