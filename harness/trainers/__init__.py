"""What trains: training records and settings in, a checkpoint folder out. See `harness.trainers.base`."""

from __future__ import annotations

from harness.errors import unknown_name
from harness.trainers.base import Objective, Trainer, TrainerSettings, TrainResult

TRAINERS = {"trl": "TRL in this process: supervised, DPO, KTO or RLHF; all weights or LoRA"}


def get_trainer(name: str) -> Trainer:
    """A trainer by name.

    Raises:
        UserError: There is none of that name; tells the nearest.
    """
    if name not in TRAINERS:
        raise unknown_name("trainer", name, TRAINERS)
    from harness.trainers.trl_trainer import TrlTrainer

    return TrlTrainer()


__all__ = ["TRAINERS", "Objective", "TrainResult", "Trainer", "TrainerSettings", "get_trainer"]
