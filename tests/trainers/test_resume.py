"""A training that goes on from its own checkpoints: the same weights bit for bit, and nothing foreign is executed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import UserError
from harness.models.weights import weights_hash
from harness.records import TrainingRecord
from harness.trainers import TrainerSettings, TrainResult, get_trainer
from harness.trainers.ledger import Meter, ledger_entry
from tests.tiny import word

DROPOUT = {"rank": 4, "alpha": 8, "dropout": 0.2}


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle."""


class Harmful:
    """A pickle that writes a file when it is read as an object."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


pytestmark = pytest.mark.usefixtures("one_thread")


RECORDS = [
    TrainingRecord(
        prompt=f"question : {word(30 + i % 9)} answer : ", completion=f"{word(30 + i)} is {answer} .", kind=kind,
        source=str(i),
    )
    for i in range(10)
    for kind, answer in (("chosen", "safe"), ("rejected", "unsafe"))
]  # fmt: skip


def train(
    base: Path, out: Path, objective: str = "sft", progress: Callable[[], None] = lambda: None, **told: Any
) -> TrainResult:
    settings = TrainerSettings.model_validate({"steps": 9, "batch_size": 4, "learning_rate": 1e-3, **told})
    return get_trainer("trl").train(
        base, RECORDS, settings, 0, out, objective=objective, chat=False, device="cpu", progress=progress
    )


def after(n_steps: int) -> Callable[[], None]:
    """A progress that interrupts the training in a step."""
    left = [n_steps]

    def progress() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted

    return progress


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("sft", {}),
        ("sft", {"lora": DROPOUT, "micro_batch_size": 2}),
        ("dpo", {"sft_first": True}),
        ("kto", {}),
        ("sft", {"early_stopping": {"share": 0.2, "every": 2, "patience": 9}, "save_steps": 2}),
    ],
)
def test_an_interrupted_training_ends_as_one_that_was_not(
    base: Path, tmp_path: Path, objective: str, told: dict[str, Any]
) -> None:
    told = {"save_steps": 3, **told}
    reached = 16 if "sft_first" in told else 8
    whole = train(base, tmp_path / "whole", objective, **told)
    with pytest.raises(Interrupted):
        train(base, tmp_path / "out", objective, after(reached), **told)
    assert not (tmp_path / "out").exists()
    states = list(tmp_path.glob(".out.trl/*/trainer/checkpoint-*/whole"))
    assert states
    steps: list[int] = []
    resumed = train(base, tmp_path / "out", objective, lambda: steps.append(1), **told)
    assert len(steps) == (18 if "sft_first" in told else 9)
    assert weights_hash(tmp_path / "out") == weights_hash(tmp_path / "whole")
    logs = [(tmp_path / name / "training_log.json").read_text() for name in ("out", "whole")]
    assert logs[0] == logs[1]
    assert resumed == whole._replace(resumed=True)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}


def interrupted(base: Path, out: Path) -> list[Path]:
    with pytest.raises(Interrupted):
        train(base, out, "sft", after(8), save_steps=3)
    return sorted(out.parent.glob(f".{out.name}.trl/*/trainer/checkpoint-*"))


def first_loss(out: Path) -> float:
    return float(json.loads((out / "training_log.json").read_text())["loss"][0])


def mark(checkpoint: Path) -> None:
    """Changes the loss of the first step, which only a training that goes on from here knows."""
    state = checkpoint / "trainer_state.json"
    log = json.loads(state.read_text())
    log["log_history"][0]["loss"] = 123.0
    state.write_text(json.dumps(log))


def test_it_goes_on_from_the_last_whole_checkpoint_and_no_other_training_does(base: Path, tmp_path: Path) -> None:
    three, six = interrupted(base, tmp_path / "out")
    (six / "whole").unlink()
    mark(three)
    train(base, tmp_path / "out", save_steps=3)
    assert first_loss(tmp_path / "out") == 123.0
    mark(interrupted(base, tmp_path / "other")[1])
    train(base, tmp_path / "other", save_steps=3, learning_rate=2e-3)
    assert first_loss(tmp_path / "other") != 123.0
    assert not list(tmp_path.glob(".other.trl*"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_is_not_executed(base: Path, tmp_path: Path, name: str) -> None:
    checkpoint = interrupted(base, tmp_path / "out")[1]
    for data in (pickle.dumps(Harmful(tmp_path / "executed")), None):
        if data is None:
            torch.save(Harmful(tmp_path / "executed"), checkpoint / name)
        else:
            (checkpoint / name).write_bytes(data)
        with pytest.raises(UserError, match=r"checkpoint-6: .*delete it"):
            train(base, tmp_path / "out", save_steps=3)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out").exists()


def test_short_runs_keep_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(base, tmp_path / "out", "sft", after(5))
    assert list(tmp_path.iterdir()) == []


def test_the_time_of_a_training_that_was_interrupted_is_not_that_of_its_last_start(base: Path, tmp_path: Path) -> None:
    settings = TrainerSettings(steps=9, batch_size=4, save_steps=3)
    for n_steps, known in ((2, True), (8, False)):  # before the first checkpoint, and after it
        with pytest.raises(Interrupted):
            train(base, tmp_path / "out", "sft", after(n_steps), save_steps=3)
        with Meter("cpu") as meter:
            result = train(base, tmp_path / "out", save_steps=3)
        entry = ledger_entry(tmp_path / "out", settings, result.metrics, meter, resumed=result.resumed)
        assert (entry.seconds is not None) == known
        assert entry.n_steps == 9


def test_without_checkpoints_it_begins_again_and_leaves_none_behind(base: Path, tmp_path: Path) -> None:
    interrupted(base, tmp_path / "out")
    assert not train(base, tmp_path / "out").resumed
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
