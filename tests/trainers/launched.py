"""What the tests of trainings in several processes share: records, a training, its curve, its processes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from harness.records import TrainingRecord
from harness.trainers import TrainerSettings, TrainResult, get_trainer
from tests.tiny import word

BASIC = {"steps": 8, "batch_size": 4, "learning_rate": 1e-3}
TWO = {"launch": {"processes": 2}}
MEBI = 1 << 20


def records(n: int = 18) -> list[TrainingRecord]:
    """Pairs of answers of several lengths; 18 do not fill the last batch of an epoch."""
    return [
        TrainingRecord(
            prompt=f"question : {word(30 + i % 9)} answer : ",
            completion=f"{word(30 + i % 9)} is {answer} ." + " and" * (i % 4),
            kind=kind,
            source=str(i),
        )
        for i in range(n)
        for kind, answer in (("chosen", "safe"), ("rejected", "unsafe"))
    ]


def good() -> list[TrainingRecord]:
    return [record for record in records() if record.kind == "chosen"]


def train(
    base: Path, out: Path, told: list[TrainingRecord], settings: dict[str, Any], objective: str = "sft",
    progress: Callable[[], None] = lambda: None,
) -> TrainResult:  # fmt: skip
    parsed = TrainerSettings.model_validate({**BASIC, **settings})
    return get_trainer("trl").train(
        base, told, parsed, 0, out, objective=objective, chat=False, device="cpu", progress=progress
    )


def losses(out: Path) -> list[float]:
    return json.loads((out / "training_log.json").read_text())["loss"]


def assert_same_weights(base: Path, one: Path, two: Path) -> None:
    """What two trainings moved is the same; Adam makes a step even of a gradient that is all rounding."""
    start, first, second = (
        dict(AutoModelForCausalLM.from_pretrained(f).requires_grad_(False).named_parameters()) for f in (base, one, two)
    )
    moved = sum(float((first[name] - weight).norm()) for name, weight in start.items())
    apart = sum(float((first[name] - second[name]).norm()) for name in start)
    assert apart < 0.01 * moved


def ranks_below(folder: Path) -> dict[str, int]:
    """Rank → process of the launched trainings that work below a folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"harness.trainers.trl_worker" in arguments and str(folder).encode() in arguments:
            rank = [variable[5:].decode() for variable in variables if variable.startswith(b"RANK=")]
            found[rank[0] if rank else f"launcher {process.name}"] = int(process.name)
    return found


def await_that(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
